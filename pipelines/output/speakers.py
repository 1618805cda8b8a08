"""OUT/speakers: one row a speaker of a recording. Its files are named as those of the transcripts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from actors.records import Row
from pipelines.output import shards
from pipelines.schema import RECORDING_SPEAKER
from pipelines.stitching.speakers import Speaker
from pipelines.storage import files
from pipelines.storage.parquet import iter_rows

_DIGITS = 3  # decimals of seconds
_BATCH_ROWS = 256


def folder(out: str) -> str:
    """The folder of the table."""
    return files.join(out, "speakers")


def rows_of(transcript: Row, speakers: Sequence[Speaker]) -> list[Row]:
    """The rows of a recording's speakers.

    Args:
        transcript: its TRANSCRIPT row; a dead letter has no speakers.
        speakers: in order of appearance.
    """
    return [_row(transcript, speaker) for speaker in speakers]


def _row(transcript: Row, speaker: Speaker) -> Row:
    provenance: dict[str, Any] = transcript["provenance"]
    return {
        "recording_id": transcript["recording_id"],
        "speaker": speaker.speaker,
        "name": speaker.name,
        "score": None if speaker.score is None else round(speaker.score, 4),
        "duration": round(speaker.duration, _DIGITS),
        "centroid": None if speaker.centroid is None else speaker.centroid.tolist(),
        "quality": None if speaker.quality is None else round(speaker.quality, 4),
        "turns": [{"start": turn.start, "end": turn.end} for turn in speaker.turns],
        "model": speaker.model,
        "run_id": provenance["run_id"],
        "created_at": provenance["created_at"],
    }


def write(out: str, name: str, rows: Sequence[Row], compression: str) -> None:
    """Write the rows of one file of transcripts; nothing is written where there are none."""
    if rows:
        table = pa.Table.from_pylist(list(rows), schema=RECORDING_SPEAKER)
        files.write_atomic(files.join(folder(out), name), shards.parquet_bytes(table, compression))


def remove_orphans(out: str) -> None:
    """Remove files whose transcripts were never written, because a run was stopped between the two."""
    found = files.list(folder(out), ".parquet")
    if not found:
        return
    names = {files.name_of(uri) for uri in files.list(files.join(out, "transcripts"), ".parquet")}
    for uri in found:
        if files.name_of(uri) not in names:
            files.remove(uri)


def read(out: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The table; empty where speakers were never asked for.

    Args:
        out: the output directory.
        columns: those that are read; None: all.
    """
    return files.read_tables(folder(out), columns, schema=RECORDING_SPEAKER)


def turns_of_file(transcripts: str) -> dict[str, list[Row]]:
    """Who speaks when in the recordings of one file of transcripts, by the voices.

    Args:
        transcripts: address of the file in OUT/transcripts.

    Returns:
        {start, end, speaker} in order of time by recording id; empty where voices were not told apart.
    """
    uri = files.join(folder(files.parent(files.parent(transcripts))), files.name_of(transcripts))
    if not files.exists(uri):
        return {}
    found: dict[str, list[Row]] = defaultdict(list)
    for row in iter_rows(uri, RECORDING_SPEAKER, _BATCH_ROWS):
        if row["model"] is not None:
            found[row["recording_id"]] += [{**turn, "speaker": row["speaker"]} for turn in row["turns"] or []]
    return {name: sorted(turns, key=lambda turn: turn["start"]) for name, turns in found.items()}
