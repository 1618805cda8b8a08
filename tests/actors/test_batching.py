"""Packing: every segment once, within the budget, and full."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.batching import fill, pack, unpack

durations_lists = st.lists(st.floats(0, 180, allow_nan=False), max_size=80)


@settings(deadline=None)  # a busy machine is no failure
@given(durations_lists, st.floats(1, 2000), st.integers(1, 64))
def test_every_index_once_and_within_the_budget(durations: list[float], seconds: float, size: int) -> None:
    batches = pack(durations, seconds, size)
    assert sorted(index for batch in batches for index in batch) == list(range(len(durations)))
    for batch in batches:
        assert 1 <= len(batch) <= size
        assert len(batch) == 1 or max(durations[index] for index in batch) * len(batch) <= seconds * (
            1 + 1e-9
        )


@settings(deadline=None)  # a busy machine is no failure
@given(durations_lists)
def test_longest_first_and_deterministic(durations: list[float]) -> None:
    batches = pack(durations, 960, 16)
    flat = [durations[index] for batch in batches for index in batch]
    assert flat == sorted(durations, reverse=True)
    assert batches == pack(durations, 960, 16)


@settings(deadline=None)  # a busy machine is no failure
@given(durations_lists, st.floats(1, 2000), st.integers(1, 64))
def test_unpack_restores_the_order(durations: list[float], seconds: float, size: int) -> None:
    batches = pack(durations, seconds, size)
    assert unpack(batches, [[durations[index] for index in batch] for batch in batches]) == durations


@pytest.mark.parametrize("seed", range(5))
def test_a_lognormal_mix_is_packed_at_least_93_percent_full(seed: int) -> None:
    durations = np.random.default_rng(seed).lognormal(2.0, 0.8, 256).clip(0.5, 60).tolist()
    batches = pack(durations, 960, 128)
    assert fill(durations, batches) >= 0.93
    assert len(batches) <= 32  # not by making every segment a call of its own


def test_fill_counts_padding() -> None:
    assert fill([1.0, 3.0], [[1, 0]]) == pytest.approx(4 / 6)
    assert fill([], []) == 1.0


def test_a_segment_above_the_budget_stands_alone() -> None:
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
def test_unpack_refuses_what_does_not_match(batches: list[list[int]], results: list[list[str]]) -> None:
    with pytest.raises(ValueError):
        unpack(batches, results)


@pytest.mark.parametrize(("seconds", "size"), [(0, 8), (10, 0)])
def test_a_budget_of_nothing_is_refused(seconds: float, size: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        pack([1.0], seconds, size)
