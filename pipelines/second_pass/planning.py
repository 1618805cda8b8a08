"""Which finished shards a second model is to hear, and their plan: OUT/second_pass.

A shard of the second pass has the id of the first one with `+2`, and the same place in its recording.
Stitching takes the later row of a place. So a shard counts once however often a run is killed: before its
second row is committed the first one stands, and afterwards it is not heard again. The plan is made anew by
every run from the committed rows; nothing else remembers what is to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from actors.records import Row, SegmentRow
from actors.repair import second_model
from actors.repair.earlier import pack
from pipelines.output import plans, shards, transcripts
from pipelines.schema import PLAN, SHARD
from pipelines.storage import files
from pipelines.storage.parquet import conform, read_all

SUFFIX = "+2"
_COLUMNS = ["shard_id", "recording_id", "doubtful_seconds", "language_seconds"]
_INDEX = pa.schema(
    [
        *(SHARD.field(name) for name in _COLUMNS),
        pa.field("file", pa.string()),
    ]
)
_READ_ROWS = 200  # finished rows that are in memory at once


@dataclass(frozen=True)
class Wanted:
    """The finished shards that a second model is to hear.

    Attributes:
        shards: ids, recordings and files, with their seconds.
        affordable: ids of those whose doubtful segments the budget allows.
    """

    shards: pa.Table
    affordable: frozenset[str]


def find(out: str, plan: pa.Table, max_share: float) -> Wanted:
    """What a second model is to hear of the recordings that have no transcript yet.

    Args:
        out: the output directory.
        plan: all planned shards; only these are looked at.
        max_share: most audio that may be decoded again, of which earlier steps have used a part. The shortest
            come first; what is in the second model's languages does not count.
    """
    index = _index(out)
    ids = index["shard_id"].to_pylist()
    heard = {shard.removesuffix(SUFFIX) for shard in ids if shard.endswith(SUFFIX)}
    seconds = pc.add(*(pc.fill_null(index[name], 0.0) for name in _COLUMNS[2:]))
    mask = pc.and_(pc.greater(seconds, 0.0), pc.is_in(index["shard_id"], plan["shard_id"].combine_chunks()))
    stitched = transcripts.transcript_ids(out).combine_chunks()
    mask = pc.and_(mask, pc.invert(pc.is_in(index["recording_id"], stitched)))
    mask = pc.and_(mask, pc.invert(pc.is_in(index["shard_id"], pa.array(sorted(heard), pa.string()))))
    found = index.filter(mask)
    left = max_share * float(plans.seconds(plan).sum()) - shards.repair_seconds(out)
    affordable = set()
    costs = pc.fill_null(found["doubtful_seconds"], 0.0).to_pylist()
    for cost, shard in sorted(zip(costs, found["shard_id"].to_pylist(), strict=True)):
        if cost <= left:
            left -= cost
            affordable.add(shard)
    return Wanted(found, frozenset(affordable))


def write_plan(
    out: str,
    plan: pa.Table,
    wanted: Wanted,
    languages: Sequence[str],
    run_id: str,
    task_seconds: float = 3600.0,
    is_wanted: Callable[[SegmentRow], bool] = second_model.is_doubtful,
) -> pa.Table:
    """Write the plan of the second pass, and commit the shards that the budget refuses with that flag.

    Args:
        out: the output directory.
        plan: all planned shards, whose rows have the addresses of the audio.
        wanted: from `find`.
        languages: ISO codes of the second model's languages.
        run_id: written into rows; part of the names of files.
        task_seconds: most audio seconds of one file, which is a Ray task.
        is_wanted: which segments are doubtful.

    Returns:
        The rows of the plan, with `plan_file`, but without `earlier`.
    """
    for uri in files.list(_folder(out), ".parquet"):
        files.remove(uri)
    planned = {row["shard_id"]: row for row in _rows_of(plan, wanted.shards["shard_id"])}
    tables = []
    for number, rows in enumerate(_finished_rows(wanted)):
        again, refused = [], []
        for row in rows:
            doubtful = row["shard_id"] in wanted.affordable
            segments = second_model.segments_again(
                row["segments"], languages, doubtful=doubtful, is_wanted=is_wanted
            )
            own = {**row, "shard_id": row["shard_id"] + SUFFIX}
            if not doubtful:
                own = _flagged(own, languages, "repair_refused", is_wanted)
            if not segments:
                refused.append({**own, "run_id": run_id, "created_at": datetime.now(UTC)})
                continue
            stored = {name: value for name, value in own.items() if name not in _PLANNED}
            first = {**planned[row["shard_id"]], "shard_id": own["shard_id"]}
            again.append({**first, "earlier": pack(stored, segments)})
        if refused:
            shards.append(out, refused, f"refused-{run_id}-{number}")
        if again:
            table = pa.Table.from_pylist(again, schema=PLAN)
            starts = plans.task_starts(plans.seconds(table), task_seconds)
            for start, end in zip(starts, [*starts[1:], table.num_rows], strict=True):
                uri = files.join(_folder(out), f"second-{run_id}-{number:06d}-{start:03d}.parquet")
                tables.append(_stored(uri, table.slice(start, end - start)))
    return pa.concat_tables(tables) if tables else plans.INDEX.empty_table()


def _stored(uri: str, rows: pa.Table) -> pa.Table:
    """Write a file of the plan; returns its rows with the file's address and without the earlier rows."""
    files.write_atomic(uri, shards.parquet_bytes(rows), sync=False, private=True)
    nothing = pa.nulls(rows.num_rows, pa.string())
    slim = rows.set_column(PLAN.get_field_index("earlier"), "earlier", nothing)
    return slim.append_column("plan_file", pa.array([uri] * rows.num_rows, pa.string()))


