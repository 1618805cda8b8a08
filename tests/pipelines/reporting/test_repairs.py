"""The report's table of the repair: counts and the share of the models' time, over all runs."""

from __future__ import annotations

import pytest

from pipelines.reporting import repairs


def test_runs_are_summed_and_costs_are_a_share_of_the_models_time() -> None:
    recut = {"segments": 2, "repaired": 1, "seconds": 90.0, "busy_seconds": 1.0}
    costs = {"recognise": {"cpu": {"busy_seconds": 15.0}}, "decode": {"cpu": {"busy_seconds": 99.0}}}
    runs = [
        {"repairs": {"recut": recut}, "model_costs": costs},
        {"repairs": {"recut": recut}, "model_costs": {"align": {"cpu": {"busy_seconds": 5.0}}}},
    ]
    found = repairs.of_runs(runs)
    assert found["recut"]["segments"] == 4 and found["recut"]["cost_share"] == pytest.approx(0.1)
    assert found["recut"]["repaired"] == 2 and found["recut"]["seconds"] == 180


def test_runs_of_earlier_versions_have_none() -> None:
    assert repairs.of_runs([{}, {"repairs": None}]) == {}
