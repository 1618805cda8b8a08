"""Whether audio is encrypted: ffmpeg then decodes noise from Opus and PCM, and errors from the rest."""

from __future__ import annotations

from collections.abc import Iterator

from actors.audio.files.audio_file import AudioFile

# Sample entries of an mp4 whose content is encrypted: Common Encryption, iTunes, Audible.
_ENCRYPTED_ENTRIES = {
    b"enca": "Common Encryption",
    b"drms": "FairPlay",
    b"aavd": "Audible",
    b"aavx": "Audible",
}
_MAX_BOXES = 65_536
# Bytes of the box with the descriptions of all tracks that are read.
_MAX_MOVIE = 64 << 20
_ASF = bytes.fromhex("3026b2758e66cf11")
# GUIDs of the objects of an ASF file that say how it is encrypted.
_ASF_ENCRYPTION = (
    bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e"),
    bytes.fromhex("14e68a292226174cb935dae07ee9289c"),
)
# Bytes at the beginning of a file that are searched for them, and for scrambled packets.
_HEAD = 64 << 10
_PACKET = 188


def encrypted_tracks(file: AudioFile, container: str) -> dict[int, str]:
    """The audio tracks of a file that are encrypted, counted from 0, and by what.

    Args:
        file: the file.
        container: ffmpeg's name of its format.
    """
    if container == "mov,mp4,m4a,3gp,3g2,mj2":
        entries = enumerate(_sample_entries(_movie(file)))
        return {number: _ENCRYPTED_ENTRIES[entry] for number, entry in entries if entry in _ENCRYPTED_ENTRIES}
    if container == "asf":
        file.seek(0)
        head: bytes = file.read(_HEAD) or b""
        is_encrypted = head.startswith(_ASF) and any(one in head for one in _ASF_ENCRYPTION)
        return dict.fromkeys(range(64), "DRM of Windows Media") if is_encrypted else {}
    if container == "mpegts" and _is_scrambled(file):
        return dict.fromkeys(range(64), "conditional access")
    return {}


def _is_scrambled(file: AudioFile) -> bool:
    """Whether most packets of a transport stream that have a payload are scrambled."""
    file.seek(0)
    head: bytes = file.read(_HEAD) or b""
    packets = [head[place : place + 4] for place in range(0, len(head) - _PACKET, _PACKET)]
    # Tables, which are never scrambled, have a small share.
    marked = [packet for packet in packets if packet[:1] == b"\x47" and packet[1:3] != b"\x1f\xff"]
    return len(marked) > 8 and sum(packet[3] >= 0x80 for packet in marked) > len(marked) // 2


def _movie(file: AudioFile) -> bytes:
    """The content of the `moov` box; empty where there is none."""
    place = 0
    for _ in range(_MAX_BOXES):
        file.seek(place)
        head: bytes = file.read(16) or b""
        if len(head) < 8:
            break
        size, header = int.from_bytes(head[:4], "big"), 8
        if size == 1:
            size, header = int.from_bytes(head[8:16], "big"), 16
        if head[4:8] == b"moov":
            file.seek(place + header)
            return file.read(min(_MAX_MOVIE, max(0, size - header) if size else file.size)) or b""
        if size < header:
            break
        place += size
    return b""


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of the content of each box in data[start:end]."""
    for _ in range(_MAX_BOXES):
        if start + 8 > end:
            return
        size = int.from_bytes(data[start : start + 4], "big")
        stop = end if size == 0 else min(end, start + size)
        if stop < start + 8:
            return
        yield data[start + 4 : start + 8], start + 8, stop
        start = stop


def _inside(data: bytes, start: int, end: int, *path: bytes) -> tuple[int, int] | None:
    """Where the content of the box with this path is."""
    for name in path:
        found = next(((first, last) for box, first, last in _boxes(data, start, end) if box == name), None)
        if found is None:
            return None
        start, end = found
    return start, end


def _sample_entries(movie: bytes) -> Iterator[bytes]:
    """The name of the first sample entry of each audio track, in order."""
    for name, start, end in _boxes(movie, 0, len(movie)):
        if name != b"trak":
            continue
        handler = _inside(movie, start, end, b"mdia", b"hdlr")
        if handler is None or movie[handler[0] + 8 : handler[0] + 12] != b"soun":
            continue
        table = _inside(movie, start, end, b"mdia", b"minf", b"stbl", b"stsd")
        yield movie[table[0] + 12 : table[0] + 16] if table else b""
