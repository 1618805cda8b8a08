"""What servers were asked stands in run.json, also of a run that did not come to its end."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from actors.errors import FatalError, StorageError
from pipelines import transcribe
from pipelines.config import RunConfig
from pipelines.execution.passes import noted
from pipelines.output import run_record
from pipelines.supervision import shutdown
from pipelines.supervision.supervisor import PassLosses

FIRST = PassLosses(processes=1, again=2, usage={"requests": 3, "audio_seconds": 1.5})
SECOND = PassLosses(again=1, usage={"requests": 4})


def _ended(out: str, error: BaseException | None) -> dict[str, Any]:
    """What is known of a run that ended in this way after two passes."""
    run_id, record = run_record.open_run(out, RunConfig(), "transcribe", "m.jsonl")
    try:
        with noted(out, record, run_id) as passes:
            passes += [FIRST, SECOND]
            if error:
                raise error
    except BaseException as caught:
        assert caught is error
    run: dict[str, Any] = run_record.require(out)["runs"][0]
    assert run["finished_at"] is None
    return run


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has asked for a stop."""
    monkeypatch.setattr(shutdown, "asked", threading.Event())
    monkeypatch.setattr(shutdown, "_urgent", threading.Event())


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize(
    "error", [None, FatalError("the account is empty"), StorageError("no room"), RuntimeError("Ray")]
)
def test_an_error_does_not_hide_what_was_asked(tmp_path: Path, error: Exception | None) -> None:
    run = _ended(str(tmp_path), error)
    assert run["asked_of_servers"] == {"requests": 7, "audio_seconds": 1.5}
    assert (run["processes_died"], run["shards_again"]) == (1, 3)


@pytest.mark.usefixtures("signals")
def test_a_stop_in_order_notes_it_too_and_a_lost_lease_writes_nothing(tmp_path: Path) -> None:
    shutdown.asked.set()
    assert _ended(str(tmp_path / "asked"), KeyboardInterrupt())["asked_of_servers"]["requests"] == 7
    shutdown._urgent.set()
    assert "asked_of_servers" not in _ended(str(tmp_path / "lost"), KeyboardInterrupt())


@pytest.mark.usefixtures("signals")
def test_the_error_that_ended_the_run_is_told_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise StorageError("no room for run.json")

    monkeypatch.setattr(run_record, "note", full)
    assert "asked_of_servers" not in _ended(str(tmp_path), FatalError("the account is empty"))


def test_shards_that_nobody_lost_end_the_run_with_both_passes_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = pa.table({"shard_id": ["a", "b"]})

    def run(*arguments: Any, alone: bool = False, **_: Any) -> None:
        arguments[5].append(PassLosses(usage={"requests": 1}))

    monkeypatch.setattr(transcribe, "run_shards", run)
    passes: list[PassLosses] = []
    with pytest.raises(FatalError, match="2 of 2 shards were not done"):
        transcribe.run_passes(str(tmp_path), RunConfig(), "run", plan, plan, passes, command="transcribe")
    assert [one.usage for one in passes] == [{"requests": 1}] * 2
