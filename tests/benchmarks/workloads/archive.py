"""A mixed archive like real ones: long recordings and short clips of one voice in six formats, generated in a
folder.

The voice is five minutes of read speech from the corpus (beside the repository, or in CORPUS_DIR) where
available, else a synthetic one. It is encoded once per format; longer files repeat the packets, which costs a
decoder exactly as much as new ones and takes no time to make. (FLAC numbers its frames, so there every packet
is encoded.)
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import soxr

# Seconds that are encoded once.
PIECE = 300
# Approximate seconds of a short clip; lengths differ.
CLIP = 8


@dataclass(frozen=True)
class Format:
    """A codec in its usual container; `rate` in Hz, `bit_rate` in bit/s (None: the codec's default)."""

    name: str
    suffix: str
    codec: str
    rate: int
    channels: int = 1
    bit_rate: int | None = None


FORMATS = (
    Format("mp3", "mp3", "libmp3lame", 44_100, bit_rate=64_000),
    Format("m4a", "m4a", "aac", 44_100, bit_rate=64_000),
    Format("opus", "opus", "libopus", 48_000, bit_rate=32_000),
    Format("flac", "flac", "flac", 44_100),
    Format("wav 16 kHz", "wav", "pcm_s16le", 16_000),
    Format("wav 48 kHz stereo", "wav", "pcm_s16le", 48_000, channels=2),
)


@dataclass(frozen=True)
class File:
    """One file of the archive and its length in seconds."""

    path: Path
    format: Format
    seconds: float


def build(folder: Path, long_seconds: int, clips: int, formats: tuple[Format, ...] = FORMATS) -> list[File]:
    """Write one long file and some clips in each format.

    Args:
        folder: where to.
        long_seconds: of the long file of each format; 0: none.
        clips: short files of each format.
        formats: which.
    """
    rng = np.random.default_rng(0)
    voice = speech()
    files = []
    for format in formats:
        samples = _suited(voice, format)
        if long_seconds:
            path = folder / f"long-{format.name.replace(' ', '-')}.{format.suffix}"
            _write(path, format, samples, long_seconds)
            files.append(File(path, format, long_seconds))
        for number in range(clips):
            seconds = CLIP * float(rng.uniform(0.5, 1.5))
            begin = int(rng.uniform(0, PIECE - seconds) * format.rate)
            path = folder / f"clip-{format.name.replace(' ', '-')}-{number:04d}.{format.suffix}"
            _write(path, format, samples[begin : begin + int(seconds * format.rate)], None)
            files.append(File(path, format, seconds))
    return files


def hours(files: list[File]) -> float:
    """Total seconds of audio."""
    return sum(file.seconds for file in files) / 3600


def speech() -> np.ndarray:
    """PIECE seconds of voice, int16 mono at 48 kHz."""
    corpus = Path(os.environ.get("CORPUS_DIR") or Path(__file__).resolve().parents[4] / "shared" / "corpus")
    path = corpus / "audio" / "long_de_kerstin_24min.opus"
    return _read(path) if path.exists() else _synthetic()


def _read(path: Path) -> np.ndarray:
    pieces: list[np.ndarray] = []
    resampler = av.AudioResampler(format="s16", layout="mono", rate=48_000)
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            pieces.extend(piece.to_ndarray()[0] for piece in resampler.resample(frame))
            if len(pieces) * len(pieces[0]) >= PIECE * 48_000:
                break
    return np.concatenate(pieces)[: PIECE * 48_000]


def _synthetic() -> np.ndarray:
    """A minute of sound with pitch, syllables and pauses, repeated."""
    rng = np.random.default_rng(0)
    t = np.arange(60 * 48_000) / 48_000
    gate = (np.sin(2 * np.pi * 0.3 * t) > -0.5) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * t))
    pitch = 2 * np.pi * np.cumsum(140 + 20 * np.sin(2 * np.pi * 0.7 * t)) / 48_000
    voice = gate * sum(np.sin(k * pitch) / k for k in range(1, 25)) * 0.15 + 0.001 * rng.standard_normal(
        len(t)
    )
    return np.tile((voice * 32767).astype(np.int16), PIECE // 60)


def _suited(voice: np.ndarray, format: Format) -> np.ndarray:
    """int16, shape (samples, channels), at the format's rate."""
    samples = voice if format.rate == 48_000 else soxr.resample(voice, 48_000, format.rate, "HQ")
    # A second microphone: softer and slightly later, not a copy.
    return np.stack([samples] + [np.roll(samples, 20) // 2 for _ in range(1, format.channels)], axis=1)


def _write(path: Path, format: Format, samples: np.ndarray, seconds: int | None) -> None:
    """Encode samples; with `seconds`, repeat their packets until the file is that long."""
    with av.open(str(path), "w") as container:
        options: dict[str, Any] = {"bit_rate": format.bit_rate} if format.bit_rate else {}
        stream: Any = container.add_stream(
            format.codec, rate=format.rate, layout="stereo" if format.channels == 2 else "mono", **options
        )
        packets = []
        if format.codec == "flac" and seconds is not None:
            samples, seconds = np.tile(samples, (max(1, seconds // PIECE), 1)), None
        wanted = stream.format.name
        resampler = av.AudioResampler(format=wanted, layout=stream.layout.name, rate=format.rate)
        for begin in range(0, len(samples), format.rate):
            block = np.ascontiguousarray(samples[begin : begin + format.rate]).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout=stream.layout.name)
            frame.sample_rate, frame.pts = format.rate, begin
            for piece in resampler.resample(frame):
                packets.extend(stream.encode(piece))
        packets.extend(stream.encode(None))
        length = sum(packet.duration or 0 for packet in packets)
        for round_ in range(1 if seconds is None else max(1, seconds // PIECE)):
            for packet in packets:
                copy = av.Packet(bytes(packet))
                copy.stream, copy.time_base = stream, packet.time_base
                copy.pts = packet.pts + round_ * length
                copy.dts, copy.duration = copy.pts, packet.duration
                container.mux(copy)
