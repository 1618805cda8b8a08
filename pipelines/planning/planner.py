"""Planning: recordings become shards, each a bounded span with a stable id, from their headers alone.

The shards of a recording have equal length, at most `plan.shard_duration`, so that they finish together and
none is very short. If a header gives no duration or an absurd one, or the file cannot be read at all, there
is one shard from 0 to the end: decoding finds out the truth, so that planning loses nothing. The longest
recordings come first, because the work that starts last decides when a run ends.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.redaction import redacted
from pipelines.config import RunConfig
from pipelines.manifests.manifest import Recording
from pipelines.output import plans
from pipelines.output.plans import files_of
from pipelines.planning.header_scan import ProbeFunction, Progress
from pipelines.planning.members import locate_members, order_by_file
from pipelines.planning.recording_facts import with_headers
from pipelines.planning.sharding import PLANNED, cut_into_shards, settings_key
from pipelines.planning.uri_policy import check_allowed, check_readable
from pipelines.plurals import counted
from pipelines.schema import WINDOW
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

# The contents of a manifest, one row per recording; `claimed` is its duration column.
RECORDINGS = pa.schema(
    [
        ("recording_id", pa.string()),
        ("audio", pa.string()),
        ("language", pa.string()),
        ("languages", pa.string()),
        ("context", pa.string()),
        ("text", pa.string()),
        ("channel", pa.string()),
        ("metadata", pa.string()),
        ("claimed", pa.float64()),
        ("attempt", pa.int32()),
        ("window", WINDOW),
        ("location", pa.string()),
        ("track", pa.string()),
        ("raw_format", pa.string()),
        ("origin", pa.string()),  # file and line, for messages; null for a recording that was planned before
    ]
)
CHUNK = 20_000  # rows converted to Arrow at once
# The number of tasks to aim at in a small job, and the most in a huge one: Ray's overhead grows with their
# number.
TASKS = (64, 20_000)
# The audio seconds of a task between these bounds: with less, models have too little to batch; with more, too
# much work is lost with a process.
TASK_SECONDS = (120.0, 3600.0)

logger = logging.getLogger(__name__)


def collect(recordings: Iterable[Recording], config: RunConfig) -> pa.Table:
    """Read a whole manifest into RECORDINGS columns, which finds wrong rows before anything else happens.

    Raises:
        UsageError: from the manifest, or for an address that it may not name
            (`pipelines.planning.uri_policy`).
    """
    tables = [RECORDINGS.empty_table()]
    rows = iter(recordings)
    while chunk := list(itertools.islice(rows, CHUNK)):
        for recording in chunk:
            check_allowed(recording, config.plan.allowed_uris)
            check_readable(recording)
        columns = [
            [one.id for one in chunk],
            [one.audio for one in chunk],
            [one.language for one in chunk],
            [one.languages for one in chunk],
            [one.context if one.context is not None else config.asr.context for one in chunk],
            [one.text for one in chunk],
            [one.channel or config.audio.channel for one in chunk],
            [_json(one) for one in chunk],
            [one.duration for one in chunk],
            [1] * len(chunk),
            [one.window and {"start": one.window[0], "end": one.window[1]} for one in chunk],
            [one.location for one in chunk],
            [one.track or config.audio.track for one in chunk],
            [one.raw_format for one in chunk],
            [one.origin for one in chunk],
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
        recordings: of a manifest, or the result of `collect`.
        config: the settings; the sections `plan`, `audio` and `segmenter` are used.
        whole: one shard per recording, however long.
        probe: reads a header; by default `actors.audio.probing.probe`.
        progress: called repeatedly while headers are read.

    Returns:
        PLANNED columns, one row per shard, longest recording first; every recording has at least one shard.

    Raises:
        UsageError: from the manifest.
    """
    table = recordings if isinstance(recordings, pa.Table) else collect(recordings, config)
    table = with_headers(locate_members(table), config, probe, progress)
    # Recordings of unknown duration may be long and come first. Unreadable ones take no time and come last.
    duration = table["duration"].to_numpy()
    failed = pc.is_valid(table["probe_error"]).to_numpy()
    key = np.where(failed, -1.0, np.where(np.isnan(duration), np.inf, duration))
    table = rows_at(table, order_by_file(table, key))
    return cut_into_shards(
        table, math.inf if whole else config.plan.shard_duration, settings_key(config, whole)
    )


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
    """Plan the recordings whose ids are not in OUT/plan yet; returns their number.

    A known id is not planned again, even if its audio has changed: its transcript remains valid for the old
    audio. Changed audio needs a new id. A warning is logged if the address of a known id has changed.

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
    """Plan the next attempt of failed recordings, from fresh headers. Their shard ids end in `.2`, `.3` etc.

    Args:
        out: the output directory.
        attempts: how often each recording has failed. A recording with a later attempt in the plan is not
            planned again: that attempt was interrupted and goes on.
        run_id: part of the names of the plan's files.
        config: the settings.
        whole: one shard per recording, however long.
        probe: reads a header; by default `actors.audio.probing.probe`.

    Returns:
        The number of recordings planned.
    """
    rows = plans.read(out)
    rows = rows.filter(pc.equal(rows["index"], 0))
    position = pc.index_in(rows["recording_id"], value_set=pa.array(attempts, pa.string()))
    failed = pa.array(attempts.values(), pa.int32()).take(position.combine_chunks())
    first = rows.filter(pc.fill_null(pc.equal(rows["attempt"], failed), False))
    table = pa.table(
        {
            **{name: first[name] for name in RECORDINGS.names if name in first.column_names},
            "claimed": pa.nulls(first.num_rows, pa.float64()),
            "attempt": pc.add(first["attempt"], pa.scalar(1, pa.int32())),
            "origin": pa.nulls(first.num_rows, pa.string()),
        },
        schema=RECORDINGS,
    )
    _store(out, table, config, run_id, whole, probe, None)
    return int(table.num_rows)


def read_plan(out: str, columns: Sequence[str] | None = None) -> pa.Table:
    """All planned shards, each recording in its latest attempt: PLAN columns and the address `plan_file`."""
    return plans.read(out, columns)


def seconds_of(rows: pa.Table) -> float:
    """Audio seconds of planned shards, as far as their headers give them."""
    return float(plans.seconds(rows).sum())


def begun(todo: pa.Table) -> dict[str, int]:
    """The number of finished shards of each recording that is partly done.

    Args:
        todo: the planned rows that are left to do.
    """
    counts = todo.group_by("recording_id").aggregate([("index", "count"), ("shard_count", "max")])
    done = pc.subtract(counts["shard_count_max"], counts["index_count"])
    some = counts.append_column("done", done).filter(pc.greater(done, 0))
    return dict(zip(some["recording_id"].to_pylist(), some["done"].to_pylist(), strict=True))


def task_seconds(total: float) -> float:
    """Audio seconds per task for a job of `total` seconds: enough for all machines, few enough for Ray."""
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


def _json(recording: Recording) -> str:
    text = json.dumps(recording.metadata, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        # A lone surrogate: Arrow's strings cannot hold it, but JSON's escapes can.
        return json.dumps(recording.metadata)
    return text


def _warn_of_moved(table: pa.Table, before: pa.ChunkedArray, out: str) -> None:
    moved = table.filter(pc.fill_null(pc.not_equal(table["audio"], before), False))
    if moved.num_rows:
        row = moved.slice(0, 1).to_pylist()[0]
        logger.warning(
            "%s of the manifest %s other audio than in %s, such as %r (now %s): skipped, the earlier plan "
            "remains; give changed recordings new ids",
            counted(moved.num_rows, "id"),
            "has" if moved.num_rows == 1 else "have",
            out,
            row["recording_id"],
            redacted(row["audio"]),
        )
