"""An output directory with everything that a report shows, written without a run."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.config import RunConfig
from pipelines.output import plans, run_record, transcripts
from pipelines.schema import PLAN, SHARD, TRANSCRIPT

RECORDINGS, FAILED = 60, 3
START = datetime.fromisoformat("2026-11-27T10:00:00+00:00")
MINUTES = 40
CODES = ("not_audio", "not_audio", "storage_unavailable")


def write_run(
    out: Path,
    name: str = "call",
    text: str = "some words",
    flag: str = "low_confidence",
    language: str = "de",
) -> None:
    """Write run.json, plan, shards, transcripts and dead letters.

    Args:
        out: the output directory.
        name: beginning of the recordings' ids.
        text: of the segments.
        flag: of every fourth segment.
        language: of all recordings.
    """
    name, text, flag = (value.encode(errors="replace").decode() for value in (name, text, flag))
    ids = [f"{name}-{number}" for number in range(RECORDINGS)]
    _write_record(str(out))
    planned = [
        {"shard_id": f"s{number}", "recording_id": one, "index": 0, "shard_count": 1, "attempt": 0}
        | {"start": 0.0, "end": 60.0, "duration": 60.0, "audio": f"{number}.wav"}
        for number, one in enumerate(ids)
    ]
    plans.write(str(out), pa.Table.from_pylist(_filled(planned, PLAN), schema=PLAN), "run", 60)
    done = ids[FAILED:]
    shards = [
        {"shard_id": f"s{number}", "recording_id": one, "run_id": "first", "decoded_start": 0.0}
        | {"decoded_end": 60.0, "created_at": START + timedelta(minutes=1 + 38 * number / len(done))}
        for number, one in enumerate(done)
    ]
    rows = [_transcript(number, one, text, flag, language) for number, one in enumerate(done)]
    for folder, found, schema in (("shards", shards, SHARD), ("transcripts", rows, TRANSCRIPT)):
        (out / folder).mkdir(parents=True, exist_ok=True)
        pq.write_table(
            pa.Table.from_pylist(_filled(found, schema), schema=schema), out / folder / "0.parquet"
        )
    letters = [
        {"recording_id": one, "audio": "a.wav", "error_stage": "decode", "error_code": code, "attempts": 1}
        | {"error_message": f"cannot read {one}"}
        for one, code in zip(ids, CODES, strict=False)
    ]
    transcripts._write_dead_letters(str(out), letters)


def _write_record(out: str) -> None:
    estimate = {"gpu_hour_price": 1.5, "currency": "EUR"}
    config = RunConfig.model_validate({"estimate": estimate})
    run_id, record = run_record.open_run(out, config, "transcribe", "m.jsonl")
    seconds = 60.0 * MINUTES
    points = [
        {
            "at": at,
            "seconds": 1.4 * at,
            "stages": {
                "decode": [1.5 * at, 0.4 * at],
                "recognise": [1.45 * at, 2 * 0.92 * at],
                "align": [1.4 * at, 0.5 * at],
            },
        }
        for at in (seconds * step / 20 for step in range(1, 21))
    ]
    slots = {"decode": 4, "recognise": 2, "align": 1}
    record["runs"] = [
        {
            **{"run_id": "first", "host": "node", "pid": 1, "manifest": "m.jsonl"},
            "started_at": START.isoformat(),
            "finished_at": (START + timedelta(minutes=MINUTES)).isoformat(),
            **{"processes_died": 1, "shards_again": 2, "asked_of_servers": {}},
            "model_costs": {
                "recognise": {"NVIDIA H200": {"rtfx": 3363.4, "busy_seconds": 9.0}},
                "align": {"NVIDIA H200": {"rtfx": 5909.0, "busy_seconds": 1.0}},
            },
            "repairs": {"recut": {"segments": 3, "repaired": 2, "seconds": 45.0, "busy_seconds": 1.0}},
            "throughput": [
                {"started_at": START.isoformat(), "gpus": 2, "cores": 8, "slots": slots, "points": points}
            ],
        }
    ]
    Path(out, "run.json").write_text(json.dumps(record))
    assert run_id


def _transcript(number: int, one: str, text: str, flag: str, language: str) -> dict[str, Any]:
    segments = [
        {
            **{"start": 30.0 * part, "end": 30.0 * part + 20.0, "language": language, "words": []},
            "text": f"{text} {number} {part}",
            "confidence": 1 - (2 * number + part) / 200,
            "flags": [flag] if number % 4 == 0 else [],
        }
        for part in range(2)
    ]
    return {
        **{"recording_id": one, "duration": 60.0 * (1 + number % 5), "silence": 20.0, "status": "ok"},
        **{"language": language, "text": text, "segments": segments, "flags": [flag][: number % 2]},
        "provenance": {"codec": ("flac", "mp3float")[number % 2], "sampling_rate": 16000, "channels": 1},
    }


def _filled(rows: list[dict[str, Any]], schema: pa.Schema) -> list[dict[str, Any]]:
    return [{name: row.get(name) for name in schema.names} for row in rows]
