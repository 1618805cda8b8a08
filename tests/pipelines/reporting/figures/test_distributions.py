"""Histograms and quantiles in constant memory."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.reporting.figures.distributions import DURATIONS, Distribution


def test_values_are_counted_from_a_bound_up_to_the_next() -> None:
    found = Distribution((0, 2, 5), 100.0)
    found.add(np.array([0.0, 1.999, 2.0, 4.9]))
    found.add(np.array([5.0, 1e9, np.nan, np.inf]))
    assert found.as_record()["counts"] == [2, 2, 2] and found.values == 6


@pytest.mark.parametrize("is_wide", [False, True])
def test_quantiles_are_those_of_all_values_in_any_number_of_parts(is_wide: bool) -> None:
    values = np.random.default_rng(1).gamma(2.0, 30.0, 50_000)
    found = Distribution(DURATIONS, 1000.0, is_wide)
    for part in np.array_split(values, 37):
        found.add(part)
    for share in (0.05, 0.5, 0.95):
        assert found.quantile(share) == pytest.approx(np.quantile(values, share), rel=0.01)


def test_one_value_is_its_own_median() -> None:
    found = Distribution(DURATIONS, 400 * 3600, True)
    found.add(np.array([7.0]))
    record = found.as_record()
    assert record["median"] == record["p05"] == record["least"] == record["most"] == 7.0


def test_nothing_has_no_quantiles() -> None:
    found = Distribution((0, 1), 1.0)
    found.add(np.array([]))
    assert found.as_record() == {"values": 0, "bounds": [0, 1], "counts": [0, 0]}
