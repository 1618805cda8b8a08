"""The index arithmetic of flash attention against SDPA; torch's operator is emulated: no CPU runs it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from actors.backends.transformers.asr import TransformersASR  # noqa: E402
from actors.backends.transformers.decode_step import Policy  # noqa: E402
from actors.backends.transformers.generation import Generator, Limits  # noqa: E402
from actors.backends.transformers.kernels import attention  # noqa: E402
from actors.backends.transformers.kernels.attention import (  # noqa: E402
    Packing,
    attend_packed,
    attend_slots,
    flash_problem,
    slot_keys,
)
from actors.backends.transformers.scheduler import Job  # noqa: E402
from actors.config import ASRConfig  # noqa: E402
from actors.records import SegmentRequest  # noqa: E402

CPU = torch.device("cpu")


def emulated(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    query_bounds: torch.Tensor,
    key_bounds: torch.Tensor,
    longest_query: int,
    longest_key: int,
    dropout: float,
    causal: bool,
    debug_mask: bool,
    *,
    scale: float,
    seqused_k: torch.Tensor | None = None,
) -> torch.Tensor:
    """`aten::_flash_attention_forward` on packed sequences, with what it demands of its arguments."""
    assert dropout == 0 and not debug_mask
    assert query_bounds.dtype == key_bounds.dtype == torch.int32
    assert len(query_bounds) == len(key_bounds) and query_bounds.is_contiguous()
    assert query_bounds[-1] <= len(query) and key_bounds[-1] <= len(key)
    assert all(tensor.dim() == 3 and tensor.stride(-1) == 1 for tensor in (query, key, value))
    copies = query.shape[1] // key.shape[1]
    output = torch.full_like(query, float("nan"))
    for number in range(len(query_bounds) - 1):
        first, last = query_bounds[number], query_bounds[number + 1]
        start, end = key_bounds[number], key_bounds[number + 1]
        if seqused_k is not None:
            assert seqused_k.dtype == torch.int32 and len(seqused_k) == len(query_bounds) - 1
            end = start + seqused_k[number]
        assert last - first <= longest_query and end - start <= longest_key and end > start
        q, k, v = query[first:last], key[start:end], value[start:end]
        k, v = k.repeat_interleave(copies, 1), v.repeat_interleave(copies, 1)
        scores = torch.einsum("qhd,khd->hqk", q, k) * scale
        if causal:
            # Aligned to the last key, as flash attention has it.
            late = torch.ones(scores.shape[1:], dtype=torch.bool).triu(1 + len(k) - len(q))
            scores = scores.masked_fill(late, float("-inf"))
        output[first:last] = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v)
    return output


@pytest.fixture
def flash(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(attention, "flash_operator", emulated)
    yield


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("lengths", [[1], [104, 104, 7], [5, 130, 5, 5, 64], [3, 1, 1, 2]])
def test_packed_sequences(flash, lengths: list[int], causal: bool) -> None:
    packing = Packing.of(lengths, CPU)
    tokens = sum(lengths)
    query, key, value = random(tokens, 6, 8), random(tokens, 3, 8, seed=1), random(tokens, 3, 8, seed=2)
    found = attend_packed(query, key, value, packing, causal=causal, flash=True)
    wanted = attend_packed(query, key, value, packing, causal=causal, flash=False)
    assert torch.allclose(found, wanted)
    # Each sequence as if it stood alone.
    start = 0
    for length in lengths:
        part = slice(start, start + length)
        single = attend_packed(
            query[part], key[part], value[part], Packing.of([length], CPU), causal=causal, flash=False
        )
        assert torch.allclose(wanted[part], single)
        start += length


@pytest.mark.parametrize("lengths", [[1], [1, 40, 17], [48, 48], [3, 1, 1, 2]])
def test_slots(flash, lengths: list[int]) -> None:
    rows, capacity = len(lengths), 48
    query, keys, values = (
        random(rows, 6, 8),
        random(rows, capacity, 3, 8, seed=1),
        random(rows, capacity, 3, 8),
    )
    used = torch.tensor(lengths)
    wanted = attend_slots(
        query, keys, values, slot_keys(used, capacity, max(lengths), flash=False), flash=False
    )
    found = attend_slots(query, keys, values, slot_keys(used, capacity, capacity, flash=True), flash=True)
    assert torch.allclose(found, wanted)
    longer = attend_slots(query, keys, values, slot_keys(used, capacity, capacity, flash=False), flash=False)
    assert torch.allclose(longer, wanted)
    for row, length in enumerate(lengths):
        single = slot_keys(torch.tensor([length]), capacity, length, flash=False, equal=True)
        one = slice(row, row + 1)
        assert torch.allclose(
            attend_slots(query[one], keys[one], values[one], single, flash=False), wanted[one]
        )


def test_flash_attention_has_kernels_for_few_sizes_of_heads() -> None:
    assert "heads of 60" in str(flash_problem(CPU, torch.bfloat16, 4, 2, 60))
    assert "heads of 512" in str(flash_problem(CPU, torch.bfloat16, 4, 2, 512))


@pytest.mark.parametrize(
    ("operator", "works"),
    [
        (emulated, True),
        (lambda *arguments, **named: emulated(*arguments, **named) * 1.2, False),
        (lambda *arguments, **named: torch.zeros(()).fill_(float("nan")).expand_as(arguments[0]), False),
    ],
)
def test_the_check_at_loading_compares_with_sdpa(
    operator: Any, works: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "flash_operator", operator)
    problem = flash_problem(CPU, torch.bfloat16, 4, 2, 64)
    assert (problem is None) == works
    assert works or "from SDPA" in str(problem)


@pytest.mark.parametrize("error", [TypeError("unexpected keyword"), RuntimeError("no kernel")])
def test_an_operator_that_fails_is_not_used(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*shape: Any) -> float:
        raise error

    monkeypatch.setattr(attention, "_difference", failing)
    assert flash_problem(CPU, torch.bfloat16, 4, 2, 64) == str(error)


def test_a_whole_engine_with_flash_attention_gives_the_same(flash, tiny_models, waveforms) -> None:
    """Encoder, prompts, steps, refills and moved rows, as on a GPU; float64, so that nothing ties."""
    backend = TransformersASR(ASRConfig(model=str(tiny_models.asr), max_tokens_per_second=2, min_tokens=12))
    requests = [SegmentRequest(waveform) for waveform in [*waveforms, *waveforms, *waveforms[:5]]]
    expected = backend.transcribe(requests)
    network = replace(backend.network, flash=True, prefiller=backend.network.decoder)
    network.encoder.flash = True
    generator = Generator(network, backend.processor.ends)
    generator.policy = Policy(True)
    jobs: list[Job] = [backend.job(request) for request in requests]
    prompts = backend.prompts(requests)
    found: dict[int, Any] = {}
    generator.generate(
        jobs,
        lambda numbers: [prompts[number] for number in numbers],
        Limits(10_000, 16),
        lambda number, answer: found.update({number: answer}),
    )
    for number, hypothesis in enumerate(expected):
        answer = found[number]
        again = backend.processor.hypothesis(requests[number], answer.tokens, answer.logprobs)
        assert again.raw == hypothesis.raw
        assert again.confidence == pytest.approx(hypothesis.confidence, abs=2e-4)
