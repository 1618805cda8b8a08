"""Times of sound with variable bit rate in AVI films: each chunk lasts equally long, also an empty one.

Sound that begins late, or pauses, has empty chunks. ffmpeg does not count them, so that all that follows
would be too early.
"""

from __future__ import annotations

import struct

from actors.audio.sources import AudioFile
from actors.audio.structure.views import read_at

_MAX_HEADER, _MAX_INDEX = 1 << 20, 64 << 20
# Seconds behind a first single chunk after which it belongs to the sound that follows.
_PRIMING = 1.0
_ENTRY = struct.Struct("<4sIII")


def chunk_times(file: AudioFile, stream: int) -> dict[int, float]:
    """Seconds at which the chunks of an audio stream begin, by the byte of their content in the file.

    Args:
        file: an AVI file.
        stream: number of the stream among all streams.

    Returns:
        Empty where no chunk is empty, the header does not count empty ones, or there is no index.
    """
    seconds, length = _chunk_seconds(file, stream)
    place, size = _index(file)
    if not seconds or not size:
        return {}
    data, movie = read_at(file, place, min(size, _MAX_INDEX)), _movie(file)
    name = b"%02dwb" % stream
    entries = list(_ENTRY.iter_unpack(data[: len(data) // 16 * 16]))
    chunks = [(offset, size) for one, _, offset, size in entries if one == name]
    filled = sum(size > 0 for _, size in chunks)
    # A writer that does not count empty chunks gives the number of the others.
    if filled == len(chunks) or abs(length - len(chunks)) > abs(length - filled):
        return {}
    # Offsets count from the list of chunks, or from the beginning of the file.
    base = movie if entries[0][2] < movie else 0
    numbers = [number for number, (_, size) in enumerate(chunks) if size]
    if numbers[1:] and numbers[0] == 0 and (numbers[1] - 1) * seconds > _PRIMING:
        # ffmpeg writes the first packet of late sound, the encoder's priming, at the start of the film.
        numbers[0] = numbers[1] - 1
    offsets = [offset for offset, size in chunks if size]
    return {base + offset + 8: number * seconds for offset, number in zip(offsets, numbers, strict=True)}


def _chunk_seconds(file: AudioFile, stream: int) -> tuple[float, int]:
    """Seconds of a chunk, 0 where chunks have a fixed number of samples, and the length in chunks."""
    head = read_at(file, 0, _MAX_HEADER)
    place = -1
    for _ in range(stream + 1):
        place = head.find(b"strh", place + 1)
        if place < 0:
            return 0.0, 0
    fields = head[place + 8 : place + 56]
    if len(fields) < 48 or fields[:4] != b"auds":
        return 0.0, 0
    scale, rate, _, length = struct.unpack("<IIII", fields[20:36])
    sample_size = struct.unpack("<I", fields[44:48])[0]
    return (scale / rate if rate and not sample_size else 0.0), length


def _top_chunks(file: AudioFile) -> list[tuple[bytes, int, int]]:
    """Name, start of the content and size of the first RIFF's chunks; lists have the name of their kind."""
    found: list[tuple[bytes, int, int]] = []
    place = 12
    end = min(file.size, 8 + int.from_bytes(read_at(file, 4, 4), "little"))
    while place + 12 <= end and len(found) < 256:
        head = read_at(file, place, 12)
        size = int.from_bytes(head[4:8], "little")
        found.append((head[8:12] if head[:4] == b"LIST" else head[:4], place + 8, size))
        place += 8 + size + size % 2
    return found


def _movie(file: AudioFile) -> int:
    return next((start for name, start, _ in _top_chunks(file) if name == b"movi"), 0)


def _index(file: AudioFile) -> tuple[int, int]:
    return next(((start, size) for name, start, size in _top_chunks(file) if name == b"idx1"), (0, 0))
