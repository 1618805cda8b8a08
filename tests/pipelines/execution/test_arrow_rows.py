"""Tables with audio become rows and tables again without loss, reordering or needless copies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.execution.arrow_rows import to_rows, to_table
from pipelines.schema import DECODED, RECOGNISED


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
