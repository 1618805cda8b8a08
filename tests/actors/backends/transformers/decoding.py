"""Decoding of prompts by the generator, and answers compared."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from actors.backends.transformers.asr import TransformersASR
from actors.backends.transformers.generation import Generator, Limits
from actors.backends.transformers.prompts import Prompt
from actors.backends.transformers.scheduler import Generated, Job

Answers = list[tuple[list[int], list[float]]]


def decode(
    backend: TransformersASR,
    prompts: Sequence[Prompt],
    budgets: Sequence[int],
    ends: Sequence[int],
    limits: Limits = Limits(10_000, 128),  # noqa: B008
    generator: Generator | None = None,
    penalties: Sequence[float] | None = None,
) -> Answers:
    generator = generator or Generator(backend.network, ends)
    jobs = [
        Job(len(prompt.tokens) + budget, budget, prompt.features.frames / 100, penalty)
        for prompt, budget, penalty in zip(prompts, budgets, penalties or [1.0] * len(prompts), strict=True)
    ]
    answers: dict[int, Generated] = {}

    def done(number: int, answer: Generated | Exception) -> None:
        assert isinstance(answer, Generated) and number not in answers
        answers[number] = answer

    generator.generate(jobs, lambda numbers: [prompts[number] for number in numbers], limits, done)
    found = [answers[number] for number in range(len(prompts))]
    assert all(len(row.tokens) == len(row.logprobs) and max(row.logprobs) <= 0 for row in found)
    return [(row.tokens, row.logprobs) for row in found]


def assert_equal(found: Answers, wanted: Answers) -> None:
    assert [tokens for tokens, _ in found] == [tokens for tokens, _ in wanted]
    for (_, scores), (_, wanted_scores) in zip(found, wanted, strict=True):
        assert scores == pytest.approx(wanted_scores, abs=2e-5)
