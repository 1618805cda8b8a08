"""AUC, calibration curve and the calibrating map, against numbers computed by hand."""

import numpy as np
import pytest

from pipelines.evaluation.metrics.confidence import (
    BINS,
    Confidences,
    auc,
    calibrated,
    calibration,
    calibration_curve,
    isotonic,
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


def test_isotonic_pools_adjacent_violators() -> None:
    x, y = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.1, 0.6, 0.2, 0.9])
    # 0.6 and 0.2 are in the wrong order: both become their mean 0.4.
    assert isotonic(x, y, np.ones(4)) == ([0.1, 0.2, 0.3, 0.4], pytest.approx([0.1, 0.4, 0.4, 0.9]))


def test_isotonic_respects_weights() -> None:
    _, y = isotonic(np.array([0.1, 0.2]), np.array([1.0, 0.0]), np.array([3.0, 1.0]))
    assert y == pytest.approx([0.75, 0.75])


def test_isotonic_gives_one_value_to_equal_confidences() -> None:
    x, y = isotonic(np.array([0.5, 0.5, 0.9]), np.array([0.0, 1.0, 1.0]), np.ones(3))
    assert (x, y) == ([0.5, 0.9], pytest.approx([0.5, 1.0]))


def test_isotonic_is_the_best_of_all_monotone_maps() -> None:
    random = np.random.default_rng(3)
    x, y, weights = np.sort(random.random(7)), random.random(7), random.integers(1, 5, 7).astype(float)
    knots = isotonic(x, y, weights)
    fitted = np.interp(x, *knots)
    assert (np.diff(fitted) >= -1e-12).all()

    def loss(values: np.ndarray) -> float:
        return float((weights * (values - y) ** 2).sum())

    for _ in range(2000):
        other = np.sort(np.clip(fitted + 0.1 * random.standard_normal(7), 0, 1))
        assert loss(other) >= loss(fitted) - 1e-9


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
    figures = summary(segments)
    assert figures["calibration_error"] == pytest.approx((6 * 0.1 + 2 * 0.3) / 8)
    assert (figures["segments"], figures["segments_with_errors"], figures["auc"]) == (2, 1, 1.0)


def test_a_segment_without_units_is_left_out() -> None:
    segments = Confidences()
    segments.add(0.9, Edits())
    assert len(segments) == 0


def test_a_calibration_maps_between_its_knots() -> None:
    segments = Confidences()
    segments.add(0.5, Edits(hits=1, deletions=1))
    segments.add(0.9, Edits(hits=2))
    content = calibration(segments, "model", "2026-01-01T00:00:00+00:00")
    assert content["confidence"] == [0.5, 0.9]
    assert content["calibrated"] == [0.5, 1.0]
    assert calibrated(0.7, content) == pytest.approx(0.75)
    assert calibrated(0.1, content) == 0.5
