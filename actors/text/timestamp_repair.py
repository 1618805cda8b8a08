"""Repair of word times.

The aligner predicts each timestamp on its own, so some lie before their predecessors.

The timestamps on one longest non-decreasing subsequence are trusted; the others are repaired from their
trusted neighbours. The result equals that of the reference's `fix_timestamp` (qwen_asr 0.0.6), which needs
n^2 steps where this needs n log n: 2,000 timestamps take milliseconds.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from math import inf

# Up to this many wrong timestamps in a row get a neighbour's value; more are interpolated between the
# neighbours.
_MAX_SNAPPED = 2


def repair(times_ms: Sequence[int]) -> list[int]:
    """Make timestamps non-decreasing.

    Args:
        times_ms: starts and ends interleaved, in milliseconds, as predicted (a list or a 1-D array).

    Returns:
        As many timestamps. A run of one or two wrong ones gets the value of the nearer trusted neighbour (the
        left one where both are equally near). A longer run is interpolated. A run at either end gets the
        value of its only neighbour.
    """
    times = [int(t) for t in times_ms]
    trusted = _longest_non_decreasing(times)
    if len(trusted) == len(times):
        return times
    result = list(times)
    for left, right in zip([-1, *trusted], [*trusted, len(times)], strict=True):
        if right - left > 1:
            _repair_run(result, left, right)
    return result


def _repair_run(times: list[int], left: int, right: int) -> None:
    """Replace the timestamps between two trusted ones.

    Args:
        times: all timestamps; changed in place.
        left: index of the trusted one before them; -1: there is none.
        right: index of the trusted one after them; the length of `times`: there is none.
    """
    if left < 0 or right == len(times):
        value = times[right] if left < 0 else times[left]
        times[left + 1 : right] = [value] * (right - left - 1)
    elif right - left - 1 <= _MAX_SNAPPED:
        for k in range(left + 1, right):
            times[k] = times[left] if k - left <= right - k else times[right]
    else:
        step = (times[right] - times[left]) / (right - left)
        start = times[left]
        times[left + 1 : right] = [int(start + step * k) for k in range(1, right - left)]


def _longest_non_decreasing(times: list[int]) -> list[int]:
    """Indices of the longest non-decreasing subsequence that the reference's dynamic programming finds.

    It gives each index the first predecessor that makes its subsequence longest, and ends at the first index
    that reaches the greatest length. Indices of the same length, in order, have falling values (an equal or
    greater one would be longer), so bisection also finds the first predecessor that is small enough.
    """
    # For each length: the smallest last value of a subsequence, the indices whose longest subsequence has
    # this length, in order, and their values negated, which makes them rise.
    tails: list[int] = []
    levels: list[list[int]] = []
    negatives: list[list[int]] = []
    parents: list[int] = []
    last = -inf  # value of `tails`
    for i, time in enumerate(times):
        # Most timestamps are no smaller than all before them, and most lengths have one index: neither needs
        # a search.
        if time >= last:
            level, last = len(tails), time
            tails.append(time)
            levels.append([i])
            negatives.append([-time])
        else:
            level = bisect_right(tails, time)
            tails[level] = time
            last = tails[-1]
            levels[level].append(i)
            negatives[level].append(-time)
        if level:
            earlier = levels[level - 1]
            parents.append(earlier[bisect_left(negatives[level - 1], -time) if len(earlier) > 1 else 0])
        else:
            parents.append(-1)
    chain = []
    i = levels[-1][0] if levels else -1
    while i >= 0:
        chain.append(i)
        i = parents[i]
    return chain[::-1]
