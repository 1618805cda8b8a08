"""Conversations of tones, in which a pitch is a person of the fake speaker model."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from actors.records import SAMPLING_RATE

PITCHES = (300.0, 900.0, 1500.0, 2100.0, 2700.0)

# Start, end, person.
Tone = tuple[float, float, int]


def conversation(tones: Iterable[Tone], seconds: float) -> np.ndarray:
    """Samples of tones, int16."""
    samples = np.zeros(round(seconds * SAMPLING_RATE))
    for start, end, person in tones:
        first, last = round(start * SAMPLING_RATE), round(end * SAMPLING_RATE)
        time = np.arange(last - first) / SAMPLING_RATE
        samples[first:last] += 6000 * np.sin(2 * np.pi * PITCHES[person] * time)
    return samples.astype("<i2")


def decoded(
    samples: np.ndarray, shards: int = 1, longest: float = 60.0, channel: int | None = None, **columns: object
) -> list[dict]:
    """DECODED rows of the samples, cut into equal shards, and these into segments of at most `longest`."""
    borders = [round(len(samples) * number / shards) for number in range(shards + 1)]
    rows = []
    for index, (first, last) in enumerate(pairwise(borders)):
        step = round(longest * SAMPLING_RATE)
        pieces = [(start, min(last, start + step)) for start in range(first, last, step)]
        rows.append(
            {
                "shard_id": f"r-{index}", "recording_id": "r", "audio": "r.wav", "index": index,
                "shard_count": shards, "start": first / SAMPLING_RATE, "end": last / SAMPLING_RATE,
                "status": "ok", "flags": [], "channel": None, "channels": 1, "metadata": "{}", "attempt": 1,
                "decoded_start": first / SAMPLING_RATE, "decoded_end": last / SAMPLING_RATE,
                "segments": [_segment(samples, *piece, channel) for piece in pieces],
            } | columns
        )  # fmt: skip
    return rows


def _segment(samples: np.ndarray, first: int, last: int, channel: int | None) -> dict:
    return {
        "start": first / SAMPLING_RATE,
        "end": last / SAMPLING_RATE,
        "channel": channel,
        "samples": samples[first:last].tobytes(),
        "flags": [],
    }


def alternating(people: Sequence[int], turn: float = 4.0, pause: float = 0.5) -> tuple[list[Tone], float]:
    """Turns of these people one after the other, and how many seconds they take."""
    tones, position = [], pause
    for person in people:
        tones.append((position, position + turn, person))
        position += turn + pause
    return tones, position
