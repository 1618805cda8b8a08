"""Calibration: monotone maps from the confidence of a model to the share of right words. Pure.

The maps are learned by `scriptorium evaluate --write-calibration` from recordings with references, and hold
for the model that they were learned from.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from actors.confidence.words import CONFIDENCE_DIGITS
from actors.errors import UsageError
from actors.records import Row

KIND = "scriptorium calibration"
VERSION = 2


@dataclass(frozen=True, slots=True)
class ConfidenceMap:
    """Straight lines between knots, constant outside them; never decreasing."""

    confidence: tuple[float, ...]
    calibrated: tuple[float, ...]

    def __call__(self, confidence: float | None) -> float | None:
        """The calibrated value; None stays None."""
        if confidence is None:
            return None
        return round(float(np.interp(confidence, self.confidence, self.calibrated)), CONFIDENCE_DIGITS)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The maps of one model."""

    asr_model: str
    digest: str  # of the file
    segments: ConfidenceMap | None
    words: ConfidenceMap | None

    def apply(self, segment: Row) -> Row:
        """A segment whose confidences, and those of its words, are calibrated.

        The confidence of the language and those of rejected candidates stay as they are.
        """
        calibrated = dict(segment)
        if self.segments:
            calibrated["confidence"] = self.segments(segment.get("confidence"))
        if self.words:
            calibrated["min_confidence"] = self.words(segment.get("min_confidence"))
            calibrated["words"] = [
                {**word, "confidence": self.words(word.get("confidence"))} for word in segment["words"] or []
            ]
        return calibrated


def parse(data: bytes, origin: str) -> Calibration:
    """The calibration in a file.

    Args:
        data: its content.
        origin: its address, for messages.

    Raises:
        UsageError: it is no calibration, or one of another version.
    """
    try:
        content = json.loads(data)
    except ValueError:
        content = None
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise UsageError(
            f"{origin} is no calibration: write one with `scriptorium evaluate OUT --references MANIFEST "
            "--write-calibration FILE`"
        )
    if content.get("version") != VERSION:
        raise UsageError(
            f"{origin} is a calibration of version {content.get('version')}, and this program reads version "
            f"{VERSION}: write it again with `scriptorium evaluate --write-calibration`"
        )
    return Calibration(
        asr_model=str(content.get("asr_model") or ""),
        digest=hashlib.sha256(data).hexdigest()[:16],
        segments=_map(content.get("segments"), origin),
        words=_map(content.get("words"), origin),
    )


def _map(content: Any, origin: str) -> ConfidenceMap | None:
    if content is None:
        return None
    try:
        x, y = (np.array(content[name], np.float64) for name in ("confidence", "calibrated"))
        increasing = x.ndim == y.ndim == 1 and len(x) == len(y) > 0 and (np.diff(x) > 0).all()
        if increasing and (np.diff(y) >= 0).all() and x[0] >= 0 and x[-1] <= 1 and y[0] >= 0 and y[-1] <= 1:
            return ConfidenceMap(tuple(x.tolist()), tuple(y.tolist()))
    except (KeyError, TypeError, ValueError):
        pass
    raise UsageError(
        f"{origin} is damaged: its maps need `confidence`, increasing, and `calibrated`, never decreasing, "
        "of the same length, from 0 to 1"
    )
