"""Cyclic redundancy checks of FLAC frames and Ogg pages."""

from __future__ import annotations

import functools


@functools.cache
def crc_table(polynomial: int, bits: int) -> list[int]:
    table = []
    for byte in range(256):
        value = byte << (bits - 8)
        for _ in range(8):
            value = (value << 1 ^ polynomial if value >> (bits - 1) else value << 1) & ((1 << bits) - 1)
        table.append(value)
    return table


def crc(data: bytes, polynomial: int, bits: int) -> int:
    table, mask, value = crc_table(polynomial, bits), (1 << bits) - 1, 0
    for byte in data:
        value = (value << 8 & mask) ^ table[value >> (bits - 8) ^ byte]
    return value
