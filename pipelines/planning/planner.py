"""Before anything runs: recordings become shards, each a bounded span with a stable id, from headers alone.

Shards of a recording are of equal length, at most `plan.shard_duration`: they finish together, and none is a splinter. Where a header does
not say how long a file is, or what it says is absurd, or the file cannot be read at all, there is one shard from 0 to the end: decoding
finds out the truth, so that planning loses nothing. The longest recordings come first, because what starts last decides when a run ends.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.config import RunConfig
from pipelines.manifests.manifest import Recording
from pipelines.output import plans
from pipelines.output.plans import files_of
from pipelines.planning.header_scan import HEADER, ProbeFunction, Progress, plausible, read_headers
from pipelines.planning.uri_policy import check_allowed
from pipelines.schema import PLAN
from pipelines.storage.parquet import rows_at

__all__ = [
    "PLANNED",
    "RECORDINGS",
    "collect",
    "extend_plan",
    "files_of",
    "plan_again",
    "plan_table",
    "read_plan",
    "seconds_of",
]

# What a manifest says, one row a recording; `claimed` is its duration column.
RECORDINGS = pa.schema(
    [
        ("recording_id", pa.string()),
        ("audio", pa.string()),
        ("language", pa.string()),
        ("context", pa.string()),
        ("text", pa.string()),
        ("channel", pa.string()),
        ("metadata", pa.string()),
        ("claimed", pa.float64()),
        ("attempt", pa.int32()),
    ]
)
# What planning found out besides: the error code where a header could not be read. For the estimate, not stored.
PLANNED = PLAN.append(HEADER.field("probe_error"))

CHUNK = 20_000  # rows turned into Arrow at once
TASKS = (
    64,
    20_000,
)  # tasks of a small job; tasks that a huge one is not cut into more of, because Ray's bookkeeping goes by the task
TASK_SECONDS = (
    120.0,
    3600.0,
)  # what a task has otherwise: below, models see too little to batch; above, much is lost with a process

logger = logging.getLogger(__name__)


def collect(recordings: Iterable[Recording], config: RunConfig) -> pa.Table:
    """All of a manifest as RECORDINGS columns: whatever is wrong with any row of it is raised here, before anything else happens.

    Raises:
        UsageError: from the manifest, or an audio address that it may not name (`pipelines.planning.uri_policy`).
    """
    tables = [RECORDINGS.empty_table()]
    rows = iter(recordings)
    while chunk := list(itertools.islice(rows, CHUNK)):
        for recording in chunk:
            check_allowed(recording, config.plan.allowed_uris)
        columns = [
            [one.id for one in chunk],
            [one.audio for one in chunk],
            [one.language for one in chunk],
            [one.context if one.context is not None else config.asr.context for one in chunk],
            [one.text for one in chunk],
            [one.channel or config.audio.channel for one in chunk],
            [_json(one) for one in chunk],
            [one.duration for one in chunk],
            [1] * len(chunk),
        ]
        tables.append(
            pa.table(
                [pa.array(column, field.type) for column, field in zip(columns, RECORDINGS, strict=True)],
                schema=RECORDINGS,
            )
        )
    return pa.concat_tables(tables)


def plan_table(
    recordings: Iterable[Recording] | pa.Table,
    config: RunConfig,
    *,
    whole: bool = False,
    probe: ProbeFunction | None = None,
    progress: Progress | None = None,
) -> pa.Table:
    """Cut recordings into shards; nothing is written.

    Args:
        recordings: of a manifest, or what `collect` made of one.
        config: the settings; those of `plan`, `audio` and `segmenter` count.
        whole: one shard a recording, however long.
        probe: reads a header; by default `actors.audio.probing.probe`.
        progress: called now and then while headers are read.

    Returns:
        PLANNED columns, one row a shard, longest recording first; every recording has at least one.

    Raises:
        UsageError: from the manifest.
    """
    table = recordings if isinstance(recordings, pa.Table) else collect(recordings, config)
    table = _with_headers(table, config, probe, progress)
    # Unknown lengths may be long ones: first. What could not even be opened costs nothing: last.
    duration = table["duration"].to_numpy()
    failed = pc.is_valid(table["probe_error"]).to_numpy()
    key = np.where(failed, -1.0, np.where(np.isnan(duration), np.inf, duration))
    table = rows_at(table, np.lexsort((np.arange(len(key)), -key)))
    return _shards(table, math.inf if whole else config.plan.shard_duration, _settings(config, whole))


def extend_plan(
    out: str,
    recordings: Iterable[Recording] | pa.Table,
    config: RunConfig,
    run_id: str,
    *,
    whole: bool = False,
    probe: ProbeFunction | None = None,
    progress: Progress | None = None,
) -> int:
    """Plan the recordings whose ids OUT/plan does not have yet; returns how many those are.

    A known id is left alone, whatever its audio holds by now: its transcript stands. Audio that changed needs a new id; where the address
    of a known id changed, that is logged.

    Raises:
        UsageError: from the manifest.
    """
    table = recordings if isinstance(recordings, pa.Table) else collect(recordings, config)
    known = plans.read(out, ["recording_id", "audio"])
    if known.num_rows:
        position = pc.index_in(table["recording_id"], value_set=known["recording_id"].combine_chunks())
        _warn_of_moved(table, known["audio"].take(position), out)
        table = table.filter(pc.is_null(position))
    _store(out, table, config, run_id, whole, probe, progress)
    return int(table.num_rows)


def plan_again(
    out: str,
    attempts: Mapping[str, int],
    run_id: str,
    config: RunConfig,
    *,
    whole: bool = False,
    probe: ProbeFunction | None = None,
) -> int:
    """Plan recordings once more as their next attempt, from fresh headers; returns how many. Their shard ids end in `.2`, `.3` and so on.

    Args:
        out: the output directory.
        attempts: how often each recording to plan has failed. One that was planned more often already is left: its next attempt was cut off.
        run_id: names the plan's files.
        config: the settings.
        whole: one shard a recording, however long.
        probe: reads a header; by default `actors.audio.probing.probe`.
    """
    rows = plans.read(out)
    rows = rows.filter(pc.equal(rows["index"], 0))
    position = pc.index_in(rows["recording_id"], value_set=pa.array(attempts, pa.string()))
    failed = pa.array(attempts.values(), pa.int32()).take(position.combine_chunks())
    first = rows.filter(pc.fill_null(pc.equal(rows["attempt"], failed), False))
    table = pa.table(
        {
            **{name: first[name] for name in RECORDINGS.names if name not in ("claimed", "attempt")},
            "claimed": pa.nulls(first.num_rows, pa.float64()),
            "attempt": pc.add(first["attempt"], pa.scalar(1, pa.int32())),
        },
        schema=RECORDINGS,
    )
    _store(out, table, config, run_id, whole, probe, None)
    return int(table.num_rows)


def read_plan(out: str, columns: Sequence[str] | None = None) -> pa.Table:
    """All planned shards, each recording in its latest attempt: PLAN columns and `plan_file`, the address of the file with the row."""
    return plans.read(out, columns)


def seconds_of(rows: pa.Table) -> float:
    """Audio seconds of planned shards, as far as headers say."""
    return float(plans.seconds(rows).sum())


def begun(todo: pa.Table) -> dict[str, int]:
    """How many shards of a recording are done, for those of which not all of them are among the planned rows that are still to do."""
    counts = todo.group_by("recording_id").aggregate([("index", "count"), ("shard_count", "max")])
    done = pc.subtract(counts["shard_count_max"], counts["index_count"])
    some = counts.append_column("done", done).filter(pc.greater(done, 0))
    return dict(zip(some["recording_id"].to_pylist(), some["done"].to_pylist(), strict=True))


def task_seconds(total: float) -> float:
    """Audio seconds of one task for a job of `total` seconds: enough tasks to keep machines busy, few enough for Ray's bookkeeping."""
    few, many = TASKS
    shortest, longest = TASK_SECONDS
    return max(min(max(total / few, shortest), longest), total / many)


