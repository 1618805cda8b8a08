"""How fast audio is decoded and cut on one core, as multiples of real time: `python tests/benchmarks/bench_audio.py [--minutes 10]`.

CPU time counts beside wall time: on a busy machine it is the truer figure. Encoding the samples takes a while and is not measured.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from actors.audio import decode_span
from actors.config import SegmenterConfig
from actors.decoder import border
from actors.segmentation import segment
from actors.sources import open_audio
from actors.timeline import Recording

CASES = {
    "16 kHz pcm.wav": ("pcm_s16le", 16_000, 1),
    "44.1 kHz stereo pcm.wav": ("pcm_s16le", 44_100, 2),
    "44.1 kHz flac": ("flac", 44_100, 1),
    "44.1 kHz mp3": ("libmp3lame", 44_100, 1),
    "44.1 kHz aac.m4a": ("aac", 44_100, 1),
    "48 kHz opus": ("libopus", 48_000, 1),
    "48 kHz opus.webm": ("libopus", 48_000, 1),
    "8 kHz mulaw.wav": ("pcm_mulaw", 8_000, 1),
}


def write(path: Path, codec: str, rate: int, channels: int, seconds: int) -> None:
    """A minute of voice-like sound, over and over."""
    rng = np.random.default_rng(0)
    t = np.arange(60 * rate) / rate
    gate = np.sin(2 * np.pi * 0.3 * t) > -0.5
    voice = gate * sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 9)) * 0.15 + 0.0005 * rng.standard_normal(len(t))
    minute = np.repeat((voice * 32767).astype(np.int16), channels)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="stereo" if channels == 2 else "mono")
        for second in range(seconds):
            begin = second % 60 * rate * channels
            frame = av.AudioFrame.from_ndarray(minute[None, begin : begin + rate * channels], format="s16", layout=stream.layout.name)
            frame.sample_rate, frame.pts = rate, second * rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=10)
    seconds = 60 * parser.parse_args().minutes
    print(f"{'case':26} {'wall x':>8} {'CPU x':>8} {'border ms CPU':>14}")
    samples = np.zeros(0, np.int16)
    with tempfile.TemporaryDirectory() as folder:
        for name, (codec, rate, channels) in CASES.items():
            path = Path(folder) / ("a." + name.replace(".", " ").split()[-1])
            write(path, codec, rate, channels, seconds)
            with open_audio(str(path)) as file:
                recording = Recording(file)
                wall, cpu = time.perf_counter(), time.process_time()
                samples = decode_span(recording, 0, None).samples[0]
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                begin = time.process_time()
                border(recording, seconds * 0.7)
                print(f"{name:26} {seconds / wall:8.0f} {seconds / cpu:8.0f} {1000 * (time.process_time() - begin):14.0f}")
    wall, cpu = time.perf_counter(), time.process_time()
    spans = segment(samples, SegmenterConfig())
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{f'segmentation, {len(spans)} spans':26} {seconds / wall:8.0f} {seconds / cpu:8.0f}")


if __name__ == "__main__":
    main()
