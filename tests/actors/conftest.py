"""Fixtures for the tests of the actors: tiny models, and recordings in many codecs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.actors.backends.remote.remote_backends import fast_retries, make, server  # noqa: F401 - fixtures
from tests.actors.tiny_models import tiny_models  # noqa: F401 - a fixture

# Set before anything imports torch: several threads that wait for each other on busy cores make models this
# small a hundred times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def waveforms() -> list[np.ndarray]:
    """Six clips of 0.3 to 9.7 s, int16: shaped noise, different in each."""
    rng = np.random.default_rng(7)
    clips = []
    for seconds in (3.41, 0.3, 9.7, 1.0, 5.55, 2.003):
        samples = round(seconds * 16_000)
        envelope = np.abs(np.sin(np.linspace(0, 3 + seconds, samples)))
        clips.append((rng.standard_normal(samples) * envelope * 4000).clip(-32768, 32767).astype(np.int16))
    return clips


# File name -> (codec, sampling rate, muxer options).
CODECS = {
    "pcm.wav": ("pcm_s16le", 16_000, {}),
    "pcm44.wav": ("pcm_s16le", 44_100, {}),
    "lossless.flac": ("flac", 44_100, {}),
    "constant.mp3": ("libmp3lame", 44_100, {}),
    "tagless.mp3": ("libmp3lame", 22_050, {"write_xing": "0"}),
    "lossy.m4a": ("aac", 44_100, {}),
    "raw.aac": ("aac", 32_000, {}),
    "lossy.opus": ("libopus", 48_000, {}),
    "lossy.webm": ("libopus", 48_000, {}),
    "live.webm": ("libopus", 48_000, {"live": "1"}),
    "lossy.mkv": ("aac", 48_000, {}),
    "vorbis.ogg": ("vorbis", 22_050, {}),
}


def make_speech(seconds: float, rate: int, seed: int = 0) -> np.ndarray:
    """A sound like speech: voiced bursts of 0.3 to 2 s with pauses of 0.1 to 0.8 s over faint noise.

    float64, with a peak of about 0.4.
    """
    rng = np.random.default_rng(seed)
    count = round(seconds * rate)
    wave = 0.0003 * rng.standard_normal(count)
    place = 0
    while place < count:
        burst, pause = int(rng.uniform(0.3, 2.0) * rate), int(rng.uniform(0.1, 0.8) * rate)
        time = np.arange(min(burst, count - place)) / rate
        pitch = rng.uniform(90, 220)
        voice = sum(np.sin(2 * np.pi * pitch * k * time + rng.uniform(0, 6)) / k for k in range(1, 12))
        wave[place : place + len(time)] += (
            0.12 * voice * np.sin(np.pi * np.arange(len(time)) / len(time)) ** 0.5
        )
        place += burst + pause
    return wave


def write_audio(
    path: Path, wave: np.ndarray, codec: str, rate: int, options: dict[str, str] | None = None
) -> Path:
    """Encode float samples of shape (samples,) or (samples, channels) with PyAV, Vorbis with libsndfile."""
    wave = wave.reshape(len(wave), -1)
    if codec == "vorbis":
        import soundfile

        with soundfile.SoundFile(path, "w", rate, wave.shape[1], format="OGG", subtype="VORBIS") as file:
            for begin in range(0, len(wave), rate):
                file.write(wave[begin : begin + rate])
        return path
    import av

    layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}[wave.shape[1]]
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        if codec in ("aac", "libmp3lame", "libopus"):
            stream.bit_rate = 64_000 * wave.shape[1]
        for begin in range(0, len(wave), rate):
            part = (wave[begin : begin + rate].clip(-1, 1) * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(part.reshape(1, -1), format="s16", layout=layout)
            frame.sample_rate, frame.pts = rate, begin
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def speech() -> Any:
    """The function `make_speech`."""
    return make_speech


@pytest.fixture(scope="session")
def write() -> Any:
    """The function `write_audio`."""
    return write_audio


@pytest.fixture(scope="session")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`encoded(name, seconds)` is the path of a recording in one of `CODECS`, made once per session."""
    folder = tmp_path_factory.mktemp("encoded")

    def get(name: str, seconds: int = 40) -> Path:
        path = folder / f"{seconds}_{name}"
        if not path.exists():
            codec, rate, options = CODECS[name]
            write_audio(path, make_speech(seconds, rate), codec, rate, options)
        return path

    return get


@pytest.fixture(scope="session")
def corpus_dir() -> Path:
    """The folder of real recordings; skips the test where there is none."""
    folder = Path(
        os.environ.get("CORPUS_DIR") or Path(__file__).resolve().parents[2].parent / "shared" / "corpus"
    )
    if not (folder / "manifest.jsonl").exists():
        pytest.skip(f"no {folder}/manifest.jsonl: set CORPUS_DIR to a folder with the real recordings")
    return folder
