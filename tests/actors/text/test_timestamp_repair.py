"""The repair in n log n equals the simple one in n^2."""

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors.text.timestamp_repair import repair


def simple_repair(times: list[int]) -> list[int]:
    """The rules as described, in quadratic time."""
    n = len(times)
    length, parent = [1] * n, [-1] * n
    for i in range(n):
        for j in range(i):
            if times[j] <= times[i] and length[j] + 1 > length[i]:
                length[i], parent[i] = length[j] + 1, j
    trusted = [False] * n
    i = length.index(max(length))
    while i >= 0:
        trusted[i] = True
        i = parent[i]
    result = list(times)
    for i in range(n):
        if trusted[i]:
            continue
        left = next((k for k in range(i, -1, -1) if trusted[k]), None)
        right = next((k for k in range(i, n) if trusted[k]), None)
        if left is None or right is None:
            result[i] = times[right if left is None else left]
        elif right - left <= 3:
            result[i] = times[left] if i - left <= right - i else times[right]
        else:
            result[i] = int(times[left] + (times[right] - times[left]) / (right - left) * (i - left))
    return result


timestamps = st.integers(0, 60).map(lambda k: k * 80)


@settings(max_examples=500)
@given(st.lists(timestamps, min_size=1, max_size=60))
@example([5, 3, 9])
def test_the_repair_equals_the_simple_one(times):
    assert repair(times) == simple_repair(times)


@given(st.lists(timestamps, max_size=60))
def test_repaired_timestamps_are_non_decreasing(times):
    repaired = repair(times)
    assert len(repaired) == len(times)
    assert repaired == sorted(repaired)


@given(st.lists(timestamps).map(sorted))
def test_sorted_timestamps_are_unchanged(times):
    assert repair(times) == times


def test_arrays_are_accepted_and_plain_integers_returned():
    repaired = repair(np.array([80, 0, 160], dtype=np.int64))
    assert repaired == [80, 80, 160]
    assert all(type(t) is int for t in repaired)


def test_long_lists_take_less_than_quadratic_time():
    """200,000 timestamps: a quadratic algorithm would exceed the timeout."""
    times = np.random.default_rng(0).integers(0, 400_000, 200_000)
    repaired = repair(times)
    assert len(repaired) == 200_000
    assert repaired == sorted(repaired)