def _store(
    out: str,
    table: pa.Table,
    config: RunConfig,
    run_id: str,
    whole: bool,
    probe: ProbeFunction | None,
    progress: Progress | None,
) -> None:
    if table.num_rows:
        rows = plan_table(table, config, whole=whole, probe=probe, progress=progress)
        plans.write(out, rows, run_id, config.plan.task_seconds or task_seconds(seconds_of(rows)))


def _with_headers(
    table: pa.Table, config: RunConfig, probe: ProbeFunction | None, progress: Progress | None
) -> pa.Table:
    """RECORDINGS columns and what the headers say, or for trusted recordings what the manifest claims."""
    claimed = (
        pc.is_valid(table["claimed"]).to_numpy()
        if config.plan.trust_durations
        else np.zeros(table.num_rows, bool)
    )
    facts = read_headers(table["audio"], ~claimed, config.plan, config.audio, probe, progress)
    for name in facts.column_names:
        table = table.append_column(name, facts[name])
    if claimed.any():
        believed = pa.array(
            [plausible(seconds, None) for seconds in table["claimed"].to_pylist()], pa.float64()
        )
        duration = pc.if_else(pa.array(claimed), believed, table["duration"])
        table = table.set_column(table.column_names.index("duration"), "duration", duration)
    return table


