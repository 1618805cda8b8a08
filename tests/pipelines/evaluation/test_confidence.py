"""AUC and calibration curve, against numbers computed by hand."""

import numpy as np
import pytest

from pipelines.evaluation.metrics.confidence import (
    BINS,
    Confidences,
    auc,
    calibration_curve,
    summary,
)
from pipelines.evaluation.metrics.edits import Edits


def test_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    # Right: 0.9, 0.6. Wrong: 0.5, 0.7. Pairs in order: 0.9 beats both, 0.6 beats 0.5.
    scores, right = np.array([0.9, 0.5, 0.6, 0.7]), np.array([True, False, True, False])
    assert auc(scores, right) == pytest.approx(3 / 4)


def test_ties_count_half() -> None:
    assert auc(np.array([0.8, 0.8]), np.array([True, False])) == 0.5


@pytest.mark.parametrize("right", [[True, True], [False, False]])
def test_there_is_no_auc_without_both_outcomes(right: list[bool]) -> None:
    assert auc(np.array([0.1, 0.9]), np.array(right)) is None


def test_the_curve_has_groups_of_equally_many_segments() -> None:
    confidence = np.linspace(0.5, 1.0, 2 * BINS)
    curve = calibration_curve(confidence, np.ones(2 * BINS), np.ones(2 * BINS))
    assert [part["segments"] for part in curve] == [2] * BINS
    assert curve[0]["from"] == 0.5
    assert curve[-1]["to"] == 1.0


def test_the_calibration_error_is_weighted_by_units() -> None:
    segments = Confidences()
    segments.add(0.9, Edits(hits=6))  # right 1.0, 0.1 off, 6 units
    segments.add(0.8, Edits(hits=1, substitutions=1))  # right 0.5, 0.3 off, 2 units
    figures = summary(segments, "segments")
    assert figures["calibration_error"] == pytest.approx((6 * 0.1 + 2 * 0.3) / 8)
    assert (figures["segments"], figures["segments_with_errors"], figures["auc"]) == (2, 1, 1.0)


def test_a_segment_without_units_is_left_out() -> None:
    segments = Confidences()
    segments.add(0.9, Edits())
    assert len(segments) == 0
