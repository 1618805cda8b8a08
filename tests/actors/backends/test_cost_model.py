"""Costs of calls are fitted to measurements."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.backends.cost_model import CostModel, fit, measure
from actors.batch_limits import GPU_CALL_COST


@given(call=st.floats(1e-4, 1), padded=st.floats(1e-6, 1e-2))
def test_exact_costs_are_recovered(call: float, padded: float) -> None:
    true = CostModel(call, padded, 64, "gpu")
    points = [
        (rows, longest, true.seconds(longest, rows)) for rows, longest in ((1, 4.0), (8, 8.0), (64, 30.0))
    ]
    found = fit(points, "gpu")
    assert found.call_seconds == pytest.approx(call, rel=1e-3)
    assert found.padded_second == pytest.approx(padded, rel=1e-3)
    assert found.rows == 64


def test_a_cost_is_never_negative() -> None:
    """Noise can make the larger call the faster one."""
    flat = fit([(1, 10.0, 1.0), (64, 10.0, 0.9)], "gpu")
    assert flat.padded_second == 0 and flat.call_seconds > 0
    assert flat.call_cost_segments == GPU_CALL_COST
    steep = fit([(1, 10.0, 0.1), (10, 10.0, 2.0)], "gpu")
    assert steep.call_seconds == 0 and steep.padded_second > 0


def test_one_size_of_call_is_not_enough() -> None:
    with pytest.raises(ValueError, match="do not determine"):
        fit([(8, 4.0, 1.0), (8, 8.0, 2.0)], "gpu")


def test_measuring_stops_at_its_budget() -> None:
    now, calls = [0.0], []
    true = CostModel(0.02, 0.0005, 0, "gpu")

    def call(rows: int, seconds: float) -> float:
        calls.append(rows)
        took = true.seconds(seconds, rows)
        now[0] += took
        return took

    found = measure(call, "gpu", budget=0.5, clock=lambda: now[0])
    assert calls == [1, 1, 32, 64]  # the first one warms up
    assert found is not None and found.call_cost_segments == pytest.approx(40, rel=0.01)
    assert found.as_record() == {
        "call_seconds": pytest.approx(0.02, rel=0.01),
        "padded_second": pytest.approx(0.0005, rel=0.01),
        "rows": 64,
        "device": "gpu",
    }


def test_a_call_that_does_not_fit_the_device_ends_the_measurement() -> None:
    def call(rows: int, seconds: float) -> float:
        if rows > limit:
            raise RuntimeError("CUDA out of memory")
        return 0.01 * rows

    limit = 32
    assert measure(call, "gpu", budget=9) is not None
    limit = 1
    assert measure(call, "gpu", budget=9) is None


def test_a_recogniser_is_measured_with_answers_of_the_usual_length(tiny_models) -> None:
    pytest.importorskip("torch")
    from actors.backends.transformers.asr import TransformersASR
    from actors.config import ASRConfig

    backend = TransformersASR(ASRConfig(model=str(tiny_models.asr), device="cpu"))
    assert backend.cost_model is None  # a CPU's cost is a constant
    found = measure(backend.probe, "cpu", budget=1.0)
    assert found is not None and found.seconds(4.0, 8) > 0
