"""Damages that any file can have: tags, zeros and other files around it, lost, doubled and swapped blocks."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.faults.structures.recordings import Base


@dataclass
class Damaging:
    """A file while it is damaged: chance, the other files, and how much sound it can have at most."""

    chance: random.Random
    bases: Sequence[Base]
    # Seconds of sound that were put into it.
    seconds: float

    def other(self, name: str | None = None) -> bytes:
        """Another healthy file, which is put into this one; of the format `name` where it is given."""
        one = self.chance.choice([base for base in self.bases if name in (None, base.name)])
        self.seconds += one.seconds
        return one.data

    def repeat(self) -> None:
        """A part of the file is there twice, at most all of it."""
        self.seconds *= 2


Damage = Callable[[bytes, Damaging], bytes]
EXTREMES = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFE,
    0xFFFF_FFFF,
)


def damaged_number(value: int, width: int, chance: random.Random) -> int:
    """A number that differs from `value` in one of the ways in which sizes and counts are wrong."""
    ways = (value // 2, value // 3, value * 7 // 8, value * 2, value + 1, value - 1, value + 8, value - 8)
    found = chance.choice((*ways, *EXTREMES, chance.getrandbits(8 * width)))
    return max(0, found) & ((1 << 8 * width) - 1)


def id3(chance: random.Random, wrong: bool = False) -> bytes:
    """An ID3 tag of some size, which may be told wrongly."""
    size = chance.choice((0, 100, 2_000, 70_000))
    told = damaged_number(size, 3, chance) % 2**27 if wrong else size
    head = bytes((told >> 21 & 127, told >> 14 & 127, told >> 7 & 127, told & 127))
    return b"ID3\x03\x00\x00" + head + bytes(size)


def tag_in_front(data: bytes, at: Damaging) -> bytes:
    return b"".join(id3(at.chance) for _ in range(at.chance.choice((1, 1, 2)))) + data


def wrong_tag_in_front(data: bytes, at: Damaging) -> bytes:
    return id3(at.chance, True) + data


def zeros_in_front(data: bytes, at: Damaging) -> bytes:
    return bytes(at.chance.choice((1, 100, 5_000, 100_000))) + data


def tag_behind(data: bytes, at: Damaging) -> bytes:
    ape = b"APETAGEX" + struct.pack("<IIII", 2000, 32, 0, 0x8000_0000) + bytes(8)
    return data + at.chance.choice((b"TAG" + bytes(125), ape, b"LYRICSBEGIN" + bytes(200), id3(at.chance)))


def zeros_behind(data: bytes, at: Damaging) -> bytes:
    return data + bytes(at.chance.choice((1, 100, 5_000, 500_000)))


def noise_behind(data: bytes, at: Damaging) -> bytes:
    return data + at.chance.randbytes(at.chance.choice((3, 100, 5_000, 60_000)))


def joined_to_itself(data: bytes, at: Damaging) -> bytes:
    at.repeat()
    return data + data


def joined(data: bytes, at: Damaging) -> bytes:
    return data + at.other()


def joined_with_padding(data: bytes, at: Damaging) -> bytes:
    return data + at.chance.choice((bytes(512), id3(at.chance), b"\n", b"TAG" + bytes(125))) + at.other()


def cut_off(data: bytes, at: Damaging) -> bytes:
    return data[: at.chance.randrange(len(data) // 4, len(data))]


def cut_off_a_little(data: bytes, at: Damaging) -> bytes:
    return data[: -at.chance.choice((1, 2, 7, 60, 300, 3000))]


def beheaded(data: bytes, at: Damaging) -> bytes:
    return data[at.chance.choice((1, 4, 100, len(data) // 3)) :]


def lost_block(data: bytes, at: Damaging) -> bytes:
    place, size = at.chance.randrange(len(data)), at.chance.choice((1, 7, 512, 4096, len(data) // 5))
    return data[:place] + data[place + size :]


def doubled_block(data: bytes, at: Damaging) -> bytes:
    at.repeat()
    place, size = at.chance.randrange(len(data)), at.chance.choice((512, 4096, len(data) // 5))
    return data[:place] + data[place : place + size] + data[place:]


def swapped_blocks(data: bytes, at: Damaging) -> bytes:
    first, second = sorted(at.chance.sample(range(len(data)), 2))
    size = min(at.chance.choice((512, 4096, 20_000)), second - first, len(data) - second)
    between = data[first + size : second]
    return (
        data[:first]
        + data[second : second + size]
        + between
        + data[first : first + size]
        + data[second + size :]
    )


def zeroed_block(data: bytes, at: Damaging) -> bytes:
    place, size = at.chance.randrange(len(data)), at.chance.choice((4, 512, 4096, len(data) // 5))
    return data[:place] + bytes(min(size, len(data) - place)) + data[place + size :]


def inserted_noise(data: bytes, at: Damaging) -> bytes:
    place, size = at.chance.randrange(len(data)), at.chance.choice((1, 7, 512, 4096, 30_000))
    return data[:place] + at.chance.randbytes(size) + data[place:]


def flipped_bits(data: bytes, at: Damaging) -> bytes:
    changed = bytearray(data)
    for _ in range(at.chance.choice((1, 4, 32, 256))):
        changed[at.chance.randrange(len(data))] ^= 1 << at.chance.randrange(8)
    return bytes(changed)


def flipped_head(data: bytes, at: Damaging) -> bytes:
    """Numbers in the first bytes, where headers have lengths and rates."""
    changed = bytearray(data)
    for _ in range(at.chance.choice((1, 1, 2, 4))):
        place, width = at.chance.randrange(min(len(data) - 4, 400)), at.chance.choice((1, 2, 4))
        number = at.chance.choice(EXTREMES) & ((1 << 8 * width) - 1)
        changed[place : place + width] = number.to_bytes(width, at.chance.choice(("little", "big")))
    return bytes(changed)


GENERIC: tuple[Damage, ...] = (
    tag_in_front, wrong_tag_in_front, zeros_in_front, tag_behind, zeros_behind, noise_behind,
    joined_to_itself, joined, joined_with_padding, cut_off, cut_off_a_little, beheaded, lost_block,
    doubled_block, swapped_blocks, zeroed_block, inserted_noise,
)  # fmt: skip
# What may happen in addition.
CARELESS: tuple[Damage, ...] = (flipped_bits, flipped_head, cut_off, cut_off_a_little, lost_block)
