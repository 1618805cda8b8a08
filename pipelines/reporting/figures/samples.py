"""A few segments with their texts: those of the highest, a middling, and the lowest confidence.

The middle is known only when all segments were seen. Until then a few segments of each small range of
confidence are kept, at most one of a recording: each was drawn with the same probability.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

COUNT = 4  # segments of each kind
LONGEST_TEXT = 300  # characters
LEAST_SECONDS = 1.0  # shorter segments say little; they are shown only where there is nothing else
_BINS = 100
_KEPT = 4 * COUNT
_SHORT = 2.0  # is added to the rank of short segments: more than any confidence


@dataclass(order=True)
class _Candidate:
    rank: float
    sample: dict[str, Any] = field(compare=False)


@dataclass
class SampleChooser:
    """Chooses samples from segments that are added batch by batch."""

    seed: int = 0
    best: list[_Candidate] = field(default_factory=list)
    worst: list[_Candidate] = field(default_factory=list)
    _bins: dict[int, list[_Candidate]] = field(default_factory=dict)
    _counts: np.ndarray = field(default_factory=lambda: np.zeros(_BINS, np.int64))
    _random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self._random = np.random.default_rng(self.seed)

    def add(
        self, confidence: np.ndarray, seconds: np.ndarray, sample: Callable[[int], dict[str, Any]]
    ) -> None:
        """Consider segments that have a text.

        Args:
            confidence: of the segments, 0 to 1; nan: the model gives none.
            seconds: their lengths.
            sample: the segment with an index, as it is shown; has a `recording_id`.
        """
        known = np.isfinite(confidence)
        self._counts += np.bincount(_bins_of(confidence[known]), minlength=_BINS)
        # Long enough first; the least confident ones first.
        short = np.where(seconds < LEAST_SECONDS, _SHORT, 0.0)
        for pool, ranks in ((self.worst, confidence + short), (self.best, short - confidence)):
            limit = pool[-1].rank if len(pool) >= _KEPT else np.inf
            good = np.flatnonzero(known & (ranks < limit))
            for index in good[np.argsort(ranks[good], kind="stable")][: 2 * _KEPT]:
                _insert(pool, _Candidate(float(ranks[index]), sample(int(index))), _KEPT)
        self._add_to_bins(confidence, short, known, sample)

    def as_record(self) -> dict[str, list[dict[str, Any]]]:
        """`best`, `median` and `worst`, or `any` where no segment has a confidence; texts are shortened."""
        if not self._counts.any():
            return {"any": _samples(self._bins.get(-1, []))} if self._bins else {}
        taken: set[Any] = set()
        found: dict[str, list[dict[str, Any]]] = {}
        for name, pool in (("worst", self.worst), ("best", self.best), ("median", self._middle())):
            left = [one for one in pool if _key(one.sample) not in taken]
            found[name] = _samples(left)
            taken |= {_key(sample) for sample in found[name]}
        return {name: found[name] for name in ("best", "median", "worst") if found[name]}

    def _add_to_bins(
        self,
        confidence: np.ndarray,
        short: np.ndarray,
        known: np.ndarray,
        sample: Callable[[int], dict[str, Any]],
    ) -> None:
        bins = np.where(known, _bins_of(np.where(known, confidence, 0.0)), -1)
        ranks = self._random.random(len(bins)) + short
        limits = np.full(_BINS + 1, np.inf)
        for number, pool in self._bins.items():
            limits[number] = pool[-1].rank if len(pool) >= COUNT else np.inf
        for index in np.flatnonzero(ranks < limits[bins]):
            pool = self._bins.setdefault(int(bins[index]), [])
            if len(pool) < COUNT or ranks[index] < pool[-1].rank:
                _insert(pool, _Candidate(float(ranks[index]), sample(int(index))), COUNT)

    def _middle(self) -> list[_Candidate]:
        """Candidates around the median, one of a recording: long ones first, then the nearest ones."""
        sums = np.cumsum(self._counts)
        middle = int(np.searchsorted(sums, sums[-1] / 2))
        known = [(number, one) for number, pool in self._bins.items() if number >= 0 for one in pool]
        known.sort(key=lambda pair: (pair[1].rank >= _SHORT, abs(pair[0] - middle), pair[1].rank))
        first: dict[Any, _Candidate] = {}
        for _, one in known:
            first.setdefault(one.sample["recording_id"], one)
        return [*first.values()]


def _bins_of(confidence: np.ndarray) -> np.ndarray:
    bins: np.ndarray = (confidence * _BINS).astype(np.int64).clip(0, _BINS - 1)
    return bins


def _insert(pool: list[_Candidate], candidate: _Candidate, most: int) -> None:
    """Put a candidate into an ordered pool in which each recording is once."""
    name = candidate.sample["recording_id"]
    same = next((place for place, one in enumerate(pool) if one.sample["recording_id"] == name), None)
    if same is not None:
        if pool[same].rank <= candidate.rank:
            return
        del pool[same]
    pool.append(candidate)
    pool.sort()
    del pool[most:]


def _key(sample: dict[str, Any]) -> tuple[Any, Any]:
    return sample["recording_id"], sample["start"]


def _samples(pool: list[_Candidate]) -> list[dict[str, Any]]:
    return [one.sample for one in pool[:COUNT]]
