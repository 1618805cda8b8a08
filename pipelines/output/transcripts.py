"""The second pass: shards of a recording become one transcript or one dead letter. Text only, idempotent, safe to cut off anywhere.

A transcript file is written whole under a name of its own and never changed; what is already in OUT/transcripts is never written again.
OUT/dead_letters is one small file, replaced whole, and always before the transcripts of recordings that a retry saved: so a recording
is never in both tables.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa

from pipelines.output import shards
from pipelines.schema import DEAD_LETTER, TRANSCRIPT
from pipelines.stitching import stitch
from pipelines.storage import files as locations

BATCH_SECONDS = 36 * 3600.0
"""Audio of one batch: an hour with its words takes about 9 MiB while it is stitched, and as many batches as cores are under way at once."""


@dataclass(frozen=True)
class Batch:
    """Some recordings to stitch, and the shard files that hold them."""

    recording_ids: list[str]
    files: list[str]


@dataclass(frozen=True)
class Stitched:
    """What came of a batch: transcripts are written, dead letters are handed back."""

    transcripts: int
    dead_letters: list[dict[str, Any]]


def unstitched(out: str, recordings_per_batch: int) -> list[Batch]:
    """Recordings whose shards are all done, but which stand in neither table, or in dead letters of an earlier attempt."""
    done = shards.index(out).to_pandas()
    if done.empty:
        return []
    # Only the latest attempt counts (it may be cut otherwise); a shard that two racing drivers wrote twice counts once.
    done = done[done["attempt"] == done.groupby("recording_id")["attempt"].transform("max")]
    done = done.sort_values("file").drop_duplicates(["recording_id", "index"], keep="last")
    counts = done.groupby("recording_id").agg(
        found=("index", "size"), wanted=("shard_count", "first"), attempt=("attempt", "max")
    )
    complete = counts[counts["found"] >= counts["wanted"]]
    written = set(transcript_ids(out).to_pylist())
    dead = {row["recording_id"]: row["attempts"] for row in dead_letters(out)}
    todo = [
        recording
        for recording, attempt in zip(complete.index, complete["attempt"], strict=True)
        if recording not in written and dead.get(recording, 0) < attempt
    ]
    return list(_batches(done[done["recording_id"].isin(todo)], recordings_per_batch))


def stitch_batch(
    out: str, batch: Batch, config_hash: str, version: str, run_id: str, compression: str
) -> Stitched:
    """Stitch one batch and write its transcripts as one file, whose name says what is in it, so that doing it twice changes nothing."""
    by_recording: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in shards.read_rows(batch.files, batch.recording_ids):
        by_recording[row["recording_id"]].append(row)
    transcripts: list[dict[str, Any]] = []
    dead: list[dict[str, Any]] = []
    for recording_id in batch.recording_ids:
        rows = by_recording[recording_id]
        attempt = max(row["attempt"] for row in rows)
        latest = {
            row["index"]: row
            for row in sorted(rows, key=lambda row: row["created_at"])
            if row["attempt"] == attempt
        }
        row = stitch([latest[index] for index in sorted(latest)], config_hash=config_hash, version=version)
        (dead if "error_code" in row else transcripts).append(row)
    if transcripts:
        table = pa.Table.from_pylist(transcripts, schema=TRANSCRIPT)
        digest = hashlib.sha256("\n".join(row["recording_id"] for row in transcripts).encode()).hexdigest()[
            :16
        ]
        name = f"transcripts/{run_id}-{digest}.parquet"
        locations.write_atomic(locations.join(out, name), shards.parquet_bytes(table, compression))
    return Stitched(len(transcripts), dead)


def stitch_all(
    out: str, batches: Sequence[Batch], run: Callable[[Sequence[Batch]], Iterable[Stitched]]
) -> tuple[int, int]:
    """Stitch all batches, with `run` deciding where; returns how many transcripts and dead letters were added.

    Old dead letters of these recordings are taken out first: cut off half-way, a recording is in neither table, and the next run finds it.
    """
    again = {recording for batch in batches for recording in batch.recording_ids}
    kept = dead_letters(out)
    remaining = [row for row in kept if row["recording_id"] not in again]
    if len(remaining) < len(kept):
        _write_dead_letters(out, remaining)
    transcripts, added = 0, []
    for stitched in run(batches):
        transcripts += stitched.transcripts
        added.extend(stitched.dead_letters)
    if added:
        _write_dead_letters(out, remaining + added)
    return transcripts, len(added)


def transcript_ids(out: str) -> pa.ChunkedArray:
    """The recordings that have a transcript."""
    return locations.read_tables(
        locations.join(out, "transcripts"), ["recording_id"], schema=TRANSCRIPT
    ).column("recording_id")


def dead_letters(out: str) -> list[dict[str, Any]]:
    """The recordings that failed for good."""
    rows: list[dict[str, Any]] = locations.read_tables(
        locations.join(out, "dead_letters"), schema=DEAD_LETTER
    ).to_pylist()
    return rows


def _write_dead_letters(out: str, rows: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(sorted(rows, key=lambda row: row["recording_id"]), schema=DEAD_LETTER)
    locations.write_atomic(
        locations.join(out, "dead_letters/dead_letters.parquet"), shards.parquet_bytes(table)
    )


def _batches(index: pd.DataFrame, size: int) -> Iterator[Batch]:
    """At most `size` recordings each, and at most BATCH_SECONDS of audio unless a single recording is longer."""
    # Recordings in the order of the files that hold them, so that a batch opens few files.
    order = index.groupby("recording_id")["file"].agg(["min", lambda files: sorted(set(files))])
    order.columns = ["first", "files"]
    order["seconds"] = (index["decoded_end"] - index["decoded_start"]).groupby(index["recording_id"]).sum()
    order = order.sort_values(["first"], kind="stable")
    part: list[str] = []
    files: set[str] = set()
    seconds = 0.0
    for recording, row_files, row_seconds in zip(order.index, order["files"], order["seconds"], strict=True):
        if part and (len(part) == size or seconds + row_seconds > BATCH_SECONDS):
            yield Batch(part, sorted(files))
            part, files, seconds = [], set(), 0.0
        part.append(recording)
        files.update(row_files)
        seconds += row_seconds
    if part:
        yield Batch(part, sorted(files))
