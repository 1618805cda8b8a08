"""ID3 tags and zeros in front of files that are not mp3: such a file begins behind them.

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
    *((0, magic) for magic in (b"Creative Voice F", b".RMF\0\0\0", b".SoX", b"XoS.")),
    (0, b"riff\x2e\x91\xcf\x11"),
    (0, b"\x1a\x45\xdf\xa3"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    (4, b"ftyp"),
)
# Tags in front of one file.
_MAX_TAGS = 16
# Bytes of zeros between the tags and the file, or in front of it.
_MAX_PADDING = 256 << 10
# Packets of a transport stream that must be in step.
_PACKETS = 5


def skip_front_tags(file: AudioFile) -> AudioFile:
    """The file behind its ID3 tags and zeros; `file` itself where it has none, or where an mp3 follows."""
    place = 0
    for _ in range(_MAX_TAGS):
        size = _tag_size(read_at(file, place, 10))
        if not size or place + size >= file.size:
            break
        place += size
    head = read_at(file, place, 16)
    if not place and head[:1] != b"\0":
        return file
    if head[:1] == b"\0" and not _is_known(head) and head[:3] != b"\0\0\1":
        padded = read_at(file, place, _MAX_PADDING)
        padding = len(padded) - len(padded.lstrip(b"\0"))
        # The size of the first box of an mp4, and the codes of a program stream, begin with zeros.
        candidates = [padding, padding - 3, padding - 2] if 0 < padding < len(padded) else []
        found = next((skipped for skipped in candidates if _begins(padded, skipped)), None)
        if found is None:
            return file
        place += found
    elif not place or not (_is_known(head) or _begins(read_at(file, place, _PACKETS * 204), 0)):
        return file
    return join_pieces(file, [Extent(place, file.size)])


def _begins(data: bytes, place: int) -> bool:
    """Whether a file with a header begins there, or a transport or program stream."""
    if place < 0:
        return False
    if _is_known(data[place : place + 16]) or data[place : place + 4] == b"\0\0\1\xba":
        return True
    # The time stamp of packets of 192 bytes is in front of the mark.
    return any(
        data[place + first : place + first + _PACKETS * size : size] == b"\x47" * _PACKETS
        for first, size in ((0, 188), (4, 192), (3, 192), (2, 192), (0, 204))
    )


def _tag_size(head: bytes) -> int:
    """Bytes of the ID3 tag that begins with `head`, with its header and footer; 0 where none does."""
    if len(head) < 10 or head[:3] != b"ID3" or any(byte & 0x80 for byte in head[6:10]):
        return 0
    footer = 10 if head[5] & 0x10 else 0
    return 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]) + footer


def _is_known(head: bytes) -> bool:
    return any(head[place : place + len(magic)] == magic for place, magic in _MAGIC)
