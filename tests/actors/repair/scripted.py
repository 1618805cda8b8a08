"""A recogniser that answers as a script says, for tests of the ladder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from actors.backends.base import ASRBackend
from actors.config.repair import RepairConfig
from actors.records import SAMPLING_RATE, Hypothesis, SegmentRequest
from actors.repair.budget import LocalBudget
from actors.repair.ladder import Ladder, Result

LOOP, DOUBT, LEAK = "loop_collapsed", "low_confidence", "context_leaked"


class Scripted(ASRBackend):
    """Answers each request by a function of it, and remembers the calls."""

    model, revision, takes_repetition_penalty = "scripted", "1", True

    def __init__(self, answer: Callable[[SegmentRequest], Result]) -> None:
        self.answer = answer
        self.calls: list[list[SegmentRequest]] = []
        self.probabilities: dict[str, float] = {}

    def transcribe(self, requests: Sequence[SegmentRequest]) -> list[Result]:
        self.calls.append(list(requests))
        return [self.answer(request) for request in requests]

    def language_probabilities(
        self, requests: Sequence[SegmentRequest], languages: Sequence[Sequence[str]]
    ) -> list[dict[str, float]]:
        return [
            {name: self.probabilities[name] for name in names if name in self.probabilities}
            for names in languages
        ]


def speech(seconds: float, seed: int = 0) -> np.ndarray:
    """Bursts of noise with pauses, 0.7 s and 0.3 s, from which the same seed makes the same samples."""
    total = round(seconds * SAMPLING_RATE)
    noise = np.random.default_rng(seed).normal(0, 3000, total)
    return (noise * ((np.arange(total) % SAMPLING_RATE) < 0.7 * SAMPLING_RATE)).astype(np.int16)


def text(words: str, *flags: str, language: str | None = "English", **fields: Any) -> Hypothesis:
    values: dict[str, Any] = {"confidence": 0.9, "tokens": 5, "raw": words, **fields}
    return Hypothesis(words, language, flags=tuple(flags), **values)


def ladder(
    backend: Scripted, seconds: float = 1e6, config: RepairConfig | None = None, check: Any = None
) -> Ladder:
    """A ladder that may decode so many seconds again; answers keep the flags that they come with."""
    return Ladder(
        config or RepairConfig(),
        backend,
        backend.transcribe,
        check or (lambda request, hypothesis: hypothesis),
        LocalBudget(0.0, seconds),
    )


def repaired(
    backend: Scripted, request: SegmentRequest, *others: SegmentRequest, **arguments: Any
) -> list[Result]:
    """First answers and their repair; the calls of the first answers are forgotten."""
    requests = [request, *others]
    first = backend.transcribe(requests)
    backend.calls.clear()
    return ladder(backend, **arguments).repaired(requests, first)


def is_whole(request: SegmentRequest, seconds: float) -> bool:
    return abs(request.duration - seconds) < 0.01


def flagged(hypothesis: Hypothesis, *flags: str) -> Hypothesis:
    return replace(hypothesis, flags=(*hypothesis.flags, *flags))
