"""Levels of 10 ms frames in dB relative to full scale, and arithmetic on spans. Pure functions on arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from actors.records import Span

# Samples of a frame: 10 ms.
FRAME = 160
# Frames that are averaged to find pauses: 100 ms.
_SMOOTH = 10
# dB of samples that are all equal.
_LOWEST_LEVEL = -120.0
# Frames of the longest click, and frames around a click that are compared with it.
_CLICK, _AROUND = 3, 25
# dB that a click is louder than all that is around it.
_CLICK_RISE = 12.0


def frame_levels(samples: np.ndarray) -> np.ndarray:
    """The level of each 10 ms frame in dB relative to full scale, without its DC offset.

    Args:
        samples: int16; the last frame may be shorter.

    Returns:
        float64, shape (frames,).
    """
    count = len(samples) // FRAME
    frames = samples[: count * FRAME].reshape(count, FRAME).astype(np.float32)
    # Sums of 160 such integers are exact in float32.
    means = (frames @ np.ones(FRAME, np.float32)).astype(np.float64) / FRAME
    variance = np.einsum("ij,ij->i", frames, frames).astype(np.float64) / FRAME - means**2
    if len(samples) > count * FRAME:
        variance = np.append(variance, samples[count * FRAME :].astype(np.float64).var())
    return np.maximum(_LOWEST_LEVEL, 10 * np.log10(np.maximum(variance, 1e-3) / 2.0**30))


def smoothed(levels: np.ndarray) -> np.ndarray:
    """The mean level of the 100 ms around each frame."""
    if len(levels) <= _SMOOTH:
        return levels
    total = np.concatenate(
        ([0.0], np.cumsum(np.pad(10 ** (levels / 10), (_SMOOTH // 2, _SMOOTH // 2), mode="edge")))
    )
    power = (total[_SMOOTH:] - total[:-_SMOOTH]) / _SMOOTH
    return 10 * np.log10(np.maximum(power[: len(levels)], 1e-12))


def without_clicks(levels: np.ndarray) -> np.ndarray:
    """The levels with clicks replaced by what is around them.

    A click is a run of at most 30 ms that is 12 dB louder than everything within 250 ms on both sides.
    No word is: it is longer, or has other sounds around it. Nearer to the ends nothing counts as a click:
    it may be a word that goes on in the next shard.

    Args:
        levels: see `frame_levels`.

    Returns:
        float64, shape (frames,).
    """
    if not len(levels):
        return levels
    padded = np.pad(levels, _CLICK, mode="edge")
    count = len(levels)
    # A cheap test first: abrupt on both sides.
    before, after = padded[:count], padded[2 * _CLICK :]
    result = levels
    abrupt = np.flatnonzero(levels - np.maximum(before, after) > _CLICK_RISE)
    for frame in abrupt[(abrupt >= _AROUND) & (abrupt < count - _AROUND)]:
        left = levels[max(0, frame - _AROUND) : max(0, frame - _CLICK + 1)]
        right = levels[frame + _CLICK : frame + _AROUND + 1]
        around = max(left.max(initial=_LOWEST_LEVEL), right.max(initial=_LOWEST_LEVEL))
        loud = np.flatnonzero(levels[max(0, frame - _CLICK + 1) : frame + _CLICK] > around + _CLICK_RISE)
        if len(loud) and loud[-1] - loud[0] < _CLICK and levels[frame] > around + _CLICK_RISE:
            if result is levels:
                result = levels.copy()
            first = max(0, frame - _CLICK + 1)
            result[first : frame + _CLICK] = np.minimum(result[first : frame + _CLICK], around)
    return result


def runs(flags: np.ndarray) -> list[Span]:
    """Runs of True as spans of indices."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    return [Span(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def between(spans: Sequence[Span], total: int) -> list[Span]:
    """The gaps between spans in [0, total)."""
    gaps: list[Span] = []
    place = 0
    for span in sorted(spans, key=lambda s: s.start):
        if span.start > place:
            gaps.append(Span(place, min(span.start, total)))
        place = max(place, span.end)
    if place < total:
        gaps.append(Span(place, total))
    return gaps


def touched(spans: list[Span], frames: int) -> np.ndarray:
    """Which frames spans of samples touch."""
    mask = np.zeros(frames, bool)
    for span in spans:
        mask[span.start // FRAME : -(-span.end // FRAME)] = True
    return mask


def widened(mask: np.ndarray, by: int) -> np.ndarray:
    """The mask, where each True reaches `by` frames further on both sides."""
    total = np.cumsum(np.pad(mask.astype(np.int32), (by + 1, by)))
    widened: np.ndarray = total[2 * by + 1 :] > total[: -2 * by - 1]
    return widened


def without_spans(region: Span, spans: list[Span]) -> list[Span]:
    """What is left of a region without spans, which may reach beyond it."""
    inside = [
        Span(max(span.start, region.start) - region.start, min(span.end, region.end) - region.start)
        for span in spans
        if span.start < region.end and span.end > region.start
    ]
    left = between(inside, region.end - region.start)
    return [Span(region.start + span.start, region.start + span.end) for span in left]
