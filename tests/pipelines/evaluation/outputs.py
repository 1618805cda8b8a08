"""Makes output directories and manifests for tests of the evaluation, with the project's own schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.schema import DEAD_LETTER, PLAN, TRANSCRIPT

Row = dict[str, Any]


def word(text: str, start: float, end: float, confidence: float | None = None) -> Row:
    """A word of a transcript or of a reference."""
    return {"text": text, "start": start, "end": end} | (
        {} if confidence is None else {"confidence": confidence}
    )


def segment(text: str, confidence: float | None = 0.9, words: list[Row] | None = None) -> Row:
    """A segment of a transcript."""
    return {
        "start": 0.0,
        "end": 1.0,
        "text": text,
        "confidence": confidence,
        "words": words or [],
        "flags": [],
    }


def transcript(
    recording_id: str, text: str, language: str | None = "en", segments: list[Row] | None = None
) -> Row:
    """A transcript of 10 s."""
    return dict.fromkeys(TRANSCRIPT.names) | {
        "recording_id": recording_id,
        "duration": 10.0,
        "language": language,
        "text": text,
        "segments": [segment(text)] if segments is None else segments,
        "status": "ok" if text else "no_speech",
        "flags": [],
    }


def make_output(
    out: Path,
    rows: list[Row],
    failed: dict[str, str] | None = None,
    run: Row | None = None,
    forced: dict[str, str] | None = None,
) -> str:
    """An output directory.

    Args:
        out: where.
        rows: its transcripts, written as one file for each two of them.
        failed: error codes of dead letters by recording.
        run: content of run.json; None: there is no such file.
        forced: given languages by recording, for the plan.
    """
    for number in range(0, len(rows), 2):
        _write(out / "transcripts" / f"{number}.parquet", rows[number : number + 2], TRANSCRIPT)
    letters = [
        dict.fromkeys(DEAD_LETTER.names) | {"recording_id": recording_id, "error_code": code}
        for recording_id, code in (failed or {}).items()
    ]
    if letters:
        _write(out / "dead_letters" / "dead_letters.parquet", letters, DEAD_LETTER)
    planned = [
        dict.fromkeys(PLAN.names)
        | {"recording_id": row["recording_id"], "language": (forced or {}).get(row["recording_id"])}
        for row in rows
    ]
    _write(out / "plan" / "plan.parquet", planned, PLAN)
    if run is not None:
        (out / "run.json").write_text(json.dumps(run))
    return str(out)


def make_manifest(path: Path, rows: list[Row]) -> str:
    """A manifest of references as JSON lines; the audio does not exist."""
    lines = [json.dumps({"audio": f"{row['id']}.wav"} | row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def _write(path: Path, rows: list[Row], schema: pa.Schema) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
