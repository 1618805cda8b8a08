"""OUT/shards and OUT/checkpoint: which shards are done, and the rows that say how they ended.

Ray Data writes a task's rows in two phases: the ids to `checkpoint/<task>.pending.parquet`, the rows to `shards/<task>-0.parquet`, and
then the ids are renamed to `checkpoint/<task>.parquet`, which commits them. Rows count only once their ids are committed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.schema import SHARD
from pipelines.storage import files as locations
from pipelines.storage.parquet import read_all

logger = logging.getLogger(__name__)

ID = "shard_id"
_MAGIC = b"PAR1"  # at both ends of a Parquet file
PENDING = ".pending.parquet"
UNKNOWN_END = (
    "worker",
    "worker_lost",
    "its task failed every time, also with no other shard in it, and before it came to a model: look at the audio",
)
INDEX_COLUMNS = [
    "shard_id",
    "recording_id",
    "index",
    "shard_count",
    "attempt",
    "status",
    "error_code",
    "decoded_start",
    "decoded_end",
]


def folder(out: str) -> str:
    """Where the shards' rows are."""
    return locations.join(out, "shards")


def checkpoint_folder(out: str) -> str:
    """Where the ids of committed shards are."""
    return locations.join(out, "checkpoint")


def settle(out: str) -> int:
    """Finish what an interrupted run left between its two phases; returns how many tasks it undid. No driver may be at work on `out`.

    A pending task is undone: its rows go, its ids go, its shards will be done again. But where the committed ids stand beside the
    pending ones (an object store renames by copying and deleting, and a kill can fall between the two), the rows are whole and stay.
    Ray's own clean-up, which runs later, would delete those rows and keep their ids as done: the shards would be lost for good.

    Committed ids whose rows are gone (a power cut, or a clean-up that met a process which was just committing) go as well, so do rows and
    ids that never reached the disk (see `_is_whole`), and files that were being written when their writer was killed.
    """
    _remove_drafts(out)
    names = set()
    for uri, size in locations.sizes(checkpoint_folder(out), ".parquet").items():
        if uri.endswith(PENDING) or _is_whole(uri, size):
            names.add(locations.name_of(uri))
        else:
            logger.warning("%s is damaged: its shards are done again", uri)
            locations.remove(uri)
    pending = {name.removesuffix(PENDING) for name in names if name.endswith(PENDING)}
    committed = {name.removesuffix(".parquet") for name in names if not name.endswith(PENDING)}
    undone = pending - committed
    whole = set()
    for uri, size in locations.sizes(folder(out), ".parquet").items():
        task = _task_of(uri)
        if task not in committed or not _is_whole(uri, size):
            locations.remove(uri)
        else:
            whole.add(task)
    gone = committed - whole
    if gone:
        logger.warning(
            "%d finished tasks of %s have no rows any more, such as %s: their shards are done again",
            len(gone),
            out,
            min(gone),
        )
    for task in gone:
        locations.remove(locations.join(checkpoint_folder(out), f"{task}.parquet"))
    for task in pending:
        locations.remove(locations.join(checkpoint_folder(out), task + PENDING))
    return len(undone | gone)


def committed_ids(out: str) -> pa.ChunkedArray:
    """The ids of all shards that are done, however they ended."""
    uris = [uri for uri in locations.list(checkpoint_folder(out), ".parquet") if not uri.endswith(PENDING)]
    tables = [*read_all(uris, [ID])]
    return pa.concat_tables(tables).column(ID) if tables else pa.chunked_array([], pa.string())


def left_to_do(plan: pa.Table, out: str) -> pa.Table:
    """The rows of a plan that have no committed row in `out`."""
    done = committed_ids(out)
    return plan.filter(pc.invert(pc.is_in(plan[ID], done.combine_chunks())))


