"""Decoding and segmentation on one core, by codec: audio seconds per CPU second, without Ray or a child
process.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from actors.audio.decoding import decode_span
from actors.audio.recordings.tracks import Tracks
from actors.audio.sources import open_audio
from actors.audio.timeline import SampleReader
from actors.config import SegmenterConfig
from actors.decoder import border
from actors.segmentation.energy import segment
from tests.benchmarks.workloads.rows import Row

EXPECTED_MINUTES = 0.4
SECONDS = 300
CASES = {
    "wav 16 kHz": ("pcm_s16le", 16_000, 1, "wav"),
    "wav 48 kHz stereo": ("pcm_s16le", 48_000, 2, "wav"),
    "flac 44.1 kHz": ("flac", 44_100, 1, "flac"),
    "mp3 44.1 kHz": ("libmp3lame", 44_100, 1, "mp3"),
    "aac m4a 44.1 kHz": ("aac", 44_100, 1, "m4a"),
    "opus 48 kHz": ("libopus", 48_000, 1, "opus"),
    "opus webm 48 kHz": ("libopus", 48_000, 1, "webm"),
    "mu-law wav 8 kHz": ("pcm_mulaw", 8_000, 1, "wav"),
}


def write(path: Path, codec: str, rate: int, channels: int, seconds: int) -> None:
    """Write a minute of voice-like sound, repeated to `seconds`."""
    rng = np.random.default_rng(0)
    t = np.arange(60 * rate) / rate
    gate = np.sin(2 * np.pi * 0.3 * t) > -0.5
    voice = gate * sum(
        np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 9)
    ) * 0.15 + 0.0005 * rng.standard_normal(len(t))
    minute = np.repeat((voice * 32767).astype(np.int16), channels)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="stereo" if channels == 2 else "mono")
        for second in range(seconds):
            begin = second % 60 * rate * channels
            frame = av.AudioFrame.from_ndarray(
                minute[None, begin : begin + rate * channels], format="s16", layout=stream.layout.name
            )
            frame.sample_rate, frame.pts = rate, second * rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def measure(full: bool) -> Iterator[Row]:
    """CPU seconds of this process, whose codecs run on one thread."""
    samples = np.zeros(0, np.int16)
    with tempfile.TemporaryDirectory() as folder:
        for name, (codec, rate, channels, suffix) in CASES.items():
            path = Path(folder) / f"audio.{suffix}"
            write(path, codec, rate, channels, SECONDS)
            with open_audio(str(path)) as file:
                recording = SampleReader(file)
                began = time.process_time()
                samples = decode_span(recording, 0, None).samples[0]
                took = time.process_time() - began
                began = time.process_time()
                border(Tracks("auto", [recording]), SECONDS * 0.7)
                note = f"a border between shards costs {1000 * (time.process_time() - began):.0f} ms"
            yield Row(f"decoding {name}", SECONDS / took, "x real time", note=note)
    began = time.process_time()
    spans = segment(samples, SegmenterConfig())
    yield Row(
        "segmentation",
        SECONDS / (time.process_time() - began),
        "x real time",
        note=f"{len(spans)} segments out of {SECONDS} s",
    )