def _shards(table: pa.Table, shard_duration: float, settings: str) -> pa.Table:
    """One row a shard out of one row a recording."""
    duration = table["duration"].to_numpy()
    with np.errstate(invalid="ignore"):
        counts = np.maximum(1, np.ceil(np.nan_to_num(duration / shard_duration) - 1e-9)).astype(np.int64)
    owner = np.repeat(np.arange(table.num_rows), counts)
    index = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    count = counts[owner]
    length = np.nan_to_num(duration[owner]) / count
    # Rounded to milliseconds, the same on both sides of a border.
    start, end = np.round(index * length, 3), np.round((index + 1) * length, 3)
    last = index == count - 1
    rows = rows_at(table, owner)
    columns = {name: rows[name] for name in rows.column_names if name != "claimed"}
    columns |= {
        "index": pa.array(index.astype(np.int32)),
        "shard_count": pa.array(count.astype(np.int32)),
        "start": pa.array(start),
        "end": pa.array(end, mask=last),
    }
    columns["shard_id"] = pa.array(_ids(columns, settings), pa.string())
    return pa.table([columns[name] for name in PLANNED.names], schema=PLANNED)


def _ids(columns: dict[str, pa.ChunkedArray], settings: str) -> Iterator[str]:
    """Stable ids: the same span of the same object, cut under the same settings, has the same one in every run."""
    names = ("recording_id", "audio", "etag", "audio_bytes", "start", "end", "channel")
    for *facts, attempt in zip(*(columns[name].to_pylist() for name in (*names, "attempt")), strict=True):
        digest = hashlib.sha256("\0".join([*map(str, facts), settings]).encode()).hexdigest()[:24]
        yield digest if attempt == 1 else f"{digest}.{attempt}"


def _settings(config: RunConfig, whole: bool) -> str:
    identity = config.identity()
    return json.dumps([identity["audio"], identity["segmenter"], identity["plan"], whole], sort_keys=True)


def _json(recording: Recording) -> str:
    text = json.dumps(recording.metadata, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a character: Arrow's strings cannot hold it, JSON's escapes can
        return json.dumps(recording.metadata)
    return text


def _warn_of_moved(table: pa.Table, before: pa.ChunkedArray, out: str) -> None:
    moved = table.filter(pc.fill_null(pc.not_equal(table["audio"], before), False))
    if moved.num_rows:
        row = moved.slice(0, 1).to_pylist()[0]
        logger.warning(
            "%d ids of the manifest stand for other audio than in %s, such as %r (now %s): skipped, what was planned for them stands; "
            "give changed recordings new ids",
            moved.num_rows,
            out,
            row["recording_id"],
            row["audio"],
        )
