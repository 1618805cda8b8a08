"""Learns what a model's confidence means as a share of right words: the maps of a calibration file."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.confidence.calibration import KIND, VERSION
from pipelines.evaluation.metrics.confidence import Confidences

Floats = NDArray[np.float64]

_GROUPS = 100  # most groups of neighbours whose mean is taken before the fit
_GROUP_SIZE = 20  # cases in a group, where there are so many
_DIGITS = 6


def calibration(
    segments: Confidences, words: Confidences, asr_model: str | None, created_at: str
) -> dict[str, Any]:
    """A calibration file's content.

    Args:
        segments: confidences and outcomes of segments; empty: no map for them.
        words: the same of words.
        asr_model: whose confidence it is.
        created_at: time in UTC, ISO 8601.
    """
    return {
        "kind": KIND,
        "version": VERSION,
        "asr_model": asr_model,
        "created_at": created_at,
        "segments": _fitted(segments),
        "words": _fitted(words),
    }


def to_bytes(content: dict[str, Any]) -> bytes:
    """The calibration as JSON."""
    return json.dumps(content, ensure_ascii=False, indent=1).encode()


def isotonic(x: Floats, y: Floats, weights: Floats) -> tuple[list[float], list[float]]:
    """The non-decreasing function of x that is nearest to y in weighted least squares.

    Method: pooling adjacent violators.

    Source: Ayer et al., An empirical distribution function for sampling with incomplete information, 1955.

    Returns:
        Knots (x, y), to be connected by straight lines: the first and last x of each block of equal values.
    """
    order = np.argsort(x, kind="stable")
    blocks: list[list[float]] = []  # mean, weight, first x, last x
    for place in order:
        at = float(x[place])
        blocks.append([float(y[place]), float(weights[place]), at, at])
        # Equal x must have equal values, so they are pooled like violators.
        while len(blocks) > 1 and (blocks[-2][0] >= blocks[-1][0] or blocks[-2][3] == blocks[-1][2]):
            mean, weight, _, last = blocks.pop()
            before = blocks[-1]
            total = before[1] + weight
            before[0] = (before[0] * before[1] + mean * weight) / total
            before[1], before[3] = total, last
    knots_x, knots_y = [], []
    for mean, _, first, last in blocks:
        for at in (first,) if first == last else (first, last):
            knots_x.append(at)
            knots_y.append(mean)
    return knots_x, knots_y


def _fitted(cases: Confidences) -> dict[str, Any] | None:
    if not len(cases):
        return None
    confidence, accuracy, units = cases.arrays()
    # The middle of each block: between middles the order of confidences stays, which steps would lose.
    middles: dict[float, list[float]] = {}
    for at, mean in zip(*isotonic(*_grouped(confidence, accuracy, units)), strict=True):
        middles.setdefault(round(mean, _DIGITS), []).append(at)
    rounded = {round(sum(places) / len(places), _DIGITS): mean for mean, places in middles.items()}
    return {
        "cases": len(cases),
        "units": int(units.sum()),
        "confidence": list(rounded),
        "calibrated": list(rounded.values()),
    }


def _grouped(confidence: Floats, accuracy: Floats, units: Floats) -> tuple[Floats, Floats, Floats]:
    """Means of neighbours: a single case is right or wrong, and a fit to single cases follows chance."""
    groups = min(_GROUPS, len(confidence) // _GROUP_SIZE)
    if groups < 2:
        return confidence, accuracy, units
    parts = np.array_split(np.argsort(confidence, kind="stable"), groups)
    weights = np.array([units[part].sum() for part in parts])
    means = [
        np.array([(values[part] * units[part]).sum() for part in parts]) / weights
        for values in (confidence, accuracy)
    ]
    return means[0], means[1], weights
