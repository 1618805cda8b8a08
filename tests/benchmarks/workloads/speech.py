"""Audio of the model benchmarks: the bundled demo recordings, segmented as in the job."""

from __future__ import annotations

from typing import Any

import numpy as np

from actors.config import SegmenterConfig
from actors.records import SAMPLING_RATE
from actors.segmentation.energy import segment
from tests.benchmarks.workloads.checkpoints import DEMO

READABLE = (
    ".wav",
    ".flac",
    ".ogg",
    ".opus",
    # Read by libsndfile, whatever its version; the one long recording is an mp3.
)
LONG = "long-meeting.mp3"


def demo_recordings() -> list[np.ndarray]:
    """The demo's recordings as int16 at 16 kHz, without the silent, the broken and the video."""
    import soundfile
    import soxr

    waves = []
    for path in sorted((DEMO / "audio").iterdir()):
        if path.suffix in READABLE or path.name == LONG:
            audio, rate = soundfile.read(path, always_2d=True)
            waves.append(
                (soxr.resample(audio.mean(1), rate, SAMPLING_RATE) * 32768).clip(-32768, 32767).astype("<i2")
            )
    return waves


def demo_segments(most_seconds: float = 15) -> list[np.ndarray]:
    """Their speech in segments of at most `longest` seconds: 26 segments, 262 s in all, at 15."""
    config = SegmenterConfig(max_duration=most_seconds)
    return [wave[span.start : span.end] for wave in demo_recordings() for span in segment(wave, config)]


def pieces(count: int, seconds: float) -> list[np.ndarray]:
    """`count` pieces of exactly `seconds`, cut from the demo's speech joined together and repeated where it
    is too short.
    """
    speech = np.concatenate(demo_segments())
    length = round(seconds * SAMPLING_RATE)
    endless = np.resize(speech, count * length)
    return [endless[start : start + length] for start in range(0, count * length, length)]


def rows_of(segments: list[np.ndarray]) -> list[dict[str, Any]]:
    """DECODED rows as the recognising actor gets them, ten segments a row as in a shard of two minutes."""
    found = []
    for start in range(0, len(segments), 10):
        listed, place = [], 0.0
        for wave in segments[start : start + 10]:
            end = place + len(wave) / SAMPLING_RATE
            listed.append({"start": place, "end": end, "channel": None, "samples": wave.tobytes()})
            place = end
        found.append(
            {"status": "ok", "language": None, "context": "", "error_code": None, "segments": listed}
        )
    return found


def duration(segments: list[np.ndarray]) -> float:
    """Total seconds."""
    return sum(map(len, segments)) / SAMPLING_RATE
