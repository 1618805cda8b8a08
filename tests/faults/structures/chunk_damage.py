"""Damages of files that consist of chunks: WAVE, RF64, W64, AIFF, CAF, AVI, AU."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from tests.faults.structures.generic_damage import Damage, Damaging, damaged_number


@dataclass(frozen=True)
class _Grammar:
    name: int
    order: str
    width: int
    first: int
    inclusive: bool = False
    alignment: int = 2


_GRAMMARS = {
    b"RIFF": _Grammar(4, "little", 4, 12),
    b"RF64": _Grammar(4, "little", 4, 12),
    b"FORM": _Grammar(4, "big", 4, 12),
    b"riff": _Grammar(16, "little", 8, 40, True, 8),
    b"caff": _Grammar(4, "big", 8, 8, False, 1),
}


def _chunks(data: bytes) -> tuple[_Grammar, list[tuple[int, int]]]:
    """The grammar, and start and end of each chunk with its header and padding."""
    grammar = _GRAMMARS[data[:4]]
    found, place = [], grammar.first
    while place + grammar.name + grammar.width <= len(data):
        head = place + grammar.name
        size = int.from_bytes(data[head : head + grammar.width], grammar.order)  # type: ignore[arg-type]
        size += 0 if grammar.inclusive else grammar.name + grammar.width
        end = min(len(data), place + size + -size % grammar.alignment)
        if end <= place:
            break
        found.append((place, end))
        place = end
    return grammar, found


def chunk_size(data: bytes, at: Damaging) -> bytes:
    """The size of a chunk, more often of the longest, the samples."""
    grammar, chunks = _chunks(data)
    longest = max(chunks, key=lambda span: span[1] - span[0])
    place, _ = at.chance.choice((longest, longest, *chunks))
    return _with_number(data, place + grammar.name, grammar.width, grammar.order, at)


def form_size(data: bytes, at: Damaging) -> bytes:
    grammar = _GRAMMARS[data[:4]]
    return data if data[:4] == b"caff" else _with_number(data, grammar.name, grammar.width, grammar.order, at)


def _with_number(data: bytes, place: int, width: int, order: str, at: Damaging) -> bytes:
    value = int.from_bytes(data[place : place + width], order)  # type: ignore[arg-type]
    number = damaged_number(value, width, at.chance).to_bytes(width, order)  # type: ignore[arg-type]
    return data[:place] + number + data[place + width :]


def chunks_in_another_order(data: bytes, at: Damaging) -> bytes:
    grammar, chunks = _chunks(data)
    at.chance.shuffle(chunks)
    return data[: grammar.first] + b"".join(data[start:end] for start, end in chunks)


def further_chunks(data: bytes, at: Damaging) -> bytes:
    """Chunks of metadata, or of unknown kinds, at some place."""
    grammar, chunks = _chunks(data)
    place = at.chance.choice([start for start, _ in chunks] + [len(data)])
    new = b""
    for _ in range(at.chance.choice((1, 3, 80))):
        name = at.chance.choice((b"JUNK", b"LIST", b"bext", b"abcd", b"fact", b"id3 "))
        content = at.chance.randbytes(2 * at.chance.choice((0, 4, 50, 2000)))
        size = len(content) + (grammar.name + grammar.width if grammar.inclusive else 0)
        guid = name + b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
        new += (guid if grammar.name == 16 else name) + size.to_bytes(grammar.width, grammar.order) + content  # type: ignore[arg-type]
        new += bytes(-len(new) % grammar.alignment)
    return data[:place] + new + data[place:]


def split_samples(data: bytes, at: Damaging) -> bytes:
    """The samples in two chunks, or in a LIST of the kind `wavl`."""
    grammar, chunks = _chunks(data)
    found = next((span for span in chunks if data[span[0] : span[0] + 4] == b"data"), None)
    if found is None or grammar.width != 4 or data[:4] == b"RF64":
        return data
    start, end = found
    content = data[start + 8 : end]
    middle = len(content) // at.chance.choice((2, 3, 5)) // 1024 * 1024
    pieces = [b"data" + struct.pack("<I", len(part)) + part for part in (content[:middle], content[middle:])]
    if at.chance.random() < 0.5:
        inside = b"wavl" + at.chance.choice((b"", b"slnt" + struct.pack("<II", 4, 8000))).join(pieces)
        return data[:start] + b"LIST" + struct.pack("<I", len(inside)) + inside + data[end:]
    return data[:start] + b"".join(pieces) + data[end:]


def contradicting_format(data: bytes, at: Damaging) -> bytes:
    """The numbers of a WAVE file's format: width, block align, byte rate, valid bits."""
    place = data.find(b"fmt ")
    if place < 0 or data[:4] not in (b"RIFF", b"RF64"):
        return data
    changed = bytearray(data)
    start = place + 8
    width = int.from_bytes(data[start + 14 : start + 16], "little")
    way = at.chance.choice(("byte rate", "bits", "align", "extensible", "size"))
    if way == "byte rate":
        changed[start + 8 : start + 12] = struct.pack("<I", at.chance.choice((0, 1, 8000, 176_400, 2**31)))
    elif way == "bits":
        changed[start + 14 : start + 16] = struct.pack("<H", at.chance.choice((0, 8, 12, 16, 20, 24, 32)))
    elif way == "align":
        changed[start + 12 : start + 14] = struct.pack("<H", at.chance.choice((0, 1, 2, 3, 4, 6, 8)))
    elif way == "size":
        changed[place + 4 : place + 8] = struct.pack("<I", at.chance.choice((14, 16, 18, 40, 60)))
    elif width in (16, 24, 32) and data[start : start + 2] == b"\1\0":
        valid = at.chance.choice((width, 16, 20, 8, 0))
        head = struct.pack("<H", 0xFFFE) + data[start + 2 : start + 16]
        guid = bytes.fromhex("0100000000001000800000aa00389b71")
        content = head + struct.pack("<HHI", 22, valid, 4) + guid
        return data[:place] + b"fmt " + struct.pack("<I", 40) + content + data[start + _size(data, place) :]
    return bytes(changed)


def _size(data: bytes, place: int) -> int:
    size = int.from_bytes(data[place + 4 : place + 8], "little")
    return size + size % 2


def au_header(data: bytes, at: Damaging) -> bytes:
    """Where the samples begin, or how many there are."""
    return _with_number(data, at.chance.choice((4, 8, 8)), 4, "big", at)


def avi_lists(data: bytes, at: Damaging) -> bytes:
    """The index, the list of the packets, or the length of the stream."""
    way = at.chance.choice(("no index", "movi", "length", "entries"))
    place = data.find({"no index": b"idx1", "movi": b"movi", "length": b"auds", "entries": b"idx1"}[way])
    if place < 0:
        return data
    if way == "no index":
        return data[:place]
    place += {"movi": -4, "length": 32, "entries": 4}[way]
    return _with_number(data, place, 4, "little", at)


CHUNKS: tuple[Damage, ...] = (chunk_size, chunk_size, form_size, chunks_in_another_order, further_chunks)
WAVE: tuple[Damage, ...] = (*CHUNKS, split_samples, contradicting_format, contradicting_format)
AVI: tuple[Damage, ...] = (chunk_size, form_size, chunks_in_another_order, avi_lists, avi_lists)
AU: tuple[Damage, ...] = (au_header,)
