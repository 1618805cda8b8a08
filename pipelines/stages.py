"""The stages of the job as Ray Data sees them: Arrow tables in, Arrow tables out, one row a shard throughout.

Rows become dictionaries for the actors, which know nothing of Arrow, and tables again by the schemas of `pipelines.schema`, so that a
block of nothing but nulls keeps its types.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from actors.aligner import AlignerActor
from actors.asr import ASRActor
from actors.config import AlignerConfig, ASRConfig, AudioConfig, SegmenterConfig
from actors.decoder import Decoder
from actors.given_text import GivenTextActor
from pipelines.schema import DECODED, RECOGNISED, SHARD


@functools.cache
def _decoder(audio: AudioConfig, segmenter: SegmenterConfig) -> Decoder:
    # One decoder, with its child process, for the life of a Ray worker: tasks come and go in the same process.
    return Decoder(audio, segmenter)


def decode(table: pa.Table, audio: AudioConfig, segmenter: SegmenterConfig) -> Iterator[pa.Table]:
    """PLAN rows to DECODED rows, yielded one by one so that a block never holds more than Ray's block size in memory."""
    decoder = _decoder(audio, segmenter)
    for row in table.to_pylist():
        yield pa.Table.from_pylist(decoder([row]), schema=DECODED)


class Recognise:
    """DECODED to RECOGNISED rows on one replica of the model."""

    def __init__(self, make_actor: Callable[[ASRConfig], ASRActor | GivenTextActor], config: ASRConfig) -> None:
        self.actor = make_actor(config)

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = self.actor(table.to_pylist())
        for row in rows:
            row["asr_model"], row["asr_revision"] = self.actor.model, self.actor.revision
        return pa.Table.from_pylist(rows, schema=RECOGNISED)


class Align:
    """RECOGNISED to SHARD rows: word times where the language has them, and the samples are dropped."""

    def __init__(self, config: AlignerConfig, run_id: str, progress: Any) -> None:
        self.actor = AlignerActor(config) if config.backend != "none" else None
        self.run_id = run_id
        self.progress = progress

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = table.to_pylist()
        rows = self.actor(rows) if self.actor else [_without_words(row) for row in rows]
        created_at = datetime.now(UTC)
        for row in rows:
            row["aligner_model"] = self.actor.model if self.actor else None
            row["aligner_revision"] = self.actor.revision if self.actor else None
            row["run_id"], row["created_at"] = self.run_id, created_at
        if self.progress is not None:
            self.progress.add.remote([_done(row) for row in rows])
        return pa.Table.from_pylist(rows, schema=SHARD)


def _without_words(row: dict[str, Any]) -> dict[str, Any]:
    segments = [
        {**{k: v for k, v in segment.items() if k != "samples"}, "words": [], "word_source": "none"} for segment in row["segments"] or []
    ]
    return {**row, "segments": segments}


def _done(row: dict[str, Any]) -> tuple[str, int, float, bool]:
    """(recording, its shards, seconds of this shard, failed?) for the progress counter."""
    seconds = max(0.0, (row["decoded_end"] or 0.0) - (row["decoded_start"] or 0.0))
    if row["status"] == "error" and row["duration"]:
        seconds = (row["end"] if row["end"] is not None else row["duration"]) - row["start"]
    return row["recording_id"], row["shard_count"], seconds, row["status"] == "error"
