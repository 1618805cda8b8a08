"""Where the next broadcast begins in a transport stream that consists of several, and where packets end.

A stream keeps its packet identifiers. Where one of them gets another codec, ffmpeg goes on with the decoder
of the first one, which fails: the rest is another file.
"""

from __future__ import annotations

from actors.audio.files.audio_file import AudioFile
from actors.audio.structure.views import read_at

# Bytes at a time, and at both ends of a file that is looked at briefly.
_BLOCK = 1 << 20
_SIZES = (188, 192, 204)
# Packets that must be in step.
_PACKETS = 8
_PROGRAM_TABLE = 2
# Packets between the table of programs and that of a program.
_NEAR = 8


def packet_grid(head: bytes) -> tuple[int, int] | None:
    """The size of packets and the place of the first mark in the beginning of a file, or None."""
    for size in _SIZES:
        for place in range(min(size, len(head))):
            marks = head[place : place + _PACKETS * size : size]
            if len(marks) == _PACKETS and marks.count(0x47) == _PACKETS:
                return size, place
    return None


def transport_links(file: AudioFile) -> list[int]:
    """Where the streams begin that a transport stream consists of; [0] where it is a single one.

    Only the tables at both ends are compared first: the file is read as a whole only where they differ.
    """
    grid = packet_grid(read_at(file, 0, 64 << 10))
    if grid is None:
        return [0]
    known: dict[int, int] = {}
    for _, codecs in _tables(read_at(file, 0, _BLOCK), grid[0]):
        known = codecs | known
    tail = _tables(read_at(file, max(0, file.size - _BLOCK), _BLOCK), grid[0])
    if not any(_contradict(known, codecs) for _, codecs in tail):
        return [0]
    starts, place = [0], 0
    known = {}
    while place < file.size:
        data = read_at(file, place, _BLOCK + (64 << 10))
        for found, codecs in _tables(data, grid[0]):
            if found >= _BLOCK:
                break
            if _contradict(known, codecs):
                starts.append(place + found)
                known = {}
            known |= codecs
        place += _BLOCK
    return starts


def _contradict(first: dict[int, int], second: dict[int, int]) -> bool:
    return any(first.get(identifier, codec) != codec for identifier, codec in second.items())


def _tables(data: bytes, size: int) -> list[tuple[int, dict[int, int]]]:
    """The program tables in `data`: where each of them begins, and the types of its streams."""
    grid = packet_grid(data)
    if grid is None:
        return []
    found, offset = [], size - 188 if size == 192 else 0
    place, begin = grid[1], grid[1]
    while place + 188 <= len(data):
        if data[place] != 0x47:
            # Bytes between two streams.
            again = packet_grid(data[place : place + _PACKETS * size + size])
            if again is None:
                place += size
                continue
            place += again[1]
        if data[place + 1] & 0x5F == 0x40 and not data[place + 2]:
            # The table of programs, in front of theirs.
            begin = place
        # A section begins in this packet, which has nothing but a payload.
        if (
            data[place + 1] & 0x40
            and data[place + 3] & 0x30 == 0x10
            and data[place + 5 + data[place + 4]] == 2
        ):
            codecs = _program(data[place + 5 + data[place + 4] : place + 188])
            if codecs:
                start = begin if place - begin <= _NEAR * size else place
                found.append((max(0, start - offset), codecs))
        place += size
    return found


def _program(section: bytes) -> dict[int, int]:
    """The types of the streams of a program table that fits into a packet; empty for other sections."""
    if len(section) < 16 or section[0] != _PROGRAM_TABLE:
        return {}
    end = 3 + ((section[1] & 15) << 8 | section[2]) - 4
    place = 12 + ((section[10] & 15) << 8 | section[11])
    found: dict[int, int] = {}
    while place + 5 <= min(end, len(section)):
        identifier = (section[place + 1] & 31) << 8 | section[place + 2]
        found[identifier] = section[place]
        place += 5 + ((section[place + 3] & 15) << 8 | section[place + 4])
    return found
