"""Repair in n log n gives what the plain n^2 programme gives."""

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors.text.timestamp_repair import repair


def plain_repair(times: list[int]) -> list[int]:
    """The rules as they are described, in quadratic time."""
    n = len(times)
    length, parent = [1] * n, [-1] * n
    for i in range(n):
        for j in range(i):
            if times[j] <= times[i] and length[j] + 1 > length[i]:
                length[i], parent[i] = length[j] + 1, j
    good = [False] * n
    i = length.index(max(length))
    while i >= 0:
        good[i] = True
        i = parent[i]
    result = list(times)
    for i in range(n):
        if good[i]:
            continue
        left = next((k for k in range(i, -1, -1) if good[k]), None)
        right = next((k for k in range(i, n) if good[k]), None)
        if left is None or right is None:
            result[i] = times[right if left is None else left]
        elif right - left <= 3:
            result[i] = times[left] if i - left <= right - i else times[right]
        else:
            result[i] = int(times[left] + (times[right] - times[left]) / (right - left) * (i - left))
    return result


stamps = st.integers(0, 60).map(lambda k: k * 80)


@settings(max_examples=500)
@given(st.lists(stamps, min_size=1, max_size=60))
@example([5, 3, 9])
def test_repair_equals_the_plain_programme(times):
    assert repair(times) == plain_repair(times)


@given(st.lists(stamps, max_size=60))
def test_repaired_stamps_never_fall(times):
    repaired = repair(times)
    assert len(repaired) == len(times)
    assert repaired == sorted(repaired)


@given(st.lists(stamps).map(sorted))
def test_good_stamps_are_left_alone(times):
    assert repair(times) == times


def test_arrays_are_read_and_plain_integers_come_back():
    repaired = repair(np.array([80, 0, 160], dtype=np.int64))
    assert repaired == [80, 80, 160]
    assert all(type(t) is int for t in repaired)


def test_long_lists_are_no_trouble():
    """200,000 stamps: a quadratic programme would meet the timeout."""
    times = np.random.default_rng(0).integers(0, 400_000, 200_000)
    repaired = repair(times)
    assert len(repaired) == 200_000
    assert repaired == sorted(repaired)
