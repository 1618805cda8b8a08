"""Rows of older versions are read as rows of this one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.schema import SHARD, TRANSCRIPT
from pipelines.storage import files
from pipelines.storage.parquet import conform, iter_rows

# Columns and fields, by their paths, that version 0.1.0 had not.
NEW = {
    "text_source",
    "speakers",
    "silence",
    "window",
    "segments.speaker",
    "segments.min_confidence",
    "segments.language_confidence",
    "segments.candidates",
    "segments.words.confidence",
    "segments.words.speaker",
}
WORD = {"text": "a", "start": 0.0, "end": 0.5, "char_start": 0, "char_end": 1}
SEGMENT = {"start": 0.0, "end": 1.0, "language": "en", "text": "a b", "confidence": 0.9, "flags": ["x"]}
ROWS: list[dict[str, Any]] = [
    {"recording_id": "nothing", "segments": []},
    {"recording_id": "null", "segments": None},
    {"recording_id": "some", "segments": [SEGMENT | {"words": [WORD, WORD]}, SEGMENT | {"words": None}]},
]


def older(kind: pa.DataType, path: str = "") -> pa.DataType:
    """A type without the NEW fields."""
    if pa.types.is_list(kind):
        return pa.list_(older(kind.value_type, path))
    if pa.types.is_struct(kind):
        fields = [field for field in kind if f"{path}.{field.name}".lstrip(".") not in NEW]
        return pa.struct(
            [(field.name, older(field.type, f"{path}.{field.name}".lstrip("."))) for field in fields]
        )
    return kind


def older_table(schema: pa.Schema, rows: list[dict[str, Any]]) -> pa.Table:
    kind = older(pa.struct(list(schema)))
    return pa.Table.from_pylist(rows, schema=pa.schema(list(kind)))


@pytest.mark.parametrize("schema", [SHARD, TRANSCRIPT], ids=["shard", "transcript"])
def test_fields_that_structs_in_lists_lack_are_null(schema: pa.Schema) -> None:
    table = older_table(schema, ROWS)
    assert table.schema != schema
    # A slice across chunks: its offsets do not begin at 0.
    joined = pa.concat_tables([table, table]).slice(1, 4)
    found = conform(joined, schema)
    assert found.schema == schema
    rows = found.to_pylist()
    assert [row["segments"] is not None and len(row["segments"]) for row in rows] == [False, 2, 0, False]
    first, second = rows[1]["segments"]
    assert first["min_confidence"] is None and first["candidates"] is None
    assert first["words"] == [WORD | {"confidence": None, "speaker": None}] * 2
    assert second["words"] is None and second["flags"] == ["x"]


def test_fields_in_another_order_and_unknown_ones_are_no_obstacle() -> None:
    kind = pa.list_(pa.struct([("later", pa.int8()), ("text", pa.string()), ("start", pa.float32())]))
    table = pa.table({"segments": pa.array([[{"later": 1, "text": "a", "start": 2.0}]], kind)})
    (row,) = conform(table, pa.schema([TRANSCRIPT.field("segments")])).to_pylist()
    assert (row["segments"][0]["text"], row["segments"][0]["start"]) == ("a", 2.0)
    assert "later" not in row["segments"][0]


def test_files_of_two_versions_are_one_table(tmp_path: Path) -> None:
    pq.write_table(older_table(TRANSCRIPT, ROWS), tmp_path / "a.parquet")
    pq.write_table(pa.Table.from_pylist(ROWS, schema=TRANSCRIPT), tmp_path / "b.parquet")
    table = files.read_tables(str(tmp_path), schema=TRANSCRIPT)
    assert table.schema == TRANSCRIPT
    assert table.slice(0, 3).to_pylist() == table.slice(3).to_pylist()


def test_rows_are_streamed_with_the_columns_that_a_file_lacks(tmp_path: Path) -> None:
    pq.write_table(older_table(TRANSCRIPT, ROWS), tmp_path / "a.parquet")
    rows = list(iter_rows(str(tmp_path / "a.parquet"), TRANSCRIPT, batch_rows=2))
    assert [row["recording_id"] for row in rows] == ["nothing", "null", "some"]
    assert rows[2]["text_source"] is None and rows[2]["segments"][0]["speaker"] is None
