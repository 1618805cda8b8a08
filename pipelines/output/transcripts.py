"""The second pass: the shards of a recording become one transcript or one dead letter.

It handles text only, is idempotent and can be interrupted anywhere. A transcript file is written once under a
unique name and never changed. OUT/dead_letters is one small file, which is always replaced before the
transcripts of retried recordings are written, so that a recording is never in both tables.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa

from actors.confidence.calibration import Calibration
from actors.records import Row
from pipelines.output import shards, speakers
from pipelines.schema import DEAD_LETTER, TRANSCRIPT
from pipelines.stitching import stitch_with_speakers
from pipelines.stitching.speakers import SpeakerSettings
from pipelines.storage import files

# Audio seconds of one batch. An hour with its words takes about 9 MiB while it is stitched, and as many
# batches as there are cores are stitched at once.
BATCH_SECONDS = 36 * 3600.0


@dataclass(frozen=True)
class Batch:
    """Some recordings to stitch, and the shard files that hold them."""

    recording_ids: list[str]
    files: list[str]


@dataclass(frozen=True)
class Stitched:
    """Result of a batch: how many transcripts were written, and the dead letters, still to write."""

    transcripts: int
    dead_letters: list[Row]


def unstitched(out: str, recordings_per_batch: int) -> list[Batch]:
    """Batches of the recordings whose shards are all done, but which are not in the tables yet.

    A recording that is a dead letter of an earlier attempt counts as not there.
    """
    done = shards.index(out).to_pandas()
    if done.empty:
        return []
    # Only the latest attempt counts, as its shards may be cut differently. A shard that two racing drivers
    # wrote counts once.
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
    out: str,
    batch: Batch,
    config_hash: str,
    version: str,
    run_id: str,
    compression: str,
    calibration: Calibration | None = None,
    settings: SpeakerSettings | None = None,
) -> Stitched:
    """Stitch one batch and write its transcripts as one file, and before that its speakers as another one.

    The name of the file is a digest of the recordings in it, so that repeating a batch within a run changes
    nothing.
    """
    by_recording: dict[str, list[Row]] = defaultdict(list)
    for row in shards.read_rows(batch.files, batch.recording_ids):
        by_recording[row["recording_id"]].append(row)
    transcripts: list[Row] = []
    dead: list[Row] = []
    people: list[Row] = []
    for recording_id in batch.recording_ids:
        rows = by_recording[recording_id]
        attempt = max(row["attempt"] for row in rows)
        latest = {
            row["index"]: row
            for row in sorted(rows, key=lambda row: row["created_at"])
            if row["attempt"] == attempt
        }
        row, found = stitch_with_speakers(
            [latest[index] for index in sorted(latest)],
            settings or SpeakerSettings(),
            config_hash=config_hash,
            version=version,
            calibration=calibration,
        )
        (dead if "error_code" in row else transcripts).append(row)
        people += speakers.rows_of(row, found)
    if transcripts:
        table = pa.Table.from_pylist(transcripts, schema=TRANSCRIPT)
        digest = hashlib.sha256("\n".join(row["recording_id"] for row in transcripts).encode()).hexdigest()[
            :16
        ]
        name = f"{run_id}-{digest}.parquet"
        # First the speakers: those without transcripts are removed by the next run.
        speakers.write(out, name, people, compression)
        files.write_atomic(files.join(out, "transcripts", name), shards.parquet_bytes(table, compression))
    return Stitched(len(transcripts), dead)


def stitch_all(
    out: str, batches: Sequence[Batch], run: Callable[[Sequence[Batch]], Iterable[Stitched]]
) -> tuple[int, int]:
    """Stitch all batches.

    The earlier dead letters of these recordings are removed first. After an interruption, such a recording is
    in neither table, and the next run finds it.

    Args:
        out: the output directory.
        batches: from `unstitched`.
        run: stitches batches, here or on Ray.

    Returns:
        The numbers of transcripts and dead letters that were added.
    """
    speakers.remove_orphans(out)
    stitched_ids = {recording for batch in batches for recording in batch.recording_ids}
    earlier = dead_letters(out)
    remaining = [row for row in earlier if row["recording_id"] not in stitched_ids]
    if len(remaining) < len(earlier):
        _write_dead_letters(out, remaining)
    transcripts, added = 0, []
    for stitched in run(batches):
        transcripts += stitched.transcripts
        added.extend(stitched.dead_letters)
    if added:
        _write_dead_letters(out, remaining + added)
    return transcripts, len(added)


def transcript_ids(out: str) -> pa.ChunkedArray:
    """The ids of the recordings that have a transcript."""
    return files.read_tables(files.join(out, "transcripts"), ["recording_id"], schema=TRANSCRIPT).column(
        "recording_id"
    )


def dead_letters(out: str) -> list[Row]:
    """The rows of the recordings that failed for good."""
    rows: list[Row] = files.read_tables(files.join(out, "dead_letters"), schema=DEAD_LETTER).to_pylist()
    return rows


def _write_dead_letters(out: str, rows: list[Row]) -> None:
    table = pa.Table.from_pylist(sorted(rows, key=lambda row: row["recording_id"]), schema=DEAD_LETTER)
    files.write_atomic(files.join(out, "dead_letters/dead_letters.parquet"), shards.parquet_bytes(table))


def _batches(index: pd.DataFrame, size: int) -> Iterator[Batch]:
    """Batches of at most `size` recordings and BATCH_SECONDS of audio, unless one recording is longer."""
    # Recordings in the order of the files that hold them, so that a batch opens few files.
    order = index.groupby("recording_id")["file"].agg(["min", lambda uris: sorted(set(uris))])
    order.columns = ["first", "files"]
    order["seconds"] = (index["decoded_end"] - index["decoded_start"]).groupby(index["recording_id"]).sum()
    order = order.sort_values(["first"], kind="stable")
    part: list[str] = []
    uris: set[str] = set()
    seconds = 0.0
    for recording, row_uris, row_seconds in zip(order.index, order["files"], order["seconds"], strict=True):
        if part and (len(part) == size or seconds + row_seconds > BATCH_SECONDS):
            yield Batch(part, sorted(uris))
            part, uris, seconds = [], set(), 0.0
        part.append(recording)
        uris.update(row_uris)
        seconds += row_seconds
    if part:
        yield Batch(part, sorted(uris))
