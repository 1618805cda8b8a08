"""Counts of flags: segments and seconds, of transcripts and of shards that were done more than once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.reporting import flag_counts
from pipelines.reporting.figures.transcript_figures import of_transcripts
from pipelines.schema import SHARD, TRANSCRIPT


def write(folder: Path, rows: list[dict[str, Any]], schema: pa.Schema, name: str = "0") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / f"{name}.parquet")


def segment(start: float, end: float, *flags: str) -> dict[str, Any]:
    return {"start": start, "end": end, "text": "words", "flags": list(flags)}


def test_segments_and_seconds_are_counted_by_flag(tmp_path: Path) -> None:
    first = {"recording_id": "a", "segments": [segment(0, 10, "repetitive", "channel:1"), segment(10, 12)]}
    second = {"recording_id": "b", "segments": [segment(5, 8.5, "repetitive", "words_in_silence")]}
    write(tmp_path / "transcripts", [first, second], TRANSCRIPT)
    write(tmp_path / "transcripts", [{"recording_id": "c", "segments": []}], TRANSCRIPT, "1")
    counts = of_transcripts(str(tmp_path)).segment_flags.as_record()
    assert counts["segments"] == 3
    assert counts["seconds"] == 15.5
    assert counts["suspect"] == {"segments": 2, "seconds": 13.5}
    assert counts["by_flag"] == {
        "repetitive": {"segments": 2, "seconds": 13.5, "suspect": True},
        "channel": {"segments": 1, "seconds": 10.0, "suspect": False},
        "words_in_silence": {"segments": 1, "seconds": 3.5, "suspect": True},
    }


def test_a_flag_with_several_values_counts_once_for_a_segment(tmp_path: Path) -> None:
    row = {"recording_id": "a", "segments": [segment(0, 2, "lost:0-1", "lost:1-2")]}
    write(tmp_path / "transcripts", [row], TRANSCRIPT)
    counted = of_transcripts(str(tmp_path)).segment_flags.as_record()
    assert counted["by_flag"]["lost"]["segments"] == 1


def test_the_latest_attempt_at_a_shard_counts(tmp_path: Path) -> None:
    old = {"shard_id": "a", "attempt": 1, "segments": [segment(0, 4, "low_confidence")]}
    other = {"shard_id": "b", "attempt": 1, "segments": [segment(0, 1)]}
    new = {"shard_id": "a", "attempt": 2, "segments": [segment(0, 4)]}
    write(tmp_path, [old, other], SHARD)
    write(tmp_path, [new], SHARD, "1")
    counts = flag_counts.of_shards(str(tmp_path))
    assert counts["segments"] == 2
    assert counts["by_flag"] == {}


def test_an_output_without_rows_has_no_counts(tmp_path: Path) -> None:
    nothing = {"segments": 0, "seconds": 0.0, "suspect": {"segments": 0, "seconds": 0.0}, "by_flag": {}}
    assert of_transcripts(str(tmp_path)).segment_flags.as_record() == nothing
    assert flag_counts.of_shards(str(tmp_path)) == nothing
