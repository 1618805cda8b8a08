"""Packing puts every segment into one batch within the limits; dispatch lets a bad segment fail alone."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import batching
from actors.batching import dispatch, dispatch_to, fill, pack, unpack
from actors.config import ASRConfig
from actors.errors import FatalError

durations_lists = st.lists(st.floats(0, 180, allow_nan=False), max_size=80)
call_costs = st.floats(0, 500)
patient = settings(deadline=None)  # a busy machine is no failure


@patient
@given(durations_lists, st.floats(1, 2000), st.integers(1, 64), call_costs)
def test_every_index_is_packed_once_within_the_limits(
    durations: list[float], seconds: float, size: int, cost: float
) -> None:
    batches = pack(durations, seconds, size, cost)
    assert sorted(index for batch in batches for index in batch) == list(range(len(durations)))
    for batch in batches:
        longest = max(durations[index] for index in batch)
        assert 1 <= len(batch) <= size
        assert len(batch) == 1 or longest * len(batch) <= seconds * (1 + 1e-9)


@patient
@given(durations_lists)
def test_batches_are_longest_first_and_deterministic(durations: list[float]) -> None:
    batches = pack(durations, 960, 16)
    flat = [durations[index] for batch in batches for index in batch]
    assert flat == sorted(durations, reverse=True)
    assert batches == pack(durations, 960, 16)


@patient
@given(durations_lists, st.floats(1, 2000), st.integers(1, 64))
def test_unpack_restores_the_order(durations: list[float], seconds: float, size: int) -> None:
    batches = pack(durations, seconds, size)
    assert unpack(batches, [[durations[index] for index in batch] for batch in batches]) == durations


@pytest.mark.parametrize("seed", range(5))
def test_a_lognormal_mix_is_packed_at_least_93_percent_full(seed: int) -> None:
    durations = np.random.default_rng(seed).lognormal(2.0, 0.8, 256).clip(0.5, 60).tolist()
    batches = pack(durations, 960, 128)
    assert fill(durations, batches) >= 0.93
    assert len(batches) <= 32  # the fill does not come from calls of a single segment


@pytest.mark.parametrize("seed", range(5))
def test_a_block_is_at_most_two_calls_where_launches_cost_most(seed: int) -> None:
    """2,097 s are a block of 64 MiB: as 13 calls of a launch-bound GPU they would take five times as long."""
    rng = np.random.default_rng(seed)
    durations: list[float] = []
    while sum(durations) < 2_097:
        durations.append(float(rng.uniform(2, 30)))
    assert len(pack(durations, 7_680, 256, 100)) <= 2
    assert len(pack(durations, 7_680, 256, 0.75)) > 8


def test_fill_counts_padding() -> None:
    assert fill([1.0, 3.0], [[1, 0]]) == pytest.approx(4 / 6)
    assert fill([], []) == 1.0


def test_a_segment_above_the_limit_is_a_batch_of_its_own() -> None:
    assert pack([5.0, 100.0, 5.0], 20, 8) == [[1], [0, 2]]


@pytest.mark.parametrize(
    ("batches", "results"),
    [
        ([[0, 1]], [["a"]]),
        ([[0], [0]], [["a"], ["b"]]),
        ([[0], [2]], [["a"], ["b"]]),
        ([[0]], [["a"], ["b"]]),
    ],
)
def test_unpack_refuses_results_that_do_not_match(batches: list[list[int]], results: list[list[str]]) -> None:
    with pytest.raises(ValueError):
        unpack(batches, results)


@pytest.mark.parametrize(("seconds", "size"), [(0, 8), (10, 0)])
def test_a_limit_of_zero_is_refused(seconds: float, size: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        pack([1.0], seconds, size)


@dataclass(frozen=True)
class Clip:
    duration: float
    bad: bool = False


def double(clips: list[Clip]) -> list[float]:
    if any(clip.bad for clip in clips):
        raise ValueError("bad clip")
    return [2 * clip.duration for clip in clips]


def test_results_come_in_the_order_of_the_requests() -> None:
    clips = [Clip(duration) for duration in (3.0, 60.0, 1.0, 59.0, 2.0)]
    assert dispatch(clips, double, 120, 8) == [6.0, 120.0, 2.0, 118.0, 4.0]
    assert dispatch([], double, 120, 8) == []


def test_a_backend_that_makes_its_own_batches_gets_all_requests_at_once() -> None:
    calls: list[int] = []

    def count(clips: list[Clip]) -> list[float]:
        calls.append(len(clips))
        return double(clips)

    clips = [Clip(duration) for duration in (3.0, 60.0, 1.0)]
    assert dispatch(clips, count, None, None) == [6.0, 120.0, 2.0]
    assert dispatch([], count, None, None) == [] and calls == [3]


def test_a_failure_stays_with_its_cause() -> None:
    clips = [Clip(1.0), Clip(2.0, bad=True), Clip(3.0), Clip(4.0), Clip(5.0, bad=True)]
    results = dispatch(clips, double, 120, 8)
    assert [result if isinstance(result, float) else type(result) for result in results] == [
        2.0,
        ValueError,
        6.0,
        8.0,
        ValueError,
    ]


def test_a_batch_with_a_missing_result_is_done_again_one_by_one() -> None:
    results = dispatch([Clip(1.0), Clip(1.0)], lambda clips: double(clips)[: len(clips) // 2 or 1], 120, 8)
    assert results == [2.0, 2.0]


def test_a_broken_engine_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(clips: list[Clip]) -> list[float]:
        raise FatalError("CUDA error")

    def exit_process(error: FatalError) -> None:
        raise SystemExit(str(error))

    monkeypatch.setattr(batching, "exit_process", exit_process)
    with pytest.raises(SystemExit, match="CUDA error"):
        dispatch([Clip(1.0), Clip(2.0)], broken, 120, 8)


def test_exit_process_exits_without_clean_up() -> None:
    """Status 1 at once, whatever handlers and threads there are."""
    program = (
        "import threading, time, atexit\n"
        "from actors.errors import FatalError\n"
        "from actors.process.exit import exit_process\n"
        "atexit.register(print, 'cleaned up')\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "exit_process(FatalError('the engine is broken'))\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert finished.returncode == 1
    assert finished.stdout == "" and "the engine is broken" in finished.stderr


def test_a_batch_is_prefetched_while_the_one_before_it_runs() -> None:
    events: list[tuple[str, float]] = []

    def call(clips: list[Clip]) -> list[float]:
        events.append(("call", clips[0].duration))
        return double(clips)

    clips = [Clip(1.0), Clip(30.0), Clip(20.0)]
    results = dispatch(clips, call, 30, 1, prefetch=lambda later: events.append(("begin", later[0].duration)))
    assert results == [2.0, 60.0, 40.0]
    assert events == [("begin", 30), ("begin", 20), ("call", 30), ("begin", 1), ("call", 20), ("call", 1)]


@dataclass
class Backend:
    gpu_memory: float | None = None
    call_cost_segments: float | None = None
    batches_itself: bool = False
    on_gpu: bool = False

    def prefetch(self, requests: object) -> None: ...


@pytest.mark.parametrize(
    ("backend", "settings", "calls"),
    [
        # A CPU: at most 960 padded seconds, and little padding.
        (Backend(), ASRConfig(), [32, 32, 32, 32, 32, 40]),
        # A GPU of 80 GB: all in one call of up to 256 segments and 7,680 padded seconds.
        (Backend(gpu_memory=78), ASRConfig(), [200]),
        # A measured cost of a call wins over the constant: cheap calls of equal lengths.
        (Backend(gpu_memory=78, call_cost_segments=0.1), ASRConfig(), [160, 40]),
        (Backend(gpu_memory=78), ASRConfig(max_batch_size=100), [100, 100]),
        (Backend(gpu_memory=78, batches_itself=True), ASRConfig(max_batch_size=100), [200]),
    ],
)
def test_batches_follow_the_device_and_the_settings(
    backend: Backend, settings: ASRConfig, calls: list[int]
) -> None:
    sizes: list[int] = []

    def call(clips: list[Clip]) -> list[float]:
        sizes.append(len(clips))
        return double(clips)

    clips = [Clip(30.0)] * 160 + [Clip(20.0)] * 40
    assert dispatch_to(backend, call, settings, clips) == [60.0] * 160 + [40.0] * 40
    assert sizes == calls
