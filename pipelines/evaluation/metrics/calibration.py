"""Learns what a model's confidence means as a share of right words: the maps of a calibration file."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.confidence.calibration import KIND, VERSION
from pipelines.evaluation.metrics.confidence import Confidences

Floats = NDArray[np.float64]
# (confidence, share of right words, weight) of cases -> knots
Fit = Callable[[Floats, Floats, Floats], tuple[list[float], list[float]]]

_GROUPS = 100  # most groups of neighbours whose mean is taken before the fit
_GROUP_SIZE = 20  # cases in a group, where there are so many
_DIGITS = 6
_FOLDS = 5
# Of the logistic map: weight of its prior in cases, its knots, and the logits between which they are.
_PRIOR, _KNOTS, _LARGEST_LOGIT, _LEAST = 1.0, 47, 9.2, 1e-4
_STEPS, _SMALL_STEP = 100, 1e-9


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


def logistic(x: Floats, y: Floats, weights: Floats) -> tuple[list[float], list[float]]:
    """The logistic function of the logit of x that is nearest to y: two parameters, never decreasing.

    A weak prior draws it to y = x, so that a few cases change little.

    Source: Platt, Probabilistic outputs for support vector machines, 1999; on logits as in Guo et al., On
    calibration of modern neural networks, 2017.

    Returns:
        Knots (x, y) that follow the curve from 0 to 1.
    """
    inputs = np.stack([_logit(x), np.ones_like(x)], axis=1)
    identity = np.array([1.0, 0.0])
    parameters = identity.copy()

    def loss(at: Floats) -> float:
        score = inputs @ at
        fit = weights * (np.logaddexp(0.0, score) - y * score)
        return float(fit.sum() + _PRIOR * ((at - identity) ** 2).sum() / 2)

    for _ in range(_STEPS):
        found = 1 / (1 + np.exp(-(inputs @ parameters)))
        slope = inputs.T @ (weights * (found - y)) + _PRIOR * (parameters - identity)
        curvature = (inputs.T * (weights * found * (1 - found))) @ inputs + _PRIOR * np.eye(2)
        step = np.linalg.solve(curvature, slope)
        # Newton's method goes too far where the curve is flat.
        while loss(parameters - step) > loss(parameters) and np.abs(step).max() > _SMALL_STEP:
            step = step / 2
        parameters = parameters - step
        if np.abs(step).max() <= _SMALL_STEP:
            break
    at = 1 / (1 + np.exp(-np.linspace(-_LARGEST_LOGIT, _LARGEST_LOGIT, _KNOTS)))
    if parameters[0] <= 0:
        return [0.5], [float((weights * y).sum() / weights.sum())]
    return at.tolist(), (1 / (1 + np.exp(-(parameters[0] * _logit(at) + parameters[1])))).tolist()


def _logit(x: Floats) -> Floats:
    bounded = np.clip(x, _LEAST, 1 - _LEAST)
    return np.log(bounded / (1 - bounded))


def _fitted(cases: Confidences) -> dict[str, Any] | None:
    """The better of both maps on cases that they were not fitted to."""
    if not len(cases):
        return None
    confidence, accuracy, units = cases.arrays()
    errors = {
        name: _held_out_error(fit, confidence, accuracy, units)
        for name, fit in _METHODS.items()
        if len(cases) >= _FOLDS * _GROUP_SIZE
    }
    method = min(errors, key=lambda name: errors[name], default="logistic")
    knots_x, knots_y = _METHODS[method](confidence, accuracy, units)
    # Rounding must not make two knots of one.
    rounded = dict(
        zip((round(at, _DIGITS) for at in knots_x), (round(y, _DIGITS) for y in knots_y), strict=True)
    )
    return {
        "cases": len(cases),
        "units": int(units.sum()),
        "method": method,
        "confidence": list(rounded),
        "calibrated": list(rounded.values()),
    }


def _smoothed_isotonic(x: Floats, y: Floats, weights: Floats) -> tuple[list[float], list[float]]:
    """The isotonic function of groups of neighbours, with one knot in the middle of each block.

    Between middles the order of confidences stays, which steps would lose.
    """
    middles: dict[float, list[float]] = {}
    for at, mean in zip(*isotonic(*_grouped(x, y, weights)), strict=True):
        middles.setdefault(mean, []).append(at)
    return [sum(places) / len(places) for places in middles.values()], list(middles)


def _held_out_error(fit: Fit, x: Floats, y: Floats, weights: Floats) -> float:
    """Squared error of a map on each of _FOLDS parts, fitted to the others.

    Parts are stretches of the evaluation, because cases of one recording are alike.
    """
    total = 0.0
    for part in np.array_split(np.arange(len(x)), _FOLDS):
        others = np.ones(len(x), bool)
        others[part] = False
        found = np.interp(x[part], *fit(x[others], y[others], weights[others]))
        total += float((weights[part] * (found - y[part]) ** 2).sum())
    return total


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


_METHODS: dict[str, Fit] = {"logistic": logistic, "isotonic": _smoothed_isotonic}
