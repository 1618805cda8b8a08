"""What the confidence of segments and words is worth: AUC, calibration error, and calibration curve."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation.metrics.edits import Edits

BINS = 10
Floats = NDArray[np.float64]


@dataclass
class Confidences:
    """The confidence of segments or of words with the outcome of each: 12 bytes for each case."""

    confidence: array[float] = field(default_factory=lambda: array("f"))
    hits: array[float] = field(default_factory=lambda: array("f"))
    units: array[float] = field(default_factory=lambda: array("f"))

    def add(self, confidence: float, edits: Edits) -> None:
        """Add a segment or a word; one without any unit on either side is left out."""
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


def summary(cases: Confidences, name: str) -> dict[str, Any]:
    """Figures of all segments, or of all words.

    Args:
        cases: the segments or words.
        name: what they are: "segments" or "words".

    Returns:
        `auc`: probability that a case without errors has a higher confidence than one with errors; None
        if all are alike. `calibration_error`: mean distance of confidence and accuracy over the bins,
        weighted by units (expected calibration error, ECE). `curve`: for each bin its range, cases, units,
        mean confidence and accuracy.
    """
    confidence, accuracy, units = cases.arrays()
    curve = calibration_curve(confidence, accuracy, units, name)
    total = float(units.sum())
    return {
        name: len(cases),
        f"{name}_with_errors": int((accuracy < 1).sum()),
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


def calibration_curve(
    confidence: Floats, accuracy: Floats, units: Floats, name: str = "segments"
) -> list[dict[str, float]]:
    """Mean confidence and accuracy of BINS groups of equally many cases, in the order of confidence.

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
                    name: len(part),
                    "units": int(weight),
                    "confidence": float((confidence[part] * units[part]).sum() / weight),
                    "accuracy": float((accuracy[part] * units[part]).sum() / weight),
                }
            )
    return curve
