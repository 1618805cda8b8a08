"""OUT/shards and OUT/checkpoint: the result rows of shards, and which of them are committed.

Ray Data commits a task in two phases. It writes the shard ids to `checkpoint/<task>.pending.parquet` and the
rows to `shards/<task>-0.parquet`, then renames the ids to `checkpoint/<task>.parquet`. Rows count only once
their ids are committed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from actors.records import Row
from actors.redaction import redacted, redacted_address
from pipelines.schema import SHARD
from pipelines.storage import files
from pipelines.storage.parquet import conform, read_all

logger = logging.getLogger(__name__)

ID, REPAIR = "shard_id", "repair_seconds"
_MAGIC = b"PAR1"  # the first and the last bytes of a Parquet file
PENDING = ".pending.parquet"
UNKNOWN_END = (
    "worker",
    "worker_lost",
    "its task failed every time, also with no other shard in it, before any model ran: check the audio file",
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
    """The folder with the rows of shards."""
    return files.join(out, "shards")


def checkpoint_folder(out: str) -> str:
    """The folder with the ids of committed shards."""
    return files.join(out, "checkpoint")


def recover(out: str) -> int:
    """Complete or undo the commits of an interrupted run. No driver may be at work on `out`.

    A pending task is undone: its rows and ids are deleted, and its shards will be done again. Where committed
    ids exist beside the pending ones (an object store renames by copying and deleting, and a kill can fall
    between the two), the rows are complete and stay. Ray's own clean-up, which runs later, would delete those
    rows and keep their ids as done: the shards would be lost for good.

    Also deleted: committed ids whose rows are missing (after a power failure, or after a clean-up that ran
    while a process was committing), rows and ids that never reached the disk (see `_is_whole`), and the
    drafts of killed writers.

    Returns:
        The number of tasks whose shards will be done again.
    """
    _remove_drafts(out)
    names = set()
    for uri, size in files.sizes(checkpoint_folder(out), ".parquet").items():
        if uri.endswith(PENDING) or _is_whole(uri, size):
            names.add(files.name_of(uri))
        else:
            logger.warning("%s is damaged: its shards will be done again", uri)
            files.remove(uri)
    pending = {name.removesuffix(PENDING) for name in names if name.endswith(PENDING)}
    committed = {name.removesuffix(".parquet") for name in names if not name.endswith(PENDING)}
    undone = pending - committed
    whole = set()
    for uri, size in files.sizes(folder(out), ".parquet").items():
        task = _task_of(uri)
        if task not in committed or not _is_whole(uri, size):
            files.remove(uri)
        else:
            whole.add(task)
    without_rows = committed - whole
    if without_rows:
        logger.warning(
            "the rows of %d finished %s of %s are missing, such as %s: their shards will be done again",
            len(without_rows),
            "task" if len(without_rows) == 1 else "tasks",
            out,
            min(without_rows),
        )
    for task in without_rows:
        files.remove(files.join(checkpoint_folder(out), f"{task}.parquet"))
    for task in pending:
        files.remove(files.join(checkpoint_folder(out), task + PENDING))
    return len(undone | without_rows)


def committed_ids(out: str) -> pa.ChunkedArray:
    """The ids of all committed shards, whether they succeeded or failed."""
    uris = [uri for uri in files.list(checkpoint_folder(out), ".parquet") if not uri.endswith(PENDING)]
    tables = [*read_all(uris, [ID])]
    return pa.concat_tables(tables).column(ID) if tables else pa.chunked_array([], pa.string())


def left_to_do(plan: pa.Table, out: str) -> pa.Table:
    """The rows of a plan that have no committed row in `out`."""
    done = committed_ids(out)
    return plan.filter(pc.invert(pc.is_in(plan[ID], done.combine_chunks())))


def index(out: str) -> pa.Table:
    """One row per committed shard: INDEX_COLUMNS and `file`, no text. Safe while a run is at work."""
    names = {files.name_of(uri) for uri in files.list(checkpoint_folder(out), ".parquet")}
    uris = [uri for uri in files.list(folder(out), ".parquet") if f"{_task_of(uri)}.parquet" in names]
    tables = [
        table.append_column("file", pa.array([uri] * table.num_rows, pa.string()))
        for uri, table in zip(uris, read_all(uris, INDEX_COLUMNS), strict=True)
    ]
    empty = pa.schema(
        [*[SHARD.field(name) for name in INDEX_COLUMNS], pa.field("file", pa.string())]
    ).empty_table()
    return pa.concat_tables([table.cast(empty.schema) for table in tables]) if tables else empty


def committed_files(out: str) -> list[str]:
    """Addresses of the files whose rows count."""
    names = {files.name_of(uri) for uri in files.list(checkpoint_folder(out), ".parquet")}
    return [uri for uri in files.list(folder(out), ".parquet") if f"{_task_of(uri)}.parquet" in names]


def repair_seconds(out: str) -> float:
    """Seconds of audio that the repair decoded again for the committed rows."""
    found = read_all(committed_files(out), [REPAIR])
    tables = [table for table in found if REPAIR in table.column_names]
    return float(sum(pc.sum(table[REPAIR]).as_py() or 0.0 for table in tables))


def read_rows(uris: Sequence[str], recording_ids: Iterable[str]) -> list[Row]:
    """Read the complete rows of some recordings.

    Args:
        uris: addresses of shard files.
        recording_ids: the recordings whose rows are wanted.
    """
    wanted = pa.array(sorted(set(recording_ids)), pa.string())
    rows: list[Row] = []
    for table in read_all(uris, None):
        found = table.filter(pc.is_in(table.column("recording_id"), wanted))
        rows.extend(conform(found, SHARD).to_pylist())
    return rows


def append(out: str, rows: list[Row], task: str) -> None:
    """Commit rows under the task name `task`, in the same two phases as Ray Data does."""
    table = pa.Table.from_pylist(rows, schema=SHARD)
    ids = parquet_bytes(table.select([ID]))
    pending = files.join(checkpoint_folder(out), task + PENDING)
    files.write_atomic(pending, ids)
    files.write_atomic(files.join(folder(out), f"{task}-0.parquet"), parquet_bytes(table))
    files.write_atomic(files.join(checkpoint_folder(out), f"{task}.parquet"), ids)
    files.remove(pending)


def commit_lost(
    out: str,
    lost: list[Row],
    run_id: str,
    reasons: Mapping[str, tuple[str, str, str]],
    failure: str = "",
) -> None:
    """Give up planned shards whose process died every time: commit an error row for each.

    Args:
        out: the output directory.
        lost: their PLAN rows.
        run_id: written into the rows.
        reasons: error stage, code and message by shard id, where they are known.
        failure: the error message of the last failed task, for the shards without a known reason.
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
            outcome = {"error_stage": stage, "error_code": code, "error_message": redacted(message)[:500]}
            rows.append({**row, **end, **outcome, "audio": redacted_address(row["audio"])})
        append(out, rows, f"lost-{run_id}")


def parquet_bytes(table: pa.Table, compression: str = "zstd") -> bytes:
    """Encode a table as one Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression=compression)
    return sink.getvalue().to_pybytes()


def _is_whole(uri: str, size: int) -> bool:
    """Whether a file can be complete Parquet.

    On a disk, a power failure leaves empty files, and files of the right length without the written content.
    """
    if files.is_remote(uri) or not size:
        return bool(size)
    with open(uri, "rb") as file:
        head = file.read(len(_MAGIC))
        file.seek(-min(size, len(_MAGIC)), os.SEEK_END)
        return head == file.read() == _MAGIC


def _remove_drafts(out: str) -> None:
    for name in ("plan", "checkpoint", "shards", "transcripts", "speakers", "dead_letters"):
        files.remove_drafts(files.join(out, name))
    for name in ("run.json", "progress.json"):
        files.remove_drafts(out, name)
    # `scriptorium report` holds no lease and may be writing at the moment.
    files.remove_drafts(out, "report.", age=60.0)


def _task_of(uri: str) -> str:
    return files.name_of(uri).removesuffix(".parquet").rpartition("-")[0]