def give_up(
    out: str,
    todo: pa.Table,
    run_id: str,
    is_wanted: Callable[[SegmentRow], bool] = second_model.is_doubtful,
) -> None:
    """Commit the first rows of shards whose process crashed again and again in the second pass.

    Args:
        out: the output directory.
        todo: rows of the plan of the second pass.
        run_id: written into the rows.
        is_wanted: which segments are doubtful.
    """
    ids = pa.array([shard.removesuffix(SUFFIX) for shard in todo["shard_id"].to_pylist()], pa.string())
    index = _index(out)
    found = index.filter(pc.is_in(index["shard_id"], ids))
    for number, rows in enumerate(_finished_rows(Wanted(found, frozenset()))):
        own = {"run_id": run_id, "created_at": datetime.now(UTC)}
        failed = [
            {**_flagged(row, (), "repair_failed", is_wanted), **own, "shard_id": row["shard_id"] + SUFFIX}
            for row in rows
        ]
        shards.append(out, failed, f"given-up-{run_id}-{number}")


# What the plan knows better: addresses with what is needed to fetch the audio, and its own ids.
_PLANNED = frozenset(PLAN.names) | {"created_at", "doubtful_seconds", "language_seconds"}


def _flagged(row: Row, languages: Sequence[str], flag: str, is_wanted: Callable[[SegmentRow], bool]) -> Row:
    """A finished row with a flag on its doubtful segments."""
    segments = [
        {**one, "flags": list(dict.fromkeys([*(one["flags"] or []), flag]))}
        if is_wanted(one) and one.get("language") not in languages
        else one
        for one in row["segments"]
    ]
    nothing = {"doubtful_seconds": None, "language_seconds": None, "repair_seconds": None}
    return {**row, **nothing, "segments": segments}


def _finished_rows(wanted: Wanted) -> Iterator[list[Row]]:
    """The complete rows of shards, some at a time."""
    by_file: dict[str, list[str]] = {}
    for row in wanted.shards.select(["shard_id", "file"]).to_pylist():
        by_file.setdefault(row["file"], []).append(row["shard_id"])
    batch: list[Row] = []
    for uri, ids in sorted(by_file.items()):
        [table] = read_all([uri], None)
        found = table.filter(pc.is_in(table["shard_id"], pa.array(ids, pa.string())))
        batch += conform(found, SHARD).to_pylist()
        if len(batch) >= _READ_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _rows_of(plan: pa.Table, ids: pa.ChunkedArray) -> list[Row]:
    rows: list[Row] = conform(plan.filter(pc.is_in(plan["shard_id"], ids.combine_chunks())), PLAN).to_pylist()
    return rows


def _index(out: str) -> pa.Table:
    """One row for each committed shard, with the seconds for a second model."""
    tables = [_INDEX.empty_table()]
    uris = shards.committed_files(out)
    for uri, table in zip(uris, read_all(uris, _COLUMNS), strict=True):
        tables.append(
            conform(table.append_column("file", pa.array([uri] * table.num_rows, pa.string())), _INDEX)
        )
    return pa.concat_tables(tables)


def _folder(out: str) -> str:
    return files.join(out, "second_pass")
