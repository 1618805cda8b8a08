"""What ffmpeg, libsndfile and Scriptorium hear of a file: seconds of sound above silence."""

from __future__ import annotations

import math
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from actors.decoder import Decoder
from actors.errors import RowError
from tests.faults.structures.likeness import AUDIBLE, levels
from tests.faults.structures.recordings import FFMPEG, RATE

_TIMEOUT = 60
# Shards of a recording whose time stamps claim that it is long.
_MAX_SHARDS = 6
# Flags that say that something of a recording may be missing.
LOSSES = frozenset(
    {"truncated", "decode_errors", "gap_filled", "audio_unread", "beyond_end", "stamps_unreliable",
     "non_finite_samples", "silent_track_replaced", "speech_unlikely"}
)  # fmt: skip


@dataclass
class Heard:
    """What Scriptorium made of a file."""

    statuses: list[str] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    error_code: str | None = None
    seconds: float = 0.0
    # The end of the last shard in seconds.
    end: float = 0.0

    @property
    def admits_losses(self) -> bool:
        """Whether it says that something may be missing, or is no transcript at all."""
        return "error" in self.statuses or "partial" in self.statuses or bool(self.flags & LOSSES)

    @property
    def outcome(self) -> str:
        """One word for a count."""
        if self.error_code:
            return self.error_code
        if "partial" in self.statuses:
            return "partial"
        return "ok with a flag" if self.flags & LOSSES else min(self.statuses)


def audible_seconds(samples: np.ndarray) -> float:
    """Seconds of the frames of int16 samples that are not silent. A DC offset is not heard."""
    return float(np.count_nonzero(levels(samples) > AUDIBLE)) / 100


def by_ffmpeg(path: Path) -> np.ndarray:
    """int16 samples at 16 kHz as the ffmpeg command decodes them; empty where it cannot."""
    assert FFMPEG is not None
    command = [FFMPEG, "-v", "quiet", "-nostdin", "-threads", "1", "-i", str(path), "-vn", "-ac", "1"]
    command += ["-ar", str(RATE), "-t", "600", "-f", "s16le", "pipe:1"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return np.zeros(0, np.int16)
    return np.frombuffer(done.stdout[: len(done.stdout) // 2 * 2], "<i2")


def all_by_ffmpeg(paths: list[Path], folder: Path) -> list[np.ndarray]:
    """What `by_ffmpeg` returns for each file; one process decodes them all, as most of its time is its start.

    Args:
        paths: healthy files.
        folder: for the samples.
    """
    assert FFMPEG is not None
    command = [FFMPEG, "-v", "error", "-y", "-nostdin", "-threads", "1"]
    command += [word for path in paths for word in ("-i", str(path))]
    outputs = [folder / f"{number}.s16le" for number in range(len(paths))]
    for number, output in enumerate(outputs):
        command += ["-map", f"{number}:a:0", "-ac", "1", "-ar", str(RATE), "-f", "s16le", str(output)]
    done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT * len(paths), check=False)
    if done.returncode or not all(output.exists() for output in outputs):
        return [by_ffmpeg(path) for path in paths]
    return [np.fromfile(output, "<i2") for output in outputs]


def by_soundfile(path: Path) -> np.ndarray:
    """int16 samples at about 16 kHz as libsndfile decodes them; empty where it cannot."""
    import soundfile
    import soxr

    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            wave = file.read(min(len(file), 600 * rate), dtype="float32", always_2d=True)
        if not len(wave):
            return np.zeros(0, np.int16)
        mono = soxr.resample(np.nan_to_num(wave.mean(axis=1)), rate, RATE)
    except Exception:
        return np.zeros(0, np.int16)
    return np.rint(np.clip(mono, -1, 1) * 32767).astype(np.int16)


def by_scriptorium(decoder: Decoder, path: Path, shard_seconds: float = 600.0) -> Heard:
    """Plan and decode a file as a run does."""
    try:
        found = decoder.probe(str(path), False, _TIMEOUT)
        duration: float | None = found.duration
    except RowError:
        duration = None
    count = min(_MAX_SHARDS, max(1, math.ceil((duration or 0) / shard_seconds)))
    heard = Heard()
    for number in range(count):
        row = row_of(path, duration, number, count)
        got = decoder([row])[0]
        heard.statuses.append(got["status"])
        heard.flags |= set(got["flags"])
        heard.error_code = heard.error_code or got["error_code"]
        heard.end = max(heard.end, got["decoded_end"])
        heard.seconds += sum(
            audible_seconds(np.frombuffer(segment["samples"], "<i2")) for segment in got["segments"]
        )
    return heard


def row_of(path: Path, duration: float | None, number: int, count: int) -> dict[str, Any]:
    """A PLAN row of shard `number` of `count`."""
    length = (duration or 0) / count
    row: dict[str, Any] = {"shard_id": f"{path.name}:{number}", "recording_id": path.name}
    row |= {"audio": str(path), "index": number, "shard_count": count, "duration": duration}
    row |= {"start": round(number * length, 3)}
    row |= {"end": None if number == count - 1 else round((number + 1) * length, 3)}
    row |= {"channel": "", "etag": "", "audio_bytes": 0, "language": None, "metadata": "{}", "attempt": 1}
    return row
