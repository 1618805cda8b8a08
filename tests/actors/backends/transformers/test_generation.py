"""Greedy decoding with continuous batching against a plain loop over transformers' own forward pass."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from actors.backends.transformers.asr import TransformersASR  # noqa: E402
from actors.backends.transformers.decode_step import Policy  # noqa: E402
from actors.backends.transformers.generation import Generator, Limits  # noqa: E402
from actors.backends.transformers.kv_cache import (  # noqa: E402
    bytes_per_token,
    cache_bytes,
    weight_bytes,
)
from actors.backends.transformers.prompts import Prompt  # noqa: E402
from actors.backends.transformers.scheduler import Job  # noqa: E402
from actors.config import ASRConfig  # noqa: E402
from tests.actors.backends.transformers.decoding import assert_equal, decode  # noqa: E402

BUDGETS = [17, 3, 40, 1, 9, 26]


def test_tokens_and_logprobs_are_those_of_transformers(backend, prompts, reference) -> None:
    ends = backend.processor.ends
    assert_equal(decode(backend, prompts, BUDGETS, ends), reference(BUDGETS, ends))


def test_a_single_request_gets_the_answer_of_transformers(backend, prompts, reference) -> None:
    ends = backend.processor.ends
    single = [decode(backend, [prompt], [30], ends)[0] for prompt in prompts]
    assert_equal(single, reference([30] * 6, ends))


def test_rows_end_at_any_of_the_ends(backend, prompts, reference) -> None:
    """Ends that these rows do generate: rows stop at different steps, the others go on undisturbed."""
    answers = [tokens for tokens, _ in reference([40] * 6, backend.processor.ends)]
    ends = [answers[0][2], answers[2][11], *backend.processor.ends]
    expected = reference([40] * 6, ends)
    assert len({len(tokens) for tokens, _ in expected}) > 2
    assert_equal(decode(backend, prompts, [40] * 6, ends), expected)


def test_rows_that_have_ended_cost_nothing(backend, prompts, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    forward = backend.network.head.forward
    monkeypatch.setattr(
        backend.network.head, "forward", lambda hidden: sizes.append(len(hidden)) or forward(hidden)
    )
    decode(backend, prompts, BUDGETS, backend.processor.ends)
    assert sizes[:6] == [1] * 6  # the prompts
    assert max(sizes) <= 6 and sizes[-1] == 1
    assert sum(sizes) == sum(BUDGETS)


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_free_slots_take_the_next_requests(backend, prompts, reference, slots: int) -> None:
    """More requests than slots, each row with a budget of its own."""
    many, budgets = [*prompts, *prompts[::-1]], [*BUDGETS, *BUDGETS]
    ends = backend.processor.ends
    expected = reference(BUDGETS, ends) + reference(BUDGETS[::-1], ends)[::-1]
    expected[6:] = reference(BUDGETS[::-1], ends)[::-1]
    found = decode(backend, many, budgets, ends, Limits(10_000, slots))
    assert_equal(found, expected)


def test_slots_follow_padded_seconds(backend, prompts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the six clips only two as long as the longest (9.7 s) may decode at once."""
    asked: list[int] = []
    make = Generator.workspace

    def workspace(self: Generator, rows: int, capacity: int, width: int) -> Any:
        asked.append(rows)
        return make(self, rows, capacity, width)

    monkeypatch.setattr(Generator, "workspace", workspace)
    decode(backend, [prompts[2]] * 5, [20] * 5, backend.processor.ends, Limits(20, 128))
    assert asked == [2]


def test_sdpa_gives_the_same(tiny_models, backend, prompts) -> None:
    other = TransformersASR(
        ASRConfig(model=str(tiny_models.asr), dtype=backend.config.dtype, attention="sdpa")
    )
    assert not other.network.flash and not other.network.encoder.flash
    assert_equal(
        decode(other, prompts, BUDGETS, backend.processor.ends),
        decode(backend, prompts, BUDGETS, backend.processor.ends),
    )


