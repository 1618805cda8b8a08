"""Packing segments into model calls: similar lengths together, within a budget of padded seconds. Pure, no I/O.

A batch is padded to its longest segment, and its decoding lasts as long as that segment talks. Its cost is therefore
`longest * (segments + CALL_COST)`: a padded second for every segment, and the call itself, which costs about as much as CALL_COST more
segments would (kernel launches, weights read once a step). `pack` finds the cheapest way to cut the sorted list into batches. Greedy
filling up to the budget is not enough: it puts the one 60 s segment together with dozens of short ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")

CALL_COST = 0.75  # segments; small, because padding costs time and memory, another call only time


def pack(durations: Sequence[float], max_batch_seconds: float, max_batch_size: int) -> list[list[int]]:
    """Cut segments into batches.

    Args:
        durations: length of each segment in seconds, in any order.
        max_batch_seconds: most padded seconds (longest * segments) of a batch; a segment longer than this is a batch of its own.
        max_batch_size: most segments of a batch.

    Returns:
        Lists of indices into `durations`; every index once. Longest first, so that a batch that does not fit the device is found out
        at once; equal durations keep their order.
    """
    if max_batch_seconds <= 0 or max_batch_size < 1:
        raise ValueError(
            f"max_batch_seconds {max_batch_seconds} and max_batch_size {max_batch_size} must be positive"
        )
    order = sorted(range(len(durations)), key=lambda index: -durations[index])
    batches = []
    start = 0
    for end in _cuts([durations[index] for index in order], max_batch_seconds, max_batch_size):
        batches.append(order[start:end])
        start = end
    return batches


def unpack(batches: Iterable[Sequence[int]], results: Iterable[Sequence[T]]) -> list[T]:
    """Put the results of packed batches back into the original order.

    Raises:
        ValueError: a batch and its results differ in length, or an index is missing or doubled: the worst of all errors would be
            one segment's text under another's audio.
    """
    placed: dict[int, T] = {}
    total = 0
    for indices, values in zip(batches, results, strict=True):
        placed.update(zip(indices, values, strict=True))
        total += len(indices)
    if len(placed) != total or set(placed) != set(range(total)):
        raise ValueError(f"{total} results cover only {len(placed)} of the segments, or not 0 to {total - 1}")
    return [placed[index] for index in range(total)]


def fill(durations: Sequence[float], batches: Iterable[Sequence[int]]) -> float:
    """Real seconds per padded second, 0 to 1; 1 where there is nothing."""
    padded = sum(max(durations[index] for index in batch) * len(batch) for batch in batches)
    return sum(durations) / padded if padded else 1.0


def _cuts(descending: list[float], max_batch_seconds: float, max_batch_size: int) -> list[int]:
    """Where to cut a descending list, as ends of batches: the shortest path over `best[i]`, the least cost of what starts at `i`."""
    total = len(descending)
    best = np.zeros(total + 1)
    choice = [0] * total
    for start in range(total - 1, -1, -1):
        longest = descending[start]
        most = min(max_batch_size, total - start)
        if longest * most > max_batch_seconds:
            most = max(1, int(max_batch_seconds / longest))
        sizes = np.arange(1, most + 1)
        costs = longest * (sizes + CALL_COST) + best[start + 1 : start + most + 1]
        # Of equal costs the largest batch: fewer calls.
        size = most - int(np.argmin(costs[::-1]))
        best[start] = costs[size - 1]
        choice[start] = size
    ends = []
    position = 0
    while position < total:
        position += choice[position]
        ends.append(position)
    return ends
