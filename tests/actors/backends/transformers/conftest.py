"""A tiny recogniser, its prompts, and what a plain loop over transformers' own model answers to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

from actors.config import ASRConfig
from actors.records import SegmentRequest

if TYPE_CHECKING:
    from actors.backends.transformers.asr import TransformersASR
    from actors.backends.transformers.prompts import Prompt
    from tests.actors.backends.transformers.decoding import Answers


@pytest.fixture(scope="module", params=["float64", "float32"])
def backend(request, tiny_models) -> TransformersASR:
    from actors.backends.transformers.asr import TransformersASR

    return TransformersASR(ASRConfig(model=str(tiny_models.asr), dtype=request.param))


@pytest.fixture(scope="module")
def prompts(backend, waveforms) -> list[Prompt]:
    from actors.backends.transformers.prompts import Prompt

    made = backend.prompts([SegmentRequest(waveform) for waveform in waveforms])
    assert all(isinstance(prompt, Prompt) for prompt in made)
    return made


@pytest.fixture(scope="module")
def reference(backend, tiny_models, prompts) -> Any:
    """`reference(budgets, ends)`: what the plain loop answers to all prompts."""
    from tests.actors.backends.transformers.reference_decoding import load_reference, reference_decode

    model, prefiller = load_reference(tiny_models.asr, backend.dtype)

    def decode(
        budgets: Sequence[int], ends: Sequence[int], penalties: Sequence[float] | None = None
    ) -> Answers:
        return [
            reference_decode(model, prefiller, prompt.tokens, prompt.features, budget, ends, penalty)
            for prompt, budget, penalty in zip(
                prompts, budgets, penalties or [1.0] * len(prompts), strict=True
            )
        ]

    return decode
