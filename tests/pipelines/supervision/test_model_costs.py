"""Seconds of work and of audio, by stage and device."""

from __future__ import annotations

import pytest

from pipelines.supervision import model_costs
from pipelines.supervision.model_costs import BusyTimer
from pipelines.supervision.supervisor import Supervisor

CALL = {"calls": 1, "audio_seconds": 600.0, "busy_seconds": 0.5}


def test_overlapping_calls_are_busy_once() -> None:
    now = 0.0
    timer = BusyTimer(lambda: now)
    with timer.running():
        now = 1.0
        with timer.running():
            now = 3.0
        assert timer.take() == 3.0
        now = 4.0
    now = 10.0  # nothing runs
    assert timer.take() == 1.0
    assert timer.take() == 0.0


def test_a_call_that_fails_is_no_longer_running() -> None:
    now = 0.0
    timer = BusyTimer(lambda: now)
    with pytest.raises(ValueError, match="failed"), timer.running():
        now = 2.0
        raise ValueError("failed")
    now = 5.0
    assert timer.take() == 2.0


def test_calls_of_one_stage_and_device_add_up() -> None:
    supervisor = Supervisor()
    supervisor.record_costs("recognise", "NVIDIA H200", CALL | {"model": "m"})
    supervisor.record_costs("recognise", "NVIDIA H200", CALL | {"model": "m"})
    supervisor.record_costs("recognise", "NVIDIA L4", CALL)
    supervisor.record_costs("align", "NVIDIA H200", CALL)
    record = model_costs.as_record(supervisor.model_costs())
    assert record["recognise"]["NVIDIA H200"] == {
        "calls": 2,
        "audio_seconds": 1200.0,
        "busy_seconds": 1.0,
        "model": "m",
        "rtfx": 1200.0,
    }
    assert record["recognise"]["NVIDIA L4"]["calls"] == record["align"]["NVIDIA H200"]["calls"] == 1


def test_stages_that_were_never_busy_have_no_speed() -> None:
    assert model_costs.as_record({"align": {"cpu": CALL | {"busy_seconds": 0.0}}}) == {"align": {}}


def test_only_gpus_have_replicas_on_a_gpu() -> None:
    costs = {
        "decode": {"cpu": CALL},
        "recognise": {"NVIDIA H200": CALL, "cpu": CALL, "server": CALL},
    }
    found = model_costs.with_replicas(costs, {"recognise": 2.0})
    assert found["recognise"]["NVIDIA H200"]["replicas_per_gpu"] == 2.0
    assert found["recognise"]["cpu"] == found["recognise"]["server"] == found["decode"]["cpu"] == CALL


def test_costs_are_one_line() -> None:
    costs = {"decode": {"cpu": CALL}, "recognise": {"NVIDIA H200": CALL}}
    line = "decode 1,200x on cpu, recognise 1,200x on NVIDIA H200"
    assert model_costs.in_words(model_costs.as_record(costs)) == line
    assert model_costs.in_words({}) == ""
