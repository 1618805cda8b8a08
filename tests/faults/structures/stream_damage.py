"""Damages of streams of pages, frames and packets: Ogg, FLAC, MPEG audio, transport and program streams."""

from __future__ import annotations

import struct

from tests.faults.structures.generic_damage import Damage, Damaging, damaged_number, id3

_POLYNOMIAL = 0x04C1_1DB7


def _crc_table() -> list[int]:
    table = []
    for number in range(256):
        value = number << 24
        for _ in range(8):
            value = (value << 1 ^ _POLYNOMIAL if value & 0x8000_0000 else value << 1) & 0xFFFF_FFFF
        table.append(value)
    return table


_TABLE = _crc_table()


def _sealed(page: bytes) -> bytes:
    """An Ogg page with its right checksum."""
    value, blank = 0, page[:22] + bytes(4) + page[26:]
    for byte in blank:
        value = (value << 8 & 0xFFFF_FFFF) ^ _TABLE[value >> 24 ^ byte]
    return page[:22] + struct.pack("<I", value) + page[26:]


def _pages(data: bytes) -> list[bytes]:
    found, place = [], 0
    while data[place : place + 4] == b"OggS":
        count = data[place + 26]
        size = 27 + count + sum(data[place + 27 : place + 27 + count])
        found.append(data[place : place + size])
        place += size
    return found


def ogg_pages(data: bytes, at: Damaging) -> bytes:
    """Pages that are lost, doubled, swapped, renumbered, or marked as first or last, with right checksums."""
    pages, chance = _pages(data), at.chance
    number = chance.randrange(len(pages))
    way = chance.choice(
        ("lost", "doubled", "swapped", "flags", "position", "serial", "number", "checksum", "noise")
    )
    page = bytearray(pages[number])
    if way == "lost":
        del pages[number : number + chance.choice((1, 1, 3))]
    elif way == "doubled":
        at.repeat()
        pages.insert(number, pages[number])
    elif way == "swapped" and number:
        pages[number - 1], pages[number] = pages[number], pages[number - 1]
    elif way == "noise":
        pages.insert(number, chance.randbytes(chance.choice((1, 300, 5000))))
    elif way == "serial":
        # All that follows belongs to another stream.
        serial = chance.randbytes(4)
        pages = [
            one if place < number else _sealed(one[:14] + serial + one[18:])
            for place, one in enumerate(pages)
        ]
    else:
        if way == "flags":
            page[5] ^= chance.choice((1, 2, 4, 6))
        elif way == "position":
            value = int.from_bytes(page[6:14], "little")
            page[6:14] = damaged_number(value, 8, chance).to_bytes(8, "little")
        elif way == "number":
            page[18:22] = chance.randbytes(4)
        pages[number] = _sealed(bytes(page))
        if way == "checksum":
            pages[number] = pages[number][:22] + b"\0\1\2\3" + pages[number][26:]
    return b"".join(pages)


def flac_header(data: bytes, at: Damaging) -> bytes:
    """How many samples there are, the sizes of blocks and frames, and further blocks of metadata."""
    start = data.find(b"fLaC")
    way = at.chance.choice(("total", "total", "blocks", "padding", "last"))
    changed = bytearray(data)
    if way == "total":
        total = int.from_bytes(data[start + 21 : start + 26], "big") & (1 << 36) - 1
        number = damaged_number(total, 4, at.chance)
        changed[start + 21] &= 0xF0
        changed[start + 22 : start + 26] = struct.pack(">I", number)
    elif way == "blocks":
        changed[start + 8 : start + 18] = at.chance.choice((bytes(10), at.chance.randbytes(10)))
    elif way == "padding":
        size = at.chance.choice((0, 100, 70_000))
        block = b"\1" + size.to_bytes(3, "big") + bytes(size)
        return data[: start + 42] + block + data[start + 42 :]
    else:
        changed[start + 4] ^= 0x80
    return bytes(changed)


def mp3_tag(data: bytes, at: Damaging) -> bytes:
    """The number of frames and bytes that the tag in the first frame tells."""
    place = max(data.find(b"Xing", 0, 4000), data.find(b"Info", 0, 4000))
    if place < 0:
        return data
    place += at.chance.choice((8, 8, 12))
    value = int.from_bytes(data[place : place + 4], "big")
    return data[:place] + damaged_number(value, 4, at.chance).to_bytes(4, "big") + data[place + 4 :]


def tag_in_the_middle(data: bytes, at: Damaging) -> bytes:
    place = at.chance.randrange(len(data))
    return data[:place] + id3(at.chance) + data[place:]


def joined_to_its_kind(data: bytes, at: Damaging) -> bytes:
    """Another stream of frames behind this one, with another rate or number of channels."""
    kinds = (
        ("mp3", "mp3 vbr", "mp3 bare")
        if data[:3] in (b"ID3", b"\xff\xf3", b"\xff\xfb")
        else ("adts", "ac3", "wv")
    )
    return data + at.other(at.chance.choice(kinds))


def _packets(data: bytes) -> tuple[int, list[bytes]]:
    size = 192 if data[4:5] == b"\x47" and data[196:197] == b"\x47" else 188
    return size, [data[place : place + size] for place in range(0, len(data), size)]


