"""A second pass of the aligner over segments whose word times do not fit their sound. Pure.

An aligner that has lost its way is often one word off for a while: words lie over pauses, and sound has no
words. Where the two disagree for much of a segment, the segment is cut at a pause, and both parts are aligned
again, with the words on either side as the first pass has them, and with one word more and one less, until a
division fits the sound. The one that fits it best is kept, if it fits better than the first pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from actors.records import SAMPLING_RATE, AlignedTimes, AlignmentRequest
from actors.segmentation.levels import FRAME, frame_levels, runs

Times = Sequence[tuple[float, float]]
_FRAMES = SAMPLING_RATE // FRAME  # of a second
# Percentiles of the levels that are the loud sound and the noise, and dB between them and what is sound.
_LOUD, _NOISE = 95, 5
_BELOW_LOUD, _ABOVE_NOISE, _LEAST_BELOW_LOUD = 30.0, 8.0, 6.0
# Seconds of disagreement that a word without length stands for.
_NO_LENGTH = 0.15
# Frames of the shortest pause, share of the segment at both ends in which it is not cut, and cuts at most.
_PAUSE, _EDGE, _CUTS = 10, 0.12, 2
# Words more or less before a cut.
_WORDS = 1
# Seconds by which a division must fit better than the first pass, and share of the limit up to which a
# division fits, so that no other one is tried.
_BETTER, _FITS = 0.05, 0.8


@dataclass(frozen=True, slots=True)
class Division:
    """A segment in two parts.

    Attributes:
        unit: the first unit of the second part.
        sample: the first sample of it.
    """

    unit: int
    sample: int


def is_sound(waveform: np.ndarray) -> np.ndarray:
    """Which frames of 10 ms are no pause: bool, shape (frames,).

    Args:
        waveform: int16 at 16 kHz.
    """
    levels = frame_levels(waveform)
    if not len(levels):
        return np.zeros(0, bool)
    loud, noise = np.percentile(levels, (_LOUD, _NOISE))
    sound: np.ndarray = levels > max(loud - _BELOW_LOUD, min(noise + _ABOVE_NOISE, loud - _LEAST_BELOW_LOUD))
    return sound


def disagreement(times: Times, sound: np.ndarray) -> float:
    """Seconds in which there is sound and no word, or a word and no sound.

    Args:
        times: of the units, in seconds.
        sound: from `is_sound`.
    """
    spoken = np.zeros(len(sound), bool)
    for start, end in times:
        spoken[round(start * _FRAMES) : round(end * _FRAMES)] = True
    without_length = sum(end <= start for start, end in times)
    return float(np.count_nonzero(spoken != sound)) / _FRAMES + _NO_LENGTH * without_length


def is_doubtful(times: Times, sound: np.ndarray, limit: float) -> bool:
    """Whether times and sound disagree for more than this share of the segment; one word has no divisions."""
    return len(times) > 1 and disagreement(times, sound) > limit * len(sound) / _FRAMES


def divisions(times: Times, sound: np.ndarray) -> list[Division]:
    """The divisions to be tried, the likeliest first: at the longest pauses, with a word more or less.

    Args:
        times: of the units.
        sound: from `is_sound`.
    """
    edge = _EDGE * len(sound)
    pauses = [
        run
        for run in runs(~sound)
        if run.end - run.start >= _PAUSE and edge < (run.start + run.end) / 2 < len(sound) - edge
    ]
    found: list[tuple[int, int, Division]] = []
    for number, pause in enumerate(sorted(pauses, key=lambda run: run.start - run.end)[:_CUTS]):
        sample = (pause.start + pause.end) * FRAME // 2
        before = sum((start + end) / 2 * SAMPLING_RATE < sample for start, end in times)
        for unit in range(max(1, before - _WORDS), min(len(times) - 1, before + _WORDS) + 1):
            found.append((abs(unit - before), number, Division(unit, sample)))
    return [division for *_, division in sorted(found, key=lambda one: one[:2])]


def parts(request: AlignmentRequest, division: Division) -> tuple[AlignmentRequest, AlignmentRequest]:
    """The two requests of a division."""
    waveform, units = request.waveform, request.units
    return (
        AlignmentRequest(waveform[: division.sample], units[: division.unit], request.language),
        AlignmentRequest(waveform[division.sample :], units[division.unit :], request.language),
    )


def joined(division: Division, left: Times, right: Times) -> AlignedTimes:
    """The times of the whole segment from those of its two parts."""
    offset = division.sample / SAMPLING_RATE
    whole = AlignedTimes([*left, *((start + offset, end + offset) for start, end in right)])
    whole.repaired = getattr(left, "repaired", 0) + getattr(right, "repaired", 0)
    return whole


class Search:
    """The divisions of a segment, one after the other.

    Args:
        times: of the first pass.
        sound: from `is_sound`.
        limit: share of the segment from which it is doubtful.
    """

    def __init__(self, times: Times, sound: np.ndarray, limit: float) -> None:
        self._sound, self._enough = sound, _FITS * limit * len(sound) / _FRAMES
        self._least = disagreement(times, sound) - _BETTER
        self._best: AlignedTimes | None = None
        # What is to be tried, in order; empty as soon as a division fits.
        self.left = divisions(times, sound)

    def add(self, candidate: AlignedTimes) -> None:
        """The times of a division."""
        cost = disagreement(candidate, self._sound)
        if cost <= self._least:
            self._least, self._best = min(cost, self._least), candidate
        if cost <= self._enough:
            self.left = []

    def best(self) -> AlignedTimes | None:
        """The candidate that fits the sound best; None where none is better than the first pass."""
        return self._best
