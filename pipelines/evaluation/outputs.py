"""What a run wrote: its transcripts as a stream, its dead letters, and facts about the run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from actors.records import Row
from pipelines.evaluation.metrics.word_times import TimedWord
from pipelines.output import run_record, transcripts
from pipelines.schema import TRANSCRIPT
from pipelines.storage import files
from pipelines.storage.parquet import iter_rows

COLUMNS = ["recording_id", "duration", "language", "text", "segments", "status"]
_SCHEMA = pa.schema([TRANSCRIPT.field(name) for name in COLUMNS])
BATCH_ROWS = 64  # transcripts in memory at once; one of an hour takes about 9 MiB with its words


def read_transcripts(out: str) -> Iterator[Row]:
    """The transcripts of a run, a few at a time.

    Yields:
        Rows with the COLUMNS of `pipelines.schema.TRANSCRIPT`.
    """
    for uri in files.list(files.join(out, "transcripts"), ".parquet"):
        yield from iter_rows(uri, _SCHEMA, BATCH_ROWS)


def dead_letters(out: str) -> dict[str, str]:
    """The error codes of the recordings that failed, by id."""
    return {row["recording_id"]: row["error_code"] for row in transcripts.dead_letters(out)}


def timed_words(row: Row) -> list[TimedWord]:
    """The words of a transcript with their times, in seconds of the recording."""
    return [
        (word["text"], word["start"], word["end"])
        for segment in row["segments"] or []
        for word in segment["words"] or []
        if word["start"] is not None and word["end"] is not None
    ]


def forced_languages(out: str) -> set[str] | None:
    """The ids of the recordings whose language was given by the manifest, not found by the model.

    Returns:
        None: the settings give one language to all recordings.
    """
    record = run_record.read(out) or {}
    if record.get("config", {}).get("asr", {}).get("language"):
        return None
    forced: set[str] = set()
    for table in files.iter_tables(files.join(out, "plan"), ["recording_id", "language"]):
        given = table.filter(pc.is_valid(table["language"]))
        forced.update(pc.unique(given["recording_id"]).to_pylist())
    return forced


def run_facts(out: str) -> dict[str, Any]:
    """Models and speed of a run, from OUT/run.json; only `audio_hours` if there is no such file.

    `rtfx` is seconds of audio for each second of all finished runs over this directory, with Ray's start;
    None if no run has finished.
    """
    audio = _audio_seconds(out)
    record = run_record.read(out)
    facts: dict[str, Any] = {"audio_hours": audio / 3600, "rtfx": None}
    if record is None:
        return facts
    walls = [
        (
            datetime.fromisoformat(run["finished_at"]) - datetime.fromisoformat(run["started_at"])
        ).total_seconds()
        for run in record.get("runs", [])
        if run.get("finished_at") and run.get("started_at")
    ]
    wall = sum(walls)
    models = record.get("models", {})
    return facts | {
        "command": record.get("command"),
        "version": record.get("version"),
        "config_hash": record.get("config_hash"),
        "asr_model": models.get("asr", {}).get("model"),
        "aligner_model": models.get("aligner", {}).get("model"),
        "calibration": record.get("calibration"),
        "wall_seconds": wall or None,
        "rtfx": audio / wall if wall else None,
    }


def _audio_seconds(out: str) -> float:
    total = 0.0
    for table in files.iter_tables(files.join(out, "transcripts"), ["duration"]):
        total += pc.sum(table["duration"].cast(pa.float64())).as_py() or 0.0
    return total
