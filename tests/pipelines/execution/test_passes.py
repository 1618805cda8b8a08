"""OUT/run.json has what servers were asked for, also of a run that did not finish."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from actors.errors import FatalError, StorageError
from pipelines.config import RunConfig
from pipelines.execution import passes
from pipelines.execution.supervised_pass import ShardPass
from pipelines.output import run_record
from pipelines.supervision import shutdown
from pipelines.supervision.losses import PassLosses

H200 = {"calls": 3, "audio_seconds": 6000.0, "busy_seconds": 2.0, "replicas_per_gpu": 1.0}
FIRST = PassLosses(
    crashed_processes=1,
    repeated_shards=2,
    usage={"requests": 3, "audio_seconds": 1.5},
    costs={"recognise": {"NVIDIA H200": H200}},
)
SECOND = PassLosses(
    repeated_shards=1,
    usage={"requests": 4},
    costs={"recognise": {"NVIDIA H200": H200 | {"calls": 1, "audio_seconds": 3000.0}}},
)


def recorded_run(out: str, error: BaseException | None) -> dict[str, Any]:
    """The record of a run that ended with this error after two passes."""
    run_id, record = run_record.open_run(out, RunConfig(), "transcribe", "m.jsonl")
    try:
        with passes.record_losses(out, record, run_id) as losses:
            losses += [FIRST, SECOND]
            if error:
                raise error
    except BaseException as caught:
        assert caught is error
    run: dict[str, Any] = run_record.require(out)["runs"][0]
    assert run["finished_at"] is None
    return run


@pytest.fixture
def no_stop_requested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutdown, "stop_requested", threading.Event())
    monkeypatch.setattr(shutdown, "_aborted", threading.Event())


@pytest.mark.usefixtures("no_stop_requested")
@pytest.mark.parametrize(
    "error", [None, FatalError("the account is empty"), StorageError("no room"), RuntimeError("Ray")]
)
def test_usage_is_recorded_despite_an_error(tmp_path: Path, error: Exception | None) -> None:
    run = recorded_run(str(tmp_path), error)
    assert run["asked_of_servers"] == {"requests": 7, "audio_seconds": 1.5}
    assert (run["processes_died"], run["shards_again"]) == (1, 3)
    assert run["model_costs"] == {
        "recognise": {
            "NVIDIA H200": {
                "calls": 4,
                "audio_seconds": 9000.0,
                "busy_seconds": 4.0,
                "replicas_per_gpu": 1.0,
                "rtfx": 2250.0,
            }
        }
    }


@pytest.mark.usefixtures("no_stop_requested")
def test_a_regular_stop_records_usage_and_a_lost_lease_writes_nothing(tmp_path: Path) -> None:
    shutdown.stop_requested.set()
    assert recorded_run(str(tmp_path / "stopped"), KeyboardInterrupt())["asked_of_servers"]["requests"] == 7
    shutdown._aborted.set()
    assert "asked_of_servers" not in recorded_run(str(tmp_path / "lost"), KeyboardInterrupt())


@pytest.mark.usefixtures("no_stop_requested")
def test_the_error_that_ended_the_run_is_raised_if_run_json_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise StorageError("no room for run.json")

    monkeypatch.setattr(run_record, "note", fail)
    assert "asked_of_servers" not in recorded_run(str(tmp_path), FatalError("the account is empty"))


def test_shards_lost_without_a_crash_end_the_run_with_both_passes_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = pa.table({"shard_id": ["a", "b"]})

    def run_shards(work: ShardPass, losses: list[PassLosses]) -> None:
        losses.append(PassLosses(usage={"requests": 1}))

    monkeypatch.setattr(passes, "run_shards", run_shards)
    losses: list[PassLosses] = []
    with pytest.raises(FatalError, match="2 of 2 shards were not done"):
        passes.run_passes(ShardPass(str(tmp_path), RunConfig(), "run", "transcribe", plan, plan), losses)
    assert [one.usage for one in losses] == [{"requests": 1}] * 2
