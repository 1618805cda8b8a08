"""ID3 tags in front of files that are not mp3: such a file begins behind its tags.

Tagging programs write them in front of any file. ffmpeg recognises the content, but reads it from the wrong
place.
"""

from __future__ import annotations

from actors.audio.sources import AudioFile
from actors.audio.structure.views import Extent, join_pieces, read_at

# What can begin behind a tag, with its offset there. mp3, AAC and others without a magic are left to ffmpeg,
# which skips tags.
_MAGIC = (
    *(
        (0, magic)
        for magic in (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"FRM8", b".snd", b"dns.", b"caff")
    ),
    *((0, magic) for magic in (b"OggS", b"fLaC", b"wvpk", b"MAC ", b"TTA1", b"#!AMR", b"FLV\x01", b"DSD ")),
    (0, b"riff\x2e\x91\xcf\x11"),
    (0, b"\x1a\x45\xdf\xa3"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    (4, b"ftyp"),
)
# Tags in front of one file.
_MAX_TAGS = 16
# Bytes of zeros between the tags and the file.
_MAX_PADDING = 64 << 10


def skip_front_tags(file: AudioFile) -> AudioFile:
    """The file behind its ID3 tags; `file` itself where it has none, or where an mp3 follows them."""
    place = 0
    for _ in range(_MAX_TAGS):
        size = _tag_size(read_at(file, place, 10))
        if not size or place + size >= file.size:
            break
        place += size
    if not place:
        return file
    head = read_at(file, place, 16)
    if head[:1] == b"\0" and not _is_known(head):
        padded = read_at(file, place, _MAX_PADDING)
        padding = len(padded) - len(padded.lstrip(b"\0"))
        # The size of the first box of an mp4 begins with zeros.
        candidates = [padding, padding - 3, padding - 2] if padding < len(padded) else []
        found = next((skipped for skipped in candidates if _is_known(padded[skipped : skipped + 16])), None)
        if found is None:
            return file
        place += found
    elif not _is_known(head):
        return file
    return join_pieces(file, [Extent(place, file.size)])


def _tag_size(head: bytes) -> int:
    """Bytes of the ID3 tag that begins with `head`, with its header and footer; 0 where none does."""
    if len(head) < 10 or head[:3] != b"ID3" or any(byte & 0x80 for byte in head[6:10]):
        return 0
    footer = 10 if head[5] & 0x10 else 0
    return 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]) + footer


def _is_known(head: bytes) -> bool:
    return any(head[place : place + len(magic)] == magic for place, magic in _MAGIC)