def test_a_prompt_leaves_the_same_in_the_cache_in_every_batch(backend, prompts) -> None:
    """Bit for bit, on a CPU: what the steps start from does not depend on the neighbours."""
    left: list[tuple[Any, Any]] = []
    for chosen in (prompts, prompts[4:5]):
        generator = Generator(backend.network, backend.processor.ends)
        with pytest.MonkeyPatch.context() as patch:
            # No steps: only the prompts run.
            patch.setattr("actors.backends.transformers.scheduler.Session._collect", _stop)
            with pytest.raises(_Stopped):
                decode(backend, chosen, [9] * len(chosen), [], generator=_keeping(generator))
        left.append((generator.last_workspace.cache, generator.last_workspace.state))
    (batch, state), (single, state_alone) = left
    length = len(prompts[4].tokens)
    # The longest stand first; the prompts are sorted by their number of tokens.
    order = sorted(range(6), key=lambda number: -len(prompts[number].tokens))
    slot = order.index(4)
    capacity = batch.tokens // 6
    for layer in range(len(backend.network.decoder.layers)):
        for found, wanted in (
            (batch.keys(layer), single.keys(layer)),
            (batch.values(layer), single.values(layer)),
        ):
            start = slot * capacity
            assert torch.equal(found[start : start + length], wanted[:length]) and wanted[:length].any()
    assert state.token[slot] == state_alone.token[0]
    assert state.logprobs[slot, 0] == state_alone.logprobs[0, 0]


class _Stopped(Exception):
    """The prompts have run."""


def _stop(session: Any) -> None:
    raise _Stopped


def _keeping(generator: Generator) -> Generator:
    """Remember the workspace, which is released with an error."""
    workspace = generator.workspace

    def keep(*sizes: int) -> Any:
        generator.last_workspace = workspace(*sizes)
        return generator.last_workspace

    generator.workspace = keep
    return generator


