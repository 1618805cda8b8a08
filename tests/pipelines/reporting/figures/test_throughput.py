"""Throughput over time, the stage that held a run up, and what it cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pipelines.reporting.figures import costs, throughput
from pipelines.reporting.figures.costs import Prices
from pipelines.supervision.throughput import MAX_POINTS, ThroughputRecorder


def record(points: list[tuple[float, float, float]], slots: int = 2) -> dict[str, Any]:
    """A pass of one stage: moments, audio seconds, busy seconds."""
    return {
        **{"started_at": "2026-11-27T10:00:30+00:00", "gpus": 1, "cores": 8, "slots": {"recognise": slots}},
        "points": [
            {"at": at, "seconds": 0, "stages": {"recognise": [audio, busy]}} for at, audio, busy in points
        ],
    }


def test_the_work_of_a_stage_is_a_share_of_the_time_of_its_slots() -> None:
    found = throughput.of_pass(record([(10, 100, 4), (20, 500, 24)]))
    stage = found["stages"]["recognise"]
    assert stage["utilisation"] == pytest.approx(0.6)
    assert stage["speed"] == [[5.0, 10.0], [15.0, 40.0]]


def test_a_last_point_right_behind_another_makes_no_peak() -> None:
    found = throughput.of_pass(record([(10, 100, 4), (20, 200, 8), (20.3, 300, 9)]))
    speeds = [speed for _, speed in found["stages"]["recognise"]["speed"]]
    assert speeds == pytest.approx([10.0, 200 / 10.3], rel=0.01)


def test_a_pass_without_points_has_no_stages() -> None:
    assert throughput.of_pass(record([])) == {"seconds": 0.0, "gpus": 1, "cores": 8, "stages": {}}
    assert throughput.bottleneck([throughput.of_pass(record([]))]) is None


def test_passes_count_by_their_length() -> None:
    def one(seconds: float, **shares: float) -> dict[str, Any]:
        return {
            "seconds": seconds,
            "stages": {name: {"utilisation": share} for name, share in shares.items()},
        }

    passes = [one(100, decode=0.9, recognise=0.5), one(10, decode=0.0, recognise=1.0)]
    assert throughput.bottleneck(passes) == {"stage": "decode", "utilisation": 0.818, "is_busy": True}
    passes = [one(100, decode=0.2, recognise=0.3)]
    assert throughput.bottleneck(passes) == {"stage": "recognise", "utilisation": 0.3, "is_busy": False}


def test_the_area_under_the_curve_of_commits_is_the_audio() -> None:
    times, seconds = np.linspace(1, 99, 400), np.full(400, 30.0)
    points = throughput.curve(times, seconds, 100.0)
    assert len(points) == throughput.BINS
    assert sum(speed for _, speed in points) * 100 / len(points) == pytest.approx(400 * 30, rel=0.01)


def test_a_recorder_keeps_the_ends_of_a_long_pass() -> None:
    number = 0
    recorder = ThroughputRecorder("2026-11-27T10:00:00+00:00", {"decode": 4}, 0, 4, clock=lambda: number)
    for number in range(5000):
        recorder.add(float(number), {"decode": {"cpu": {"audio_seconds": number, "busy_seconds": 0.5}}})
    recorder.add(5000.0, {}, last=True)
    points = recorder.as_record()["points"]
    assert 50 < len(points) <= MAX_POINTS and points[-1]["seconds"] == 5000.0
    gaps = np.diff([point["at"] for point in points[:-1]])
    assert gaps.max() <= 2 * gaps.min() and points[0]["at"] <= gaps.max()


def run(gpus: int, cores: int, hours: float, audio_hours: float) -> dict[str, Any]:
    passes = [{"gpus": gpus, "cores": cores}]
    return {"passes": passes, "wall_seconds": 3600 * hours, "audio_seconds": 3600 * audio_hours}


def test_gpus_are_paid_for_from_start_to_end_and_cores_only_where_there_are_none() -> None:
    runs = {"a": run(4, 64, 2.0, 1000.0), "b": run(0, 10, 1.0, 10.0)}
    settings = {"config": {"estimate": {"gpu_hour_price": 2.0, "core_hour_price": 0.1, "currency": "EUR"}}}
    found = costs.of_runs(settings, runs, Prices())
    assert (found["gpu_hours"], found["core_hours"], found["cost"]) == (8.0, 10.0, 17.0)
    assert found["per_audio_hour"] == pytest.approx(17 / 1010, rel=1e-3)
    assert (found["currency"], found["assumed"], found["runs"]) == ("EUR", False, 2)


def test_runs_of_unknown_machines_cost_nothing_known() -> None:
    old = {"passes": [], "wall_seconds": 60.0, "audio_seconds": 60.0}
    found = costs.of_runs({}, {"a": old}, Prices())
    assert found["cost"] is None and found["runs_unknown"] == 1