def _identifier(packet: bytes) -> int:
    return int.from_bytes(packet[1:3], "big") & 0x1FFF


def ts_packets(data: bytes, at: Damaging) -> bytes:
    """Packets that are lost, doubled, swapped, moved, scrambled, or have bytes between them."""
    size, packets = _packets(data)
    chance, number = at.chance, at.chance.randrange(len(packets))
    count = chance.choice((1, 5, 40))
    way = chance.choice(("lost", "doubled", "swapped", "tables", "noise", "empty", "marks", "scrambled"))
    if way == "lost":
        del packets[number : number + count]
    elif way == "doubled":
        at.repeat()
        packets[number:number] = packets[number : number + count]
    elif way == "swapped":
        packets[number : number + count] = packets[number : number + count][::-1]
    elif way == "tables":
        # The tables come late, or once.
        skip = size - 188
        tables = [
            one
            for one in packets
            if int.from_bytes(one[skip + 1 : skip + 3], "big") & 0x1FFF in (0, 17, 4096)
        ]
        rest = [one for one in packets if one not in tables]
        packets = [*rest[: count * 3], *tables[:3], *rest[count * 3 :]]
    elif way == "noise":
        packets.insert(number, chance.randbytes(chance.choice((1, 100, 5000))))
    elif way == "empty":
        packets[number:number] = [bytes(size - 188) + b"\x47\x1f\xff\x10" + b"\xff" * 184] * count
    else:
        for place in range(number, min(len(packets), number + count)):
            packet, at_mark = bytearray(packets[place]), size - 188
            if way == "marks":
                packet[at_mark] = 0
            elif len(packet) > at_mark + 3:
                packet[at_mark + 3] |= 0x80
            packets[place] = bytes(packet)
    return b"".join(packets)


def ts_times(data: bytes, at: Damaging) -> bytes:
    """Time stamps of some packets are set, as of a clock that jumps or starts again."""
    changed, place = bytearray(data), 0
    shift = at.chance.choice((1 << 20, 1 << 33, 90_000 * 3600, 90_000 * 20, -90_000 * 20))
    begin = at.chance.randrange(len(data))
    while (place := data.find(b"\0\0\1", place + 1)) >= 0:
        head = data[place : place + 14]
        if place >= begin and len(head) == 14 and 0xBD <= head[3] <= 0xEF and head[7] & 0x80 and head[9] & 1:
            stamp = (
                (head[9] >> 1 & 7) << 30
                | head[10] << 22
                | head[11] >> 1 << 15
                | head[12] << 7
                | head[13] >> 1
            )
            stamp = (stamp + shift) % (1 << 33)
            changed[place + 9] = head[9] & 0xF1 | stamp >> 29 & 14
            changed[place + 10], changed[place + 11] = stamp >> 22 & 255, stamp >> 14 & 254 | 1
            changed[place + 12], changed[place + 13] = stamp >> 7 & 255, stamp << 1 & 254 | 1
    return bytes(changed)


def ps_packs(data: bytes, at: Damaging) -> bytes:
    """Packs that are lost, swapped, or whose packets have a wrong length."""
    starts, place = [], -1
    while (place := data.find(b"\0\0\1\xba", place + 1)) >= 0:
        starts.append(place)
    packs = [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]
    number, way = at.chance.randrange(len(packs)), at.chance.choice(("lost", "swapped", "length"))
    if way == "lost":
        del packs[number : number + at.chance.choice((1, 5))]
    elif way == "swapped" and number:
        packs[number - 1], packs[number] = packs[number], packs[number - 1]
    else:
        found = max(packs[number].find(b"\0\0\1\xc0"), packs[number].find(b"\0\0\1\xbd"))
        if found >= 0:
            pack = bytearray(packs[number])
            pack[found + 4 : found + 6] = at.chance.choice((b"\0\0", b"\xff\xff", b"\1\0"))
            packs[number] = bytes(pack)
    return b"".join(packs)


def frames_of_bytes(data: bytes, at: Damaging) -> bytes:
    """A number at a mark of WavPack, NUT, RealMedia or MXF."""
    marks = (b"wvpk", b"N\xe4\xad\xca", b"DATA", b"PROP", b"CONT", b"\x06\x0e\x2b\x34", b"TTA1")
    places = [place for mark in marks if (place := data.find(mark, at.chance.randrange(len(data)))) >= 0]
    if not places:
        places = [0]
    place = at.chance.choice(places) + 4 * at.chance.randrange(1, 6)
    value = int.from_bytes(data[place : place + 4], "little")
    return data[:place] + damaged_number(value, 4, at.chance).to_bytes(4, "little") + data[place + 4 :]


OGG: tuple[Damage, ...] = (ogg_pages, ogg_pages, ogg_pages)
FLAC: tuple[Damage, ...] = (flac_header, flac_header, tag_in_the_middle)
MP3: tuple[Damage, ...] = (mp3_tag, tag_in_the_middle, joined_to_its_kind)
FRAMES: tuple[Damage, ...] = (tag_in_the_middle, joined_to_its_kind)
TS: tuple[Damage, ...] = (ts_packets, ts_packets, ts_times)
PS: tuple[Damage, ...] = (ps_packs, ps_packs, ts_times)
OTHER: tuple[Damage, ...] = (frames_of_bytes, frames_of_bytes)