def test_out_of_memory_leads_to_fewer_slots_and_every_answer(
    backend, prompts, reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache for 4 and for 2 long rows does not fit; no answer is lost, and the next call begins with 1."""
    asked: list[int] = []
    make = Generator.workspace
    most = len(prompts[2].tokens) + BUDGETS[2] + 16

    def workspace(self: Generator, rows: int, capacity: int, width: int) -> Any:
        asked.append(rows)
        if rows * capacity > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return make(self, rows, capacity, width)

    monkeypatch.setattr(Generator, "workspace", workspace)
    ends = backend.processor.ends
    generator = Generator(backend.network, ends)
    expected = reference(BUDGETS, ends)
    assert_equal(decode(backend, prompts, BUDGETS, ends, Limits(10_000, 4), generator=generator), expected)
    assert asked[:3] == [4, 2, 1]
    asked.clear()
    assert_equal(decode(backend, prompts, BUDGETS, ends, Limits(10_000, 4), generator=generator), expected)
    assert asked[0] == 1


def test_out_of_memory_in_a_step_keeps_the_answers_that_are_there(
    backend, prompts, reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    from actors.backends.transformers.decode_step import DecodeStep

    advance, failed = DecodeStep.advance, []

    def failing(self: DecodeStep, rows: int, *rest: Any) -> None:
        if self.state.count.max() > 10 and not failed:
            failed.append(rows)
            raise torch.OutOfMemoryError("CUDA out of memory")
        advance(self, rows, *rest)

    monkeypatch.setattr(DecodeStep, "advance", failing)
    ends = backend.processor.ends
    assert_equal(decode(backend, prompts, BUDGETS, ends), reference(BUDGETS, ends))
    assert failed == [3]  # the others have ended: their budgets are 3, 1 and 9


def test_a_prompt_that_cannot_be_made_fails_alone(backend, prompts) -> None:
    answers: dict[int, Any] = {}
    jobs = [Job(len(prompt.tokens) + 5, 5, 1.0) for prompt in prompts]
    Generator(backend.network, []).generate(
        jobs,
        lambda numbers: [ValueError("no") if number == 2 else prompts[number] for number in numbers],
        Limits(100, 2),
        answers.__setitem__,
    )
    assert isinstance(answers[2], ValueError)
    assert all(len(answers[number].tokens) == 5 for number in (0, 1, 3, 4, 5))


def test_the_policy_of_a_gpu_gives_the_same_answers(backend, prompts, reference) -> None:
    """Groups of prompts, a look every eighth step, finished rows in the batch: on a CPU, without graphs."""
    many, budgets = [*prompts, *prompts, *prompts], [*BUDGETS, *BUDGETS, *BUDGETS]
    ends = backend.processor.ends
    generator = Generator(backend.network, ends)
    generator.policy = Policy(True)
    found = decode(backend, many, budgets, ends, Limits(10_000, 16), generator)
    expected = reference(BUDGETS, ends) * 3
    assert_equal(found, expected)
    found = decode(backend, many[:3], budgets[:3], ends, Limits(10_000, 16), generator)
    assert_equal(found, expected[:3])


def test_many_short_requests_use_slots_of_the_smallest_size(backend, prompts, reference) -> None:
    """More than there are slots, each far below the smallest capacity of a GPU."""
    ends = backend.processor.ends
    generator = Generator(backend.network, ends)
    generator.policy = Policy(True)
    found = decode(backend, [prompts[1]] * 20, [3] * 20, ends, Limits(10_000, 8), generator)
    assert_equal(found, [reference([3] * 6, ends)[1]] * 20)


@pytest.mark.parametrize("on_gpu", [True, False])
def test_calls_from_several_threads_share_a_session(backend, prompts, reference, on_gpu: bool) -> None:
    """Each caller gets its own answers, also where a budget is larger than the session has room for."""
    ends = backend.processor.ends
    generator = Generator(backend.network, ends)
    generator.policy = Policy(on_gpu)
    budgets = [BUDGETS, [5] * 6, BUDGETS[::-1], [600, 2, 3, 4, 5, 6]]
    expected = {tuple(each): reference(each, ends) for each in budgets}

    def call(each: list[int]) -> bool:
        found = decode(backend, prompts * 2, each * 2, ends, Limits(10_000, 4), generator)
        assert_equal(found, expected[tuple(each)] * 2)
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(call, budgets * 2))
    assert not generator._calls and not generator._queue


def test_a_call_that_fails_leaves_the_others_their_answers(backend, prompts, reference) -> None:
    ends = backend.processor.ends
    generator = Generator(backend.network, ends)
    started = threading.Event()

    def failing(number: int, answer: Any) -> None:
        raise KeyError("a defect")

    def slow(numbers: Sequence[int]) -> list[Prompt]:
        started.set()
        return [prompts[number] for number in numbers]

    def fail() -> None:
        jobs = [Job(len(prompts[0].tokens) + 2, 2, 1.0)]
        with pytest.raises(KeyError):
            generator.generate(jobs, slow, Limits(100, 4), failing)

    with ThreadPoolExecutor(2) as pool:
        good = pool.submit(decode, backend, prompts, BUDGETS, ends, Limits(10_000, 4), generator)
        bad = pool.submit(fail)
        assert_equal(good.result(), reference(BUDGETS, ends))
        bad.result()
    assert started.is_set()


def test_the_memory_for_the_cache_limits_the_slots(backend, prompts) -> None:
    generator = Generator(backend.network, [])
    size = 512 * bytes_per_token(backend.network.decoder)
    for policy, rows, expected in ((Policy(False), 5.5, 5), (Policy(True), 70, 64), (Policy(True), 0.1, 1)):
        generator.policy = policy
        assert generator._slots(100, 1.0, 512, Limits(1000, 100, rows * size)) == expected
    assert generator._slots(100, 30.0, 512, Limits(1000, 100)) == 33
    assert generator._slots(100, 3000.0, 512, Limits(1000, 100)) == 1
    weights = sum(weight.numel() * weight.element_size() for weight in backend.network.decoder.parameters())
    assert weights < weight_bytes(backend.network) < 4 * weights
    assert cache_bytes(backend.network, None) is None
    assert cache_bytes(backend.network, 0.1) == 0
    assert 0 < cache_bytes(backend.network, 16) < 16 * 2**30
