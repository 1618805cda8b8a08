"""Reading PCM and lossless samples: libsndfile against PyAV, CPU milliseconds for ten minutes of sound.

`actors.audio.structure.pcm_samples` uses libsndfile where it is as fast.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile

from actors.audio.containers import open_container
from actors.audio.frames import DecodeLosses, frames_of, join_frames, take_frames
from actors.audio.sources import open_audio
from tests.benchmarks.workloads.rows import Row

EXPECTED_MINUTES = 0.5
SECONDS = 600
# Rate, channels, libsndfile's format and subtype, and the type in which it reads fastest.
CASES = {
    "wav 16 bits, 16 kHz": (16_000, 1, "WAV", "PCM_16", "int16"),
    "wav 16 bits, 48 kHz stereo": (48_000, 2, "WAV", "PCM_16", "int16"),
    "wav 24 bits, 48 kHz stereo": (48_000, 2, "WAV", "PCM_24", "float32"),
    "wav 32 bits, 48 kHz stereo": (48_000, 2, "WAV", "PCM_32", "int32"),
    "wav float, 48 kHz stereo": (48_000, 2, "WAV", "FLOAT", "float32"),
    "wav mu-law, 8 kHz": (8_000, 1, "WAV", "ULAW", "float32"),
    "flac 16 bits, 16 kHz": (16_000, 1, "FLAC", "PCM_16", "int16"),
}


def measure(full: bool) -> Iterator[Row]:
    """CPU time, the best of three runs of each reader."""
    with tempfile.TemporaryDirectory() as folder:
        for name, (rate, channels, kind, subtype, dtype) in CASES.items():
            path = Path(folder) / "audio"
            rng = np.random.default_rng(0)
            wave = np.cumsum(rng.standard_normal((SECONDS * rate, channels)), axis=0) % 1 * 0.3 - 0.15
            soundfile.write(path, wave, rate, format=kind, subtype=subtype)
            sndfile, pyav = _best(_read_sndfile, path, rate, dtype), _best(_read_pyav, path, rate, dtype)
            yield Row(f"libsndfile: {name}", sndfile, "ms", note=f"PyAV {pyav:.0f} ms")


def _best(read: Callable[[Path, int, str], int], path: Path, rate: int, dtype: str) -> float:
    times = []
    for _ in range(3):
        began = time.process_time()
        assert read(path, rate, dtype) == SECONDS * rate
        times.append(time.process_time() - began)
    return 1000 * min(times)


def _read_sndfile(path: Path, rate: int, dtype: str) -> int:
    frames = 0
    with open_audio(str(path)) as file, soundfile.SoundFile(io.BufferedReader(file, 256 << 10)) as raw:
        while len(block := raw.read(rate, dtype, always_2d=True)):
            if dtype != "float32":
                block = block.astype(np.float32)
                block *= np.float32(2.0**-15 if dtype == "int16" else 2.0**-31)
            frames += len(block)
    return frames


def _read_pyav(path: Path, rate: int, dtype: str) -> int:
    frames = 0
    with open_audio(str(path)) as file, open_container(file) as opened:
        rest = frames_of(opened, rate, DecodeLosses(), True)
        while taken := take_frames(rest, rate):
            frames += len(join_frames(taken))
    return frames
