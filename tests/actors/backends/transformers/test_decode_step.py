"""Steps and their CUDA graphs without a card: torch's graphs are replaced by something that only counts."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from actors.backends.transformers.decode_step import (  # noqa: E402
    DecodeState,
    Policy,
    StepGraphs,
    choose,
)
from actors.backends.transformers.kernels import operations  # noqa: E402
from actors.backends.transformers.kv_cache import (  # noqa: E402
    KeyValueCache,
    bytes_per_token,
    capacity_for,
    slots_for,
)

CUDA = torch.device("cuda")


class Steps:
    """Counts steps that ran; while a graph is captured nothing runs."""

    def __init__(self) -> None:
        self.ran, self.capturing = 0, False

    def __call__(self) -> None:
        self.ran += not self.capturing


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    counted = Steps()

    @contextmanager
    def graph(captured: Any, pool: Any, stream: Any, capture_error_mode: str) -> Any:
        assert pool == "pool" and capture_error_mode == "thread_local"
        counted.capturing = True
        yield
        counted.capturing = False

    def replay(self: Any) -> None:
        counted.ran += 1

    stream = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    monkeypatch.setattr(torch.cuda, "CUDAGraph", type("CUDAGraph", (), {"replay": replay}))
    monkeypatch.setattr(torch.cuda, "graph", graph)
    return counted


def test_a_graph_is_captured_once_for_each_shape(steps: Steps) -> None:
    graphs = StepGraphs(CUDA)
    for number, (key, count) in enumerate([((8, 512), 8), ((8, 512), 8), ((32, 512), 5), ((8, 512), 1)]):
        before = steps.ran
        graphs.run(key, steps, count)
        assert steps.ran - before == count, number
    assert len(graphs._graphs) == 2 and graphs.enabled
    graphs.clear()
    assert not graphs._graphs


def test_few_steps_are_not_captured(steps: Steps) -> None:
    graphs = StepGraphs(CUDA)
    graphs.run((8, 512), steps, 2)
    assert steps.ran == 2 and not graphs._graphs


def test_a_capture_that_fails_leaves_steps_as_they_are(
    steps: Steps, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @contextmanager
    def graph(*arguments: Any, **named: Any) -> Any:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        yield

    monkeypatch.setattr(torch.cuda, "graph", graph)
    graphs = StepGraphs(CUDA)
    for _ in range(3):
        graphs.run((8, 512), steps, 8)
    assert steps.ran == 24 and not graphs.enabled
    assert caplog.text.count("cannot be captured") == 1


def test_a_capture_without_memory_is_an_error(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def graph(*arguments: Any, **named: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")
        yield

    monkeypatch.setattr(torch.cuda, "graph", graph)
    graphs = StepGraphs(CUDA)
    with pytest.raises(torch.OutOfMemoryError):
        graphs.run((8, 512), steps, 8)
    assert graphs.enabled


def test_steps_on_a_cpu_run_as_they_are() -> None:
    steps = Steps()
    StepGraphs(torch.device("cpu")).run((3, 16), steps, 8)
    assert steps.ran == 8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_most_probable_token_and_its_log_probability(dtype: torch.dtype) -> None:
    logits = torch.randn(5, 300, generator=torch.Generator().manual_seed(0)).to(dtype)
    tokens, logprobs = choose(logits)
    wanted = logits.float().log_softmax(-1).max(-1)
    assert torch.equal(tokens, wanted.indices) and logprobs.dtype == torch.float32
    assert torch.allclose(logprobs, wanted.values, atol=1e-6)


def test_rows_are_moved_with_all_that_is_known_of_them() -> None:
    state = DecodeState(4, 3, torch.device("cpu"))
    tensors = (state.token, state.length, state.left, state.count, state.tokens, state.logprobs)
    for number, tensor in enumerate(tensors):
        tensor[3] = number + 1
    state.finished[3] = False
    state.move([3], [1])
    assert [tensor[1].flatten()[0].item() for tensor in tensors] == [1, 2, 3, 4, 5, 6]
    assert state.finished.tolist() == [True, False, True, True]


def test_slots_of_a_cache() -> None:
    decoder: Any = SimpleNamespace(
        layers=[0, 1], key_heads=2, head_dim=4, dtype=torch.float32, operations=operations
    )
    cache = KeyValueCache(decoder, 30, torch.device("cpu"))
    places = torch.tensor([0, 1, 10, 25])
    keys, values = torch.randn(4, 2, 4), torch.randn(4, 2, 4)
    cache.write(1, places, keys, values)
    found_keys, found_values = cache.slots(1, 3, 10)
    assert torch.equal(found_keys[0, :2], keys[:2]) and torch.equal(found_values[2, 5], values[3])
    assert not cache.keys(0).any() and found_keys.count_nonzero() == keys.numel()
    cache.move([2], [1], 10, 6)
    assert torch.equal(found_keys[1, 5], keys[3]) and not found_keys[1, :5].any()
    assert bytes_per_token(decoder) == 2 * 2 * 2 * 4 * 4
    assert slots_for(30 * bytes_per_token(decoder), 10, decoder) == 3
    assert slots_for(0, 10, decoder) == 1


def test_sizes_on_a_gpu_are_few() -> None:
    gpu, cpu = Policy(True), Policy(False)
    assert [gpu.rows(count) for count in (1, 2, 9, 100, 256, 300, 600)] == [1, 8, 16, 128, 256, 384, 1024]
    assert [cpu.rows(count) for count in (1, 2, 9, 100)] == [1, 2, 9, 100]
    assert [gpu.rows_below(rows) for rows in (256, 200, 8, 1)] == [192, 192, 1, 1]
    assert len({capacity_for(tokens, True) for tokens in range(1, 65_000)}) < 16
    assert all(
        capacity_for(tokens, on_gpu) >= tokens for tokens in (1, 513, 99_000) for on_gpu in (True, False)
    )
    assert (gpu.steps, cpu.steps) == (8, 1)
    assert [gpu.refill(slots) for slots in (1, 8, 256)] == [1, 1, 32] and cpu.refill(256) == 1
    assert gpu.span(405, 1024) == 512 and gpu.span(1000, 768) == 768 and cpu.span(405, 1024) == 405
