"""WAVE files with any header."""

from __future__ import annotations

import struct

from tests.faults.harness.hostile_audio import (
    PCM,
)


def wave(
    rate: int = 16_000,
    channels: int = 1,
    bits: int = 16,
    size: int | None = None,
    kind: int = 1,
    data: bytes = PCM,
) -> bytes:
    form = struct.pack(
        "<HHIIHH",
        kind,
        channels,
        rate,
        (rate * channels * bits // 8) & 0xFFFFFFFF,
        (channels * bits // 8) & 0xFFFF,
        bits,
    )
    claimed = len(data) if size is None else size
    return (
        b"RIFF"
        + struct.pack("<I", (36 + claimed) & 0xFFFFFFFF)
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + form
        + b"data"
        + struct.pack("<I", claimed)
        + data
    )
