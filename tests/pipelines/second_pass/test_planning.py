"""What a second model is to hear of finished shards: which, how much of it, and only once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.repair.earlier import unpack
from pipelines.output import plans, shards, transcripts
from pipelines.schema import PLAN, TRANSCRIPT
from pipelines.second_pass import planning
from pipelines.storage import files

LOOP = "loop_collapsed"


def segment(text: str, start: float, seconds: float, *flags: str, language: str = "en") -> dict[str, Any]:
    times = {"start": start, "end": start + seconds, "channel": None}
    return {**times, "language": language, "text": text, "raw": text, "confidence": 0.9, "flags": [*flags]}


def finished(name: str, *segments: dict[str, Any], **columns: Any) -> dict[str, Any]:
    """A SHARD row of a recording of 100 s."""
    doubtful = sum(one["end"] - one["start"] for one in segments if LOOP in one["flags"])
    return {
        "shard_id": name,
        "recording_id": f"recording {name}",
        "audio": "https://example.org/x",
        "index": 0,
        "shard_count": 1,
        "attempt": 1,
        "start": 0.0,
        "end": None,
        "duration": 100.0,
        "status": "ok",
        "flags": [],
        "segments": [*segments],
        "created_at": datetime.now(UTC),
        "doubtful_seconds": doubtful or None,
        **columns,
    }


@pytest.fixture
def out(tmp_path: Path) -> str:
    return str(tmp_path / "out")


def planned(out: str, *rows: dict[str, Any]) -> pa.Table:
    """The plan of finished rows, which are committed."""
    plan = [{name: row.get(name) for name in PLAN.names} for row in rows]
    plan = [{**row, "audio": "https://example.org/x?key=secret"} for row in plan]
    plans.write(out, pa.Table.from_pylist(plan, schema=PLAN), "first", 3600.0)
    shards.append(out, [*rows], "first")
    return plans.read(out)


def test_doubtful_shards_are_planned_with_their_rows(out: str) -> None:
    doubtful = finished("b", segment("fine", 0, 3), segment("the the", 4, 3, LOOP))
    plan = planned(out, finished("a", segment("fine", 0, 3)), doubtful)
    wanted = planning.find(out, plan, 0.05)
    assert wanted.shards["shard_id"].to_pylist() == ["b"]
    todo = planning.write_plan(out, plan, wanted, [], "run")
    assert todo["shard_id"].to_pylist() == ["b+2"]
    (uri,) = todo["plan_file"].to_pylist()
    (row,) = pq.read_table(uri).to_pylist()
    assert row["audio"] == "https://example.org/x?key=secret"
    earlier, again = unpack(row["earlier"])
    assert again == [1] and [one["text"] for one in earlier["segments"]] == ["fine", "the the"]


def test_what_was_heard_is_not_heard_again(out: str) -> None:
    row = finished("b", segment("the the", 4, 3, LOOP))
    plan = planned(out, row)
    shards.append(out, [{**row, "shard_id": "b+2", "doubtful_seconds": None}], "second")
    assert planning.find(out, plan, 0.05).shards.num_rows == 0


def test_an_interrupted_second_pass_goes_on_where_it_was(out: str) -> None:
    rows = [finished(name, segment("the the", 4, 1, LOOP)) for name in ("a", "b")]
    plan = planned(out, *rows)
    todo = planning.write_plan(out, plan, planning.find(out, plan, 0.05), [], "one")
    shards.append(out, [{**rows[0], "shard_id": "a+2", "doubtful_seconds": None}], "second")
    assert shards.left_to_do(todo, out)["shard_id"].to_pylist() == ["b+2"]
    again = planning.write_plan(out, plan, planning.find(out, plan, 0.05), [], "two")
    assert again["shard_id"].to_pylist() == ["b+2"]
    assert len(files.list(files.join(out, "second_pass"), ".parquet")) == 1


def test_stitched_recordings_are_left_alone(out: str) -> None:
    plan = planned(out, finished("b", segment("the the", 4, 3, LOOP)))
    done = pa.Table.from_pylist([{"recording_id": "recording b"}], schema=TRANSCRIPT)
    files.write_atomic(files.join(out, "transcripts/x.parquet"), shards.parquet_bytes(done))
    assert planning.find(out, plan, 0.05).shards.num_rows == 0


def test_the_budget_counts_what_was_used_and_refused_segments_say_so(out: str) -> None:
    rows = [
        finished("a", segment("the the", 0, 4, LOOP), repair_seconds=2.0),
        finished("b", segment("the the", 0, 3, LOOP)),
    ]
    plan = planned(out, *rows)
    # 2.5 % of 200 s are 5 s, of which 2 s are used: only the shorter one.
    wanted = planning.find(out, plan, 0.025)
    assert wanted.affordable == {"b"}
    todo = planning.write_plan(out, plan, wanted, [], "run")
    assert todo["shard_id"].to_pylist() == ["b+2"]
    refused = shards.read_rows(shards.committed_files(out), ["recording a"])
    assert {row["shard_id"]: row["segments"][0]["flags"] for row in refused} == {
        "a": [LOOP],
        "a+2": [LOOP, "repair_refused"],
    }
    assert planning.find(out, plan, 0.025).shards["shard_id"].to_pylist() == ["b"]
    assert shards.repair_seconds(out) == 2.0


def test_languages_of_the_second_model_need_no_budget(out: str) -> None:
    row = finished(
        "a", segment("hej", 0, 50, language="sv"), segment("x", 60, 9, LOOP), language_seconds=50.0
    )
    plan = planned(out, row)
    todo = planning.write_plan(out, plan, planning.find(out, plan, 0.05), ["sv"], "run")
    ((earlier, again),) = [
        unpack(row["earlier"]) for row in pq.read_table(todo["plan_file"][0].as_py()).to_pylist()
    ]
    assert again == [0]
    assert earlier["segments"][1]["flags"] == [LOOP, "repair_refused"]


def test_the_second_row_is_the_one_that_is_stitched_and_one_that_crashed_keeps_the_first_text(
    out: str,
) -> None:
    rows = [finished(name, segment("the the", 0, 1, LOOP)) for name in ("a", "b")]
    plan = planned(out, *rows)
    todo = planning.write_plan(out, plan, planning.find(out, plan, 0.05), [], "run")
    better = {
        **rows[0],
        "shard_id": "a+2",
        "segments": [segment("well", 0, 1)],
        "created_at": datetime.now(UTC),
    }
    shards.append(out, [better], "second")
    planning.give_up(out, shards.left_to_do(todo, out), "run")
    batches = transcripts.unstitched(out, 10)
    arguments = ("hash", "version", "run", "zstd")
    transcripts.stitch_all(
        out, batches, lambda all_: [transcripts.stitch_batch(out, one, *arguments) for one in all_]
    )
    found = files.read_tables(files.join(out, "transcripts"), schema=TRANSCRIPT).to_pylist()
    assert {row["recording_id"]: (row["text"], row["segments"][0]["flags"]) for row in found} == {
        "recording a": ("well", []),
        "recording b": ("the the", [LOOP, "repair_failed"]),
    }
