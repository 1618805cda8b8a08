"""Tables with audio become rows and tables again without loss, reordering or needless copies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.execution.arrow_rows import decoded_table, to_rows, to_table
from pipelines.schema import DECODED, PLAN, RECOGNISED


def row(name: str, *lengths: int) -> dict[str, Any]:
    rng = np.random.default_rng(len(name) + sum(lengths))
    segments = [
        {
            "start": float(k),
            "end": k + 1.0,
            "channel": None if k % 2 else k,
            "samples": rng.integers(-9, 9, n).astype("<i2").tobytes(),
        }
        for k, n in enumerate(lengths)
    ]
    return {
        **dict.fromkeys(DECODED.names),
        "shard_id": name,
        "status": "ok",
        "flags": ["x"] * len(lengths),
        "segments": segments,
    }


ROWS = [row("a", 5, 0, 3), row("b"), row("c", 1), row("d", 7, 7), row("e")]


def tables() -> dict[str, pa.Table]:
    whole = pa.Table.from_pylist(ROWS, schema=DECODED)
    return {
        "one chunk": whole,
        "one chunk a row": pa.concat_tables([pa.Table.from_pylist([one], schema=DECODED) for one in ROWS]),
        "a slice of a chunk": pa.concat_tables([whole, whole, whole]).combine_chunks().slice(3, 5),
        "a slice of two chunks": pa.concat_tables([whole, whole]).slice(2, 6),
        "no rows": DECODED.empty_table(),
        "no segments": whole.slice(4, 1),
    }


def recognised(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    new = {"language": "en", "text": "said", "raw": "", "confidence": 0.5, "flags": ["f"]}
    return [
        {
            **one,
            "asr_model": "m",
            "asr_revision": None,
            "segments": [{**part, **new, "text": str(part["start"])} for part in one["segments"]],
        }
        for one in rows
    ]


@pytest.mark.parametrize("name", tables())
def test_rows_equal_those_of_arrow(name: str) -> None:
    table = tables()[name]
    rows = to_rows(table)
    plain = [
        {**row, "segments": [{**part, "samples": bytes(part["samples"])} for part in row["segments"]]}
        for row in rows
    ]
    assert plain == table.to_pylist()


@pytest.mark.parametrize("name", tables())
def test_rows_become_the_table_that_arrow_would_make(name: str) -> None:
    table = tables()[name]
    rows = recognised(to_rows(table))
    result = to_table(rows, RECOGNISED, table)
    assert result.schema == RECOGNISED
    result.validate(full=True)
    assert (
        result.to_pylist()
        == pa.Table.from_pylist(recognised(table.to_pylist()), schema=RECOGNISED).to_pylist()
    )


def test_the_audio_is_not_copied() -> None:
    table = pa.Table.from_pylist([row("long", 1_000_000)], schema=DECODED)
    before = pa.total_allocated_bytes()
    rows = to_rows(table)
    result = to_table(recognised(rows), RECOGNISED, table)
    assert pa.total_allocated_bytes() - before < 100_000
    assert result.num_rows == 1


def test_removed_or_changed_segments_are_copied() -> None:
    table = tables()["one chunk a row"]
    rows = recognised(to_rows(table))
    rows[0]["segments"] = []
    assert [len(one["segments"]) for one in to_table(rows, RECOGNISED, table).to_pylist()] == [0, 0, 1, 2, 0]
    rows = recognised(to_rows(table))
    rows[3]["segments"].reverse()
    swapped = to_table(rows, RECOGNISED, table).to_pylist()[3]["segments"]
    assert [part["samples"] for part in swapped] == [
        part["samples"] for part in reversed(ROWS[3]["segments"])
    ]
    rows[2]["segments"] = [{**rows[2]["segments"][0], "samples": b"new!"}]
    assert to_table(rows, RECOGNISED, table).to_pylist()[2]["segments"][0]["samples"] == b"new!"


def planned(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([{**one, "audio": "https://secret@host/a"} for one in rows], schema=PLAN)


@pytest.mark.parametrize("count", range(len(ROWS) + 1))
def test_decoded_rows_become_the_table_that_arrow_would_make(count: int) -> None:
    rows = [{**one, "audio": "a"} for one in ROWS[:count]]
    table = decoded_table(rows, planned(rows))
    table.validate(full=True)
    assert table.schema == DECODED
    assert table.to_pylist() == pa.Table.from_pylist(rows, schema=DECODED).to_pylist()


def test_decoded_rows_of_a_part_of_an_older_plan_have_all_columns() -> None:
    plan = planned(ROWS).drop_columns(["languages", "window"])
    plan = plan.set_column(0, "shard_id", plan["shard_id"].cast(pa.large_string()))
    table = decoded_table(ROWS[1:3], plan.slice(1, 2))
    assert table.to_pylist() == pa.Table.from_pylist(ROWS[1:3], schema=DECODED).to_pylist()


def test_samples_that_follow_each_other_in_memory_are_not_copied() -> None:
    block = np.arange(60, dtype=np.uint8)
    long, parts = row("long", 10, 0, 20), [block[:20], block[20:20], block[20:60]]
    for segment, part in zip(long["segments"], parts, strict=True):
        segment["samples"] = part.data
    table = decoded_table([long], planned([long]))
    block[:] = 7
    assert [segment["samples"] for segment in table.to_pylist()[0]["segments"]] == [
        b"\7" * 20,
        b"",
        b"\7" * 40,
    ]
