"""Our greedy decoding against transformers' own `generate`, and what is done for rows that have ended."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from actors.backends.transformers.asr import TransformersASR  # noqa: E402
from actors.backends.transformers.generation import generate  # noqa: E402
from actors.backends.transformers.kv_cache import GROUPED, KeyValues  # noqa: E402
from actors.config import ASRConfig  # noqa: E402
from actors.records import SegmentRequest  # noqa: E402

BUDGETS = [17, 3, 40, 1, 9, 26]


@pytest.fixture(scope="module", params=["float64", "float32"])
def backend(request, tiny_models) -> TransformersASR:
    return TransformersASR(ASRConfig(model=str(tiny_models.asr), dtype=request.param))


@pytest.fixture
def inputs(backend, waveforms) -> dict[str, Any]:
    return backend.prepare([SegmentRequest(waveform) for waveform in waveforms])


def theirs(
    backend: TransformersASR, inputs: dict[str, Any], budgets: list[int], ends: list[int]
) -> list[list[int]]:
    settings = transformers.GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=max(budgets),
        eos_token_id=ends,
        pad_token_id=ends[0],
        use_cache=True,
    )
    with torch.inference_mode():
        rows = backend.network.generate(**inputs, generation_config=settings)[
            :, inputs["input_ids"].shape[1] :
        ].tolist()
    cut = []
    for row, budget in zip(rows, budgets, strict=True):
        end = next((place + 1 for place, token in enumerate(row) if token in ends), len(row))
        cut.append(row[: min(end, budget)])
    return cut


def ours(
    backend: TransformersASR, inputs: dict[str, Any], budgets: list[int], ends: list[int]
) -> list[list[int]]:
    with torch.inference_mode():
        rows = generate(backend.network, inputs, budgets, ends, backend._prefiller)
    assert all(len(row.tokens) == len(row.logprobs) and max(row.logprobs) <= 0 for row in rows)
    return [row.tokens for row in rows]


def test_the_tokens_are_those_of_transformers(backend, inputs) -> None:
    assert ours(backend, inputs, BUDGETS, backend.processor.ends) == theirs(
        backend, inputs, BUDGETS, backend.processor.ends
    )


def test_rows_end_at_any_of_the_ends(backend, inputs) -> None:
    """Tokens that these rows do say, as ends: rows stop at different steps, and the others go on undisturbed."""
    said = theirs(backend, inputs, [40] * 6, backend.processor.ends)
    ends = [said[0][2], said[2][11], *backend.processor.ends]
    expected = theirs(backend, inputs, [40] * 6, ends)
    assert len({len(row) for row in expected}) > 2
    assert ours(backend, inputs, [40] * 6, ends) == expected


def test_rows_that_have_ended_cost_nothing(backend, inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    forward = backend.network.lm_head.forward
    monkeypatch.setattr(
        backend.network.lm_head, "forward", lambda hidden: sizes.append(len(hidden)) or forward(hidden)
    )
    ours(backend, inputs, BUDGETS, backend.processor.ends)
    assert sizes[0] == 6 and sizes[-1] == 1
    assert sum(sizes) < 0.6 * 6 * 40


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_every_attention_says_the_same(tiny_models, backend, inputs, attention: str) -> None:
    other = TransformersASR(
        ASRConfig(model=str(tiny_models.asr), dtype=backend.config.dtype, attention=attention)
    )
    assert (other.network.model.language_model.config._attn_implementation == GROUPED) == (
        attention == "sdpa"
    )
    assert ours(other, inputs, BUDGETS, backend.processor.ends) == ours(
        backend, inputs, BUDGETS, backend.processor.ends
    )


def test_a_prompt_leaves_the_same_in_the_cache_in_every_batch(backend, waveforms) -> None:
    """Bit for bit, on a CPU: what the steps start from does not depend on the neighbours."""
    from actors.backends.transformers.generation import _prefill

    caches = []
    for clips in (waveforms, waveforms[4:5]):
        inputs = backend.prepare([SegmentRequest(clip) for clip in clips])
        decoder = backend.network.model.language_model
        cache = KeyValues(decoder, len(clips), inputs["input_ids"].shape[1])
        with torch.inference_mode():
            hidden = _prefill(
                backend.network, backend._prefiller or decoder, inputs, inputs["attention_mask"].bool(), cache
            )
        caches.append((cache, hidden))
    (together, hidden), (alone, hidden_alone) = caches
    padding = together.length - alone.length
    assert padding > 0 and torch.equal(hidden[4], hidden_alone[0])
    for layer, layer_alone in zip(together.layers, alone.layers, strict=True):
        for memory, memory_alone in zip(layer, layer_alone, strict=True):
            assert torch.equal(memory[4, :, padding:], memory_alone[0]) and not memory[4, :, :padding].any()
