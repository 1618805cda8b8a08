"""What the tests of hostile recordings share: healthy audio to modify, and a decoder for it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from actors.decoder import Decoder
from pipelines.config import RunConfig
from pipelines.manifests.columns import Recording
from pipelines.planning import planner
from tests.faults.harness import fuzzer

DEMO = fuzzer.ROOT / "configs" / "demo" / "audio"
# Two seconds at 16 kHz.
NOISE = np.random.default_rng(5).normal(0, 0.1, 32_000)
PCM = (NOISE * 32767).astype("<i2").tobytes()
REFUSALS = {"bad_header", "unsupported_codec", "not_audio", "corrupt_audio", "no_samples"}


def decode(
    decoder: Decoder, path: Path, start: float = 0.0, end: float | None = None, duration: float | None = None
) -> dict[str, Any]:
    plan = {
        "shard_id": "s",
        "recording_id": "r",
        "audio": str(path),
        "index": 0,
        "shard_count": 1,
        "start": start,
        "end": end,
    }
    plan |= {
        "duration": duration,
        "channel": "",
        "etag": "",
        "audio_bytes": 0,
        "language": None,
        "metadata": "{}",
        "attempt": 1,
    }
    return decoder([plan])[0]


def outcome(row: dict[str, Any]) -> str:
    return row["error_code"] or row["status"]


def planned(path: Path) -> list[dict[str, Any]]:
    recording = Recording("r", str(path), None, None, None, None, None, {}, "m:1")
    return planner.plan_table([recording], RunConfig()).to_pylist()


def peak_mib(decoder: Decoder) -> int:
    """Peak memory of the decoding process so far, in bytes."""
    status = Path(f"/proc/{decoder._child.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) >> 10


def boxes(data: bytes, start: int, end: int, depth: int = 0) -> Iterator[tuple[int, bytes]]:
    """The (offset, name) pairs of an mp4's boxes."""
    while start + 8 <= end:
        size, name = struct.unpack(">I4s", data[start : start + 8])
        yield start, name
        if name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf", b"udta", b"edts"):
            yield from boxes(data, start + 8, start + size, depth + 1)
        start += max(8, size)
