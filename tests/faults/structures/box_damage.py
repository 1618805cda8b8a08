"""Damages of MP4 and QuickTime (boxes), Matroska and WebM (elements), ASF and FLV (objects and tags)."""

from __future__ import annotations

from collections.abc import Iterator

from tests.faults.structures.generic_damage import Damage, Damaging, damaged_number

_PARENTS = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"moof", b"traf")


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of each box, with those inside it."""
    while start + 8 <= end:
        size = int.from_bytes(data[start : start + 4], "big")
        if size < 8:
            return
        yield data[start + 4 : start + 8], start, min(end, start + size)
        if data[start + 4 : start + 8] in _PARENTS:
            yield from _boxes(data, start + 8, min(end, start + size))
        start += size


def _top(data: bytes) -> list[tuple[int, int]]:
    found, place = [], 0
    for _, start, end in _boxes(data, 0, len(data)):
        if start >= place:
            found.append((start, end))
            place = end
    return found


def _with_number(data: bytes, place: int, at: Damaging, width: int = 4, order: str = "big") -> bytes:
    value = int.from_bytes(data[place : place + width], order)  # type: ignore[arg-type]
    number = damaged_number(value, width, at.chance).to_bytes(width, order)  # type: ignore[arg-type]
    return data[:place] + number + data[place + width :]


def box_size(data: bytes, at: Damaging) -> bytes:
    boxes = list(_boxes(data, 0, len(data)))
    return _with_number(data, at.chance.choice(boxes)[1], at) if boxes else data


def boxes_in_another_order(data: bytes, at: Damaging) -> bytes:
    top = _top(data)
    at.chance.shuffle(top)
    return b"".join(data[start:end] for start, end in top)


def further_boxes(data: bytes, at: Damaging) -> bytes:
    """Boxes in front of others: the places in the index may be wrong afterwards."""
    top = _top(data)
    place = at.chance.choice([start for start, _ in top] + [len(data)])
    size = at.chance.choice((0, 8, 1000))
    name = at.chance.choice((b"free", b"skip", b"abcd", b"mdat"))
    return data[:place] + (8 + size).to_bytes(4, "big") + name + bytes(size) + data[place:]


def sample_tables(data: bytes, at: Damaging) -> bytes:
    """Counts and times: of samples, chunks, the edit list, durations and time scales."""
    fields = {b"stts": (12, 16, 20), b"stsz": (12, 16), b"stco": (12, 16), b"stsc": (12, 20, 24)}
    fields |= {b"elst": (12, 16, 20), b"mdhd": (20, 24), b"mvhd": (20, 24), b"tkhd": (28,), b"trun": (12, 16)}
    fields |= {b"tfdt": (12,), b"tfhd": (8,), b"mehd": (12,)}
    found = [(name, start) for name, start, _ in _boxes(data, 0, len(data)) if name in fields]
    if not found:
        return data
    name, start = at.chance.choice(found)
    return _with_number(data, start + at.chance.choice(fields[name]), at)


def _number(data: bytes, place: int) -> tuple[int, int]:
    """A size of EBML and its bytes."""
    length = 9 - data[place].bit_length() if place < len(data) and data[place] else 1
    return int.from_bytes(data[place : place + length], "big") & ((1 << 7 * length) - 1), length


def _elements(data: bytes, start: int, end: int) -> list[tuple[bytes, int, int, int]]:
    """Id, start, start of the content, end."""
    found = []
    while start < end and data[start]:
        length = 9 - data[start].bit_length()
        size, width = _number(data, start + length)
        content = start + length + width
        stop = end if size == (1 << 7 * width) - 1 else min(end, content + size)
        found.append((data[start : start + length], start, content, stop))
        start = stop
    return found


def _segment(data: bytes) -> tuple[bytes, int, int, int] | None:
    return next((one for one in _elements(data, 0, len(data)) if one[0] == b"\x18\x53\x80\x67"), None)


def element_size(data: bytes, at: Damaging) -> bytes:
    """The size of the segment, or of an element in it, also as unknown."""
    segment = _segment(data)
    if segment is None:
        return data
    name, start, content, _ = at.chance.choice([segment, *_elements(data, segment[2], segment[3])])
    place = start + len(name)
    width = content - place
    if at.chance.random() < 0.3:
        number = (1 << 7 * width) - 1
    else:
        number = damaged_number(_number(data, place)[0], width, at.chance) & ((1 << 7 * width) - 1)
    return data[:place] + (number | 1 << 7 * width).to_bytes(width, "big") + data[content:]


def elements_in_another_order(data: bytes, at: Damaging) -> bytes:
    segment = _segment(data)
    if segment is None:
        return data
    inside = _elements(data, segment[2], segment[3])
    first, second = at.chance.choice(inside), at.chance.choice(inside)
    order = [second if one is first else first if one is second else one for one in inside]
    return data[: segment[2]] + b"".join(data[one[1] : one[3]] for one in order) + data[segment[3] :]


def lost_element(data: bytes, at: Damaging) -> bytes:
    segment = _segment(data)
    if segment is None:
        return data
    lost = at.chance.choice(_elements(data, segment[2], segment[3]))
    return data[: lost[1]] + data[lost[3] :]


def wrong_cluster_time(data: bytes, at: Damaging) -> bytes:
    segment = _segment(data)
    clusters = [] if segment is None else _elements(data, segment[2], segment[3])
    times = [one[2] + 2 for one in clusters if one[0] == b"\x1f\x43\xb6\x75" and data[one[2]] == 0xE7]
    if not times:
        return data
    place = at.chance.choice(times)
    return _with_number(data, place, at, max(1, _number(data, place - 1)[0]))


def asf_header(data: bytes, at: Damaging) -> bytes:
    """Sizes of objects, the size of the file, packets and durations."""
    place = data.find(bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365"))
    packets = data.find(bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c"))
    fields = [(16, 8), (place + 40, 8), (place + 56, 8), (place + 64, 8), (place + 72, 8), (place + 80, 8)]
    fields += [(place + 92, 4), (place + 96, 4), (packets + 16, 8), (packets + 40, 8)]
    return _with_number(data, *at.chance.choice(fields)[:1], at, 4, "little")


def flv_tag(data: bytes, at: Damaging) -> bytes:
    """The size or the time of a tag, or the size behind it."""
    tags, place = [], 13
    while place + 11 <= len(data):
        tags.append(place)
        place += 15 + int.from_bytes(data[place + 1 : place + 4], "big")
    start = at.chance.choice(tags)
    return _with_number(data, start + at.chance.choice((1, 4)), at, 3)


MP4: tuple[Damage, ...] = (box_size, boxes_in_another_order, further_boxes, sample_tables, sample_tables)
MATROSKA: tuple[Damage, ...] = (
    element_size,
    element_size,
    elements_in_another_order,
    lost_element,
    wrong_cluster_time,
)
ASF: tuple[Damage, ...] = (asf_header,)
FLV: tuple[Damage, ...] = (flv_tag,)
