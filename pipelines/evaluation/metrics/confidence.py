"""What confidence is worth: AUC, calibration error, calibration curve, and a map that calibrates it."""

from __future__ import annotations

import json
from array import array
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.metrics.edits import Edits

BINS = 10
CALIBRATION_KIND = "scriptorium calibration"
Floats = NDArray[np.float64]


@dataclass
class Confidences:
    """The confidence of segments with the outcome of each."""

    confidence: array[float] = field(default_factory=lambda: array("d"))
    hits: array[float] = field(default_factory=lambda: array("d"))
    units: array[float] = field(default_factory=lambda: array("d"))

    def add(self, confidence: float, edits: Edits) -> None:
        """Add a segment; one without any unit on either side is left out."""
        units = edits.hits + edits.errors
        if units:
            self.confidence.append(confidence)
            self.hits.append(edits.hits)
            self.units.append(units)

    def __len__(self) -> int:
        return len(self.units)

    def arrays(self) -> tuple[Floats, Floats, Floats]:
        """Confidence, share of the aligned units that are right, and number of these units."""
        units = np.array(self.units, np.float64)
        return np.array(self.confidence, np.float64), np.array(self.hits, np.float64) / units, units


def summary(segments: Confidences) -> dict[str, Any]:
    """Figures of all segments.

    Returns:
        `auc`: probability that a segment without errors has a higher confidence than one with errors; None
        if all are alike. `calibration_error`: mean distance of confidence and accuracy over the bins,
        weighted by units. `curve`: for each bin its range, segments, units, mean confidence and accuracy.
    """
    confidence, accuracy, units = segments.arrays()
    curve = calibration_curve(confidence, accuracy, units)
    total = float(units.sum())
    return {
        "segments": len(segments),
        "segments_with_errors": int((accuracy < 1).sum()),
        "auc": auc(confidence, accuracy == 1),
        "calibration_error": (
            sum(part["units"] * abs(part["confidence"] - part["accuracy"]) for part in curve) / total
            if total
            else None
        ),
        "curve": curve,
    }


def auc(scores: Floats, right: NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve: the probability that a right case scores higher than a wrong one.

    Ties count half.

    Args:
        scores: of each case.
        right: whether it is right.
    """
    good, bad = np.sort(scores[right]), scores[~right]
    if not len(good) or not len(bad):
        return None
    lower_or_equal = np.searchsorted(good, bad, side="right")
    lower = np.searchsorted(good, bad, side="left")
    wins = (len(good) - lower_or_equal) + 0.5 * (lower_or_equal - lower)
    return float(wins.sum() / (len(good) * len(bad)))


def calibration_curve(confidence: Floats, accuracy: Floats, units: Floats) -> list[dict[str, float]]:
    """Mean confidence and accuracy of BINS groups of equally many segments, in the order of confidence.

    Groups rather than equal ranges, because most confidences are near 1.
    """
    curve = []
    for part in np.array_split(np.argsort(confidence, kind="stable"), BINS):
        if len(part):
            weight = float(units[part].sum())
            curve.append(
                {
                    "from": float(confidence[part[0]]),
                    "to": float(confidence[part[-1]]),
                    "segments": len(part),
                    "units": int(weight),
                    "confidence": float((confidence[part] * units[part]).sum() / weight),
                    "accuracy": float((accuracy[part] * units[part]).sum() / weight),
                }
            )
    return curve


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


def calibration(segments: Confidences, asr_model: str | None, created_at: str) -> dict[str, Any]:
    """A calibration file's content: what confidence of this model means as a share of right words.

    Args:
        segments: at least one.
        asr_model: whose confidence it is.
        created_at: time in UTC, ISO 8601.
    """
    confidence, accuracy, units = segments.arrays()
    knots_x, knots_y = isotonic(confidence, accuracy, units)
    return {
        "kind": CALIBRATION_KIND,
        "version": 1,
        "asr_model": asr_model,
        "created_at": created_at,
        "segments": len(segments),
        "units": int(units.sum()),
        "confidence": [round(value, 6) for value in knots_x],
        "calibrated": [round(value, 6) for value in knots_y],
    }


def calibrated(confidence: float, content: dict[str, Any]) -> float:
    """A confidence through the map of a calibration file, linear between its knots and constant outside."""
    return float(np.interp(confidence, content["confidence"], content["calibrated"]))


def to_bytes(content: dict[str, Any]) -> bytes:
    """The calibration as JSON."""
    return json.dumps(content, ensure_ascii=False, indent=1).encode()
