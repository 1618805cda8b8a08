"""OUT/plan: the shards to do, in small Parquet files, one per Ray task, and one index per run that planned.

Ray reads one block per file, and a block is the unit of scheduling and of batching. So the size of a plan
file decides how much work a task is.

A plan counts once its index `_plan-<run_id>.index` exists. The index is written last and contains all rows of
the plan once more. Files without an index are left over from an interrupted plan, and the next plan removes
them. Readers of the plan read indices instead of a hundred thousand files. The index is Parquet too; its name
keeps readers of the folder from taking it for a part of the table.

Only the plan has the addresses of the audio as the manifest gives them, because they are needed to fetch it.
If one of them has a password or a query, only the user who planned can read a plan on a local disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from actors.redaction import redacted
from pipelines.schema import PLAN
from pipelines.storage import files
from pipelines.storage.parquet import conform, read_table

MAX_ROWS = 256  # most shards in one plan file, however short they are
# `plan_file` is the file with the row: a name in the index, an address in the result of `read`.
INDEX = PLAN.append(pa.field("plan_file", pa.string()))


def write(out: str, rows: pa.Table, run_id: str, task_seconds: float) -> None:
    """Store a plan. If this is interrupted, no part of the plan counts.

    Args:
        out: the output directory.
        rows: PLAN columns, in the order in which they are to be done; other columns are ignored.
        run_id: part of the names of the files, which sort in the order of the rows.
        task_seconds: most audio seconds in one file, unless a single shard is longer.
    """
    clear_leftovers(out)
    rows = conform(rows, PLAN)
    starts = task_starts(seconds(rows), task_seconds)
    names = [f"plan-{run_id}-{number:06d}.parquet" for number in range(len(starts))]
    sizes = np.diff([*starts, rows.num_rows])
    private = any(redacted(address) != address for address in rows["audio"].to_pylist())

    def store(task: tuple[str, int, int]) -> None:
        name, start, size = task
        part = _parquet(rows.slice(start, size))
        files.write_atomic(files.join(_folder(out), name), part, sync=False, private=private)

    # Threads hide the latency of a remote store; on a disk they would only slow each other down.
    with ThreadPoolExecutor(files.READERS if files.is_remote(out) else 1) as pool:
        for _ in pool.map(store, zip(names, starts, sizes.tolist(), strict=True)):
            pass
    files.sync_all(out)
    column = pa.array(names, pa.string()).take(pa.array(np.repeat(np.arange(len(names)), sizes)))
    index = _parquet(rows.append_column("plan_file", column))
    files.write_atomic(_index(out, run_id), index, private=private)


def read(out: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of all complete plans, oldest first, each recording in its latest attempt only.

    Args:
        out: the output directory.
        columns: read only these columns of INDEX.
    """
    wanted = None if columns is None else sorted({*columns, "recording_id", "attempt"}, key=INDEX.names.index)
    schema = INDEX if wanted is None else pa.schema([INDEX.field(name) for name in wanted])
    tables = [schema.empty_table()]
    for uri in files.list(_folder(out), ".index", recursive=False):
        tables.append(conform(read_table(uri, wanted), schema))
    table = _latest(pa.concat_tables(tables))
    if "plan_file" in table.column_names:
        addresses = pc.binary_join_element_wise(f"{_folder(out)}/", table["plan_file"], "")
        table = table.set_column(table.column_names.index("plan_file"), "plan_file", addresses)
    return table if columns is None else table.select(columns)


def files_of(rows: pa.Table) -> list[str]:
    """Addresses of the plan files that contain the given rows of `read`, in the order of the work."""
    return sorted(pc.unique(rows["plan_file"]).to_pylist())


def clear_leftovers(out: str) -> int:
    """Remove the files of interrupted plans; returns the number of removed files."""
    finished = {
        files.name_of(uri).removeprefix("_").removesuffix(".index")
        for uri in files.list(_folder(out), ".index")
    }
    leftovers = [
        uri
        for uri in files.list(_folder(out), ".parquet")
        if files.name_of(uri).rpartition("-")[0] not in finished
    ]
    for uri in leftovers:
        files.remove(uri)
    return len(leftovers)


def seconds(rows: pa.Table) -> np.ndarray:
    """Audio seconds of each shard, shape (rows,); 0 where the header gives no duration."""
    duration = _floats(rows["duration"])
    if "window" in rows.column_names:
        duration = duration + np.nan_to_num(_floats(pc.struct_field(rows["window"], "start")))
    end = _floats(rows["end"])
    length = np.where(np.isnan(end), duration, end) - _floats(rows["start"])
    return np.maximum(np.nan_to_num(length), 0.0)


def task_starts(lengths: np.ndarray, task_seconds: float) -> list[int]:
    """First row of each task. A task is as many consecutive rows as fit into `task_seconds` and MAX_ROWS.

    Args:
        lengths: audio seconds of each row, shape (rows,).
        task_seconds: audio seconds of one task; a longer row is a task of its own.
    """
    return [*_starts(lengths.tolist(), task_seconds)]


def _starts(lengths: list[float], limit: float) -> Iterator[int]:
    total, count = 0.0, 0
    for row, length in enumerate(lengths):
        if count == 0 or count == MAX_ROWS or total + length > limit:
            yield row
            total, count = 0.0, 0
        total, count = total + length, count + 1


def _latest(rows: pa.Table) -> pa.Table:
    if not rows.num_rows or pc.max(rows["attempt"]).as_py() == 1:
        return rows
    last = rows.group_by("recording_id").aggregate([("attempt", "max")])
    order = pc.index_in(rows["recording_id"], value_set=last["recording_id"].combine_chunks())
    return rows.filter(pc.equal(rows["attempt"], last["attempt_max"].take(order)))


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    values: np.ndarray = column.cast(pa.float64()).to_numpy()
    return values


def _folder(out: str) -> str:
    return files.join(out, "plan")


def _index(out: str, run_id: str) -> str:
    return files.join(_folder(out), f"_plan-{run_id}.index")


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    # In files of few rows, statistics, dictionaries and compression cost more than they save.
    small: dict[str, Any] = {"use_dictionary": False, "write_statistics": False, "compression": "none"}
    pq.write_table(table, sink, **(small if table.num_rows <= MAX_ROWS else {"compression": "zstd"}))
    data: bytes = sink.getvalue().to_pybytes()
    return data
