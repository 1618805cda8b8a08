"""Speakers: DER and number of speakers on conversations of recorded voices, cost, and two hours clustered"""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Iterator

import numpy as np

from actors.config.speakers import SpeakersConfig
from actors.errors import FatalError
from actors.records import SAMPLING_RATE, Row
from actors.speakers.actor import SpeakerActor
from pipelines.evaluation.metrics.speakers import COLLARS, DiarizationErrors, diarization_errors
from pipelines.stitching.speakers import SpeakerSettings, find_speakers
from tests.benchmarks.workloads import rows
from tests.benchmarks.workloads.conversations import (
    Conversation,
    converse,
    corpus_voices,
    noisy,
    telephone,
)

LIMIT_SECONDS = 3600
BY_NAME = True
SEED = 2026
# Speakers and minutes of the conversations; the first ones are also made noisy and sent over a telephone.
CAST = [(2, 5), (3, 8), (4, 5), (5, 12), (2, 20), (3, 5), (4, 8), (5, 5)]
ALTERED = 4
FULL_CAST = [(1, 5), (2, 40), (3, 40), (4, 30), (5, 40), (2, 10), (3, 15), (4, 20), (5, 30)]


def measure(full: bool) -> Iterator[rows.Row]:
    """See `tests.benchmarks.__main__`."""
    try:
        voices = corpus_voices()
        actor = SpeakerActor(SpeakersConfig(backend="campplus", device="cpu", threads=1))
    except (FileNotFoundError, FatalError) as error:
        raise rows.Skipped(str(error)) from error
    library = {name: clips for name, clips in voices.items() if sum(map(len, clips)) >= 8 * SAMPLING_RATE}
    cost, hours = 0.0, 0.0
    results: dict[str, list[tuple[dict[float, DiarizationErrors], int]]] = {}
    for number, (people, minutes) in enumerate([*CAST, *(FULL_CAST if full else [])]):
        rng = np.random.default_rng([SEED, number])
        made = converse(rng, _chosen(rng, library, people), people, 60.0 * minutes)
        versions = {"clean": made.samples}
        if number < ALTERED:
            versions |= {"noise at 15 dB": noisy(rng, made.samples, 15), "telephone": telephone(made.samples)}
        for condition, samples in versions.items():
            began = time.process_time()
            [row] = actor([_decoded(samples)])
            if condition == "clean":
                cost, hours = cost + time.process_time() - began, hours + len(samples) / SAMPLING_RATE / 3600
            errors, count = _score(row, made, len(samples) / SAMPLING_RATE)
            results.setdefault(condition, []).append((errors, count - people))
            print(condition, people, count, {collar: errors[collar].rate for collar in COLLARS}, flush=True)
    for condition, found in results.items():
        is_clean = condition == "clean"
        note = f"mean of {len(found)} conversations, {condition}"
        for collar in COLLARS:
            rate = float(np.mean([errors[collar].rate for errors, _ in found]))
            aim = "<= 12" if is_clean and collar == 0.25 else ""
            yield rows.Row(f"DER, {condition}, collar {collar:g} s", 100 * rate, "%", aim, note)
        right = float(np.mean([difference == 0 for _, difference in found]))
        aim = ">= 80" if is_clean else ""
        yield rows.Row(f"right number of speakers, {condition}", 100 * right, "%", aim, note)
    yield rows.Row("cost of turns and embeddings", cost / hours, "core-s/h", "<= 120", "one thread")
    yield from _two_hours()


def _chosen(
    rng: np.random.Generator, voices: dict[str, list[np.ndarray]], people: int
) -> dict[str, list[np.ndarray]]:
    """At least one voice with several clips, the others from all."""
    several = sorted(name for name in voices if name.startswith("ls_"))
    first = list(rng.choice(several, int(rng.integers(1, min(people, len(several)) + 1)), replace=False))
    others = sorted(set(voices) - set(several))
    names = [*first, *rng.choice(others, people - len(first), replace=False)]
    return {name: voices[name] for name in names}


def _decoded(samples: np.ndarray) -> Row:
    pcm = np.clip(np.round(samples * 32767), -32768, 32767).astype("<i2")
    seconds = len(pcm) / SAMPLING_RATE
    segment = {"start": 0.0, "end": seconds, "channel": None, "samples": pcm.tobytes(), "flags": []}
    return {
        "shard_id": "r", "recording_id": "r", "index": 0, "status": "ok", "flags": [], "metadata": "{}",
        "channel": None, "channels": 1, "segments": [segment],
    }  # fmt: skip


def _score(row: Row, made: Conversation, seconds: float) -> tuple[dict[float, DiarizationErrors], int]:
    _, speakers = find_speakers([row], [], SpeakerSettings())
    found = [(turn.start, turn.end, one.speaker) for one in speakers or [] for turn in one.turns]
    errors = {collar: diarization_errors(made.turns, found, seconds, collar) for collar in COLLARS}
    return errors, len(speakers or [])


def _two_hours() -> Iterator[rows.Row]:
    """Stitching of two hours with four speakers, from made-up voices: time and memory."""
    rng = np.random.default_rng(SEED)
    centres = np.linalg.qr(rng.normal(size=(192, 4)))[0].T
    turns, voices, position = [], [], 0.0
    while position < 7200:
        person, length = int(rng.integers(4)), float(np.clip(rng.lognormal(1.5, 0.8), 1, 20))
        stretch = len(turns)
        turns.append(
            {
                "start": position,
                "end": position + length,
                "channel": None,
                "track": stretch,
                "stretch": stretch,
            }
        )
        for start in np.arange(position, max(position + 0.1, position + length - 0.5), 1.0).tolist():
            vector = centres[person] + 0.6 * rng.normal(size=192) / np.sqrt(192)
            embedding = (vector / np.linalg.norm(vector)).astype("<f2").tobytes()
            voices.append(
                {
                    "start": start,
                    "end": start + 1.5,
                    "seconds": 1.5,
                    "stretch": stretch,
                    "embedding": embedding,
                }
            )
        position += length + 0.5
    row: Row = {
        "index": 0, "metadata": json.dumps({}), "channel": None, "channels": 1, "turns": turns,
        "voices": voices, "speaker_model": "campplus made-up",
    }  # fmt: skip
    began = time.process_time()
    _, speakers = find_speakers([row], [], SpeakerSettings())
    seconds = time.process_time() - began
    tracemalloc.start()
    find_speakers([row], [], SpeakerSettings())
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    note = f"{len(speakers or [])} speakers found of 4, {len(voices):,} windows"
    yield rows.Row("two hours with four speakers, clustered", seconds, "s", "<= 30", note)
    yield rows.Row("memory of that", peak, "MB", "<= 500", note)
