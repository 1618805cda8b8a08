"""Plans are stored completely or not at all, extended by new recordings, and repeated for failed ones."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.errors import RowError
from pipelines.config import RunConfig
from pipelines.output import plans
from pipelines.planning import planner
from pipelines.schema import PLAN
from pipelines.storage import files
from tests.pipelines.planning.test_planner import CONFIG, probing, recording


@pytest.fixture(params=["local", "s3"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return (
        str(tmp_path / "out")
        if request.param == "local"
        else f"{request.getfixturevalue('s3_bucket')}/{tmp_path.name}"
    )


def extend(out: str, durations: dict[str, Any], run_id: str, config: RunConfig = CONFIG) -> int:
    return planner.extend_plan(
        out, [recording(name) for name in durations], config, run_id, probe=probing(durations)
    )


def plan_files(out: str) -> list[str]:
    return list(files.list(files.join(out, "plan"), ".parquet"))


def test_a_plan_file_holds_one_task(out: str) -> None:
    config = RunConfig.model_validate({"plan": {"task_seconds": 600}})
    durations = {"long": 1500.0, **{f"s{number:03d}": 1.0 for number in range(700)}}
    assert extend(out, durations, "r1", config) == 701
    parquet = [pq.read_table(pa.BufferReader(files.read_bytes(uri))) for uri in plan_files(out)]
    assert [table.num_rows for table in parquet] == [1, 1, 101, 256, 256, 88]
    assert all(table.schema.equals(PLAN) for table in parquet)
    table = planner.read_plan(out)
    assert table.select(PLAN.names).to_pylist() == pa.concat_tables(parquet).to_pylist()
    assert planner.files_of(table) == plan_files(out)
    assert planner.files_of(table.slice(1, 1)) == plan_files(out)[1:2]
    assert planner.seconds_of(table) == pytest.approx(2200.0)


def test_each_shard_of_one_long_recording_is_a_task_so_that_all_cores_decode_it(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    assert extend(out, {"long": 7200.0}, "r1", RunConfig()) == 1
    rows = [pq.read_table(pa.BufferReader(files.read_bytes(uri))).num_rows for uri in plan_files(out)]
    assert rows == [1] * 12


def test_only_new_recordings_are_planned(
    out: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ray, started by earlier tests, has reconfigured logging for the whole process.
    caplog.set_level(logging.WARNING, logger=planner.logger.name)
    monkeypatch.setattr(planner.logger, "disabled", False)
    monkeypatch.setattr(planner.logger, "propagate", True)
    monkeypatch.setattr(planner.logger, "handlers", [caplog.handler])
    assert planner.read_plan(out).num_rows == 0
    assert extend(out, {"a": 5.0, "b": 700.0}, "r1") == 2
    before = planner.read_plan(out)
    assert extend(out, {"a": 5.0, "b": 700.0}, "r2") == 0
    assert extend(out, {"a": 5.0, "b": 700.0, "c": 9.0}, "r3") == 1
    assert planner.read_plan(out)["recording_id"].to_pylist() == ["b", "b", "a", "c"]
    assert planner.read_plan(out).slice(0, 3).equals(before)
    assert planner.read_plan(out, ["recording_id"]).column_names == ["recording_id"]
    assert not caplog.records
    assert planner.extend_plan(out, [recording("a", audio="/moved/a")], CONFIG, "r4", probe=probing({})) == 0
    assert "1 id of the manifest has other audio" in caplog.text
    assert "/moved/a" in caplog.text


def test_an_interrupted_plan_does_not_count(out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    extend(out, {"a": 5.0}, "r1")
    write = files.write_atomic

    def killed(uri: str, data: bytes, sync: bool = True, private: bool = False) -> None:
        if uri.endswith(".index"):
            raise KeyboardInterrupt
        write(uri, data, sync)

    monkeypatch.setattr(files, "write_atomic", killed)
    with pytest.raises(KeyboardInterrupt):
        extend(out, {"b": 5.0}, "r2")
    monkeypatch.undo()
    assert len(plan_files(out)) == 2
    assert planner.read_plan(out)["recording_id"].to_pylist() == ["a"]
    assert extend(out, {"b": 5.0}, "r3") == 1
    assert [files.name_of(uri) for uri in plan_files(out)] == [
        "plan-r1-000000.parquet",
        "plan-r3-000000.parquet",
    ]
    assert plans.clear_leftovers(out) == 0


def test_retries_replace_the_earlier_attempt(out: str) -> None:
    extend(out, {"a": RowError("x", "empty_file"), "b": 700.0}, "r1")
    before = {row["recording_id"]: row for row in planner.read_plan(out).to_pylist()}
    assert planner.plan_again(out, {"a": 1}, "r2", CONFIG, probe=probing({"a": 1000.0})) == 1
    rows = [row for row in planner.read_plan(out).to_pylist() if row["recording_id"] == "a"]
    assert [(row["attempt"], row["shard_count"], row["shard_id"][-2:]) for row in rows] == [
        (2, 2, ".2"),
        (2, 2, ".2"),
    ]
    assert rows[0]["duration"] == 1000.0
    assert planner.plan_again(out, {"a": 1}, "r2b", CONFIG, probe=probing({})) == 0, (
        "an interrupted attempt was planned again"
    )
    assert (
        planner.plan_again(
            out, {"a": 2, "b": 1, "stranger": 1}, "r3", CONFIG, probe=probing({"a": 5.0, "b": 700.0})
        )
        == 2
    )
    rows = planner.read_plan(out).to_pylist()
    assert sorted((row["recording_id"], row["attempt"]) for row in rows) == [("a", 3), ("b", 2), ("b", 2)]
    again = next(row for row in rows if row["recording_id"] == "b" and row["index"] == 1)
    assert again["shard_id"] == before["b"]["shard_id"] + ".2"
    assert {**again, "shard_id": "", "attempt": 1, "plan_file": ""} == {
        **before["b"],
        "shard_id": "",
        "plan_file": "",
    }