def index(out: str) -> pa.Table:
    """One row a committed shard: INDEX_COLUMNS and `file`, without text. Safe while a run is at work."""
    names = {locations.name_of(uri) for uri in locations.list(checkpoint_folder(out), ".parquet")}
    uris = [uri for uri in locations.list(folder(out), ".parquet") if f"{_task_of(uri)}.parquet" in names]
    tables = [
        table.append_column("file", pa.array([uri] * table.num_rows, pa.string()))
        for uri, table in zip(uris, read_all(uris, INDEX_COLUMNS), strict=True)
    ]
    empty = pa.schema(
        [*[SHARD.field(name) for name in INDEX_COLUMNS], pa.field("file", pa.string())]
    ).empty_table()
    return pa.concat_tables([table.cast(empty.schema) for table in tables]) if tables else empty


def read_rows(files: Sequence[str], recording_ids: Iterable[str]) -> list[dict[str, Any]]:
    """The whole rows of some recordings from the given shard files."""
    wanted = pa.array(sorted(set(recording_ids)), pa.string())
    rows: list[dict[str, Any]] = []
    for table in read_all(files, None):
        kept = table.filter(pa.compute.is_in(table.column("recording_id"), wanted))
        rows.extend(kept.cast(SHARD).to_pylist())
    return rows


def append(out: str, rows: list[dict[str, Any]], task: str) -> None:
    """Commit rows of our own making (shards whose worker died every time) in the same two places and phases, under the name `task`."""
    table = pa.Table.from_pylist(rows, schema=SHARD)
    ids = parquet_bytes(table.select([ID]))
    pending = locations.join(checkpoint_folder(out), task + PENDING)
    locations.write_atomic(pending, ids)
    locations.write_atomic(locations.join(folder(out), f"{task}-0.parquet"), parquet_bytes(table))
    locations.write_atomic(locations.join(checkpoint_folder(out), f"{task}.parquet"), ids)
    locations.remove(pending)


def bury(
    out: str,
    lost: list[dict[str, Any]],
    run_id: str,
    reasons: Mapping[str, tuple[str, str, str]],
    failure: str = "",
) -> None:
    """Give up planned shards whose process died every time: commit a row for each that says so.

    Args:
        out: the output directory.
        lost: their PLAN rows.
        run_id: written into the rows.
        reasons: stage, code and message by shard id, where something is known.
        failure: what the last task said that failed, for the others.
    """
    end = {
        "status": "error",
        "flags": [],
        "segments": [],
        "run_id": run_id,
        "created_at": datetime.now(UTC),
    }
    if lost:
        rows = []
        for row in lost:
            stage, code, message = reasons.get(row[ID]) or (
                *UNKNOWN_END[:2],
                UNKNOWN_END[2] + f"; the last such task: {failure}" * bool(failure),
            )
            rows.append(
                {**row, **end, "error_stage": stage, "error_code": code, "error_message": message[:500]}
            )
        append(out, rows, f"lost-{run_id}")


def parquet_bytes(table: pa.Table, compression: str = "zstd") -> bytes:
    """A table as the bytes of one Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression=compression)
    return sink.getvalue().to_pybytes()


def _is_whole(uri: str, size: int) -> bool:
    """Whether a file can be Parquet: on a disk, a power cut leaves empty ones, and others of the right length without what was written."""
    if locations.is_remote(uri) or not size:
        return bool(size)
    with open(uri, "rb") as file:
        head = file.read(len(_MAGIC))
        file.seek(-min(size, len(_MAGIC)), os.SEEK_END)
        return head == file.read() == _MAGIC


def _remove_drafts(out: str) -> None:
    for name in ("plan", "checkpoint", "shards", "transcripts", "dead_letters"):
        locations.remove_drafts(locations.join(out, name))
    for name in ("run.json", "progress.json"):
        locations.remove_drafts(out, name)
    locations.remove_drafts(
        out, "report.", age=60.0
    )  # `scriptorium report` holds no lease: one may be at work


def _task_of(uri: str) -> str:
    return locations.name_of(uri).removesuffix(".parquet").rpartition("-")[0]
