"""`scriptorium status`: the progress of a run by its committed work, during the run or after it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipelines.output import lease, run_record, shards, transcripts
from pipelines.planning import planner
from pipelines.plurals import counted
from pipelines.reporting import corrections, flag_counts
from pipelines.storage import files


def read(out: str) -> dict[str, Any]:
    """Count what is planned, done and stitched in `out`; no text is read.

    Raises:
        UsageError: there is no run in `out`.
    """
    record = run_record.require(out)
    plan = planner.read_plan(out)
    done = plan.filter(pc.is_in(plan[shards.ID], shards.committed_ids(out).combine_chunks()))
    letters = transcripts.dead_letters(out)
    last = record["runs"][-1]
    return {
        "out": out,
        "command": record["command"],
        "config_hash": record["config_hash"],
        "recordings": pc.count_distinct(plan["recording_id"]).as_py(),
        "recordings_committed": _whole_recordings(done),
        "transcripts": len(transcripts.transcript_ids(out)),
        "dead_letters": len(letters),
        "dead_letters_by_code": dict(Counter(row["error_code"] for row in letters).most_common()),
        "shards": plan.num_rows,
        "shards_done": done.num_rows,
        "audio_hours": planner.seconds_of(plan) / 3600,
        "audio_hours_done": planner.seconds_of(done) / 3600,
        "segment_flags": flag_counts.of_shards(shards.folder(out)),
        "corrections": corrections.of_output(out),
        "last_run": last,
        "running": lease.seems_alive(lease.read(out)),
        "progress": None if last["finished_at"] else _progress(out),
    }


def _whole_recordings(done: pa.Table) -> int:
    """Recordings of which all shards are committed.

    Args:
        done: PLAN rows of committed shards.
    """
    counts = done.group_by("recording_id").aggregate([("index", "count"), ("shard_count", "max")])
    return int(pc.sum(pc.equal(counts["index_count"], counts["shard_count_max"])).as_py() or 0)


def render(state: dict[str, Any]) -> RenderableType:
    """Render the state for a terminal."""
    table = Table(show_header=False, box=None, pad_edge=False)
    left = state["recordings"] - state["transcripts"] - state["dead_letters"]
    table.add_row("recordings", f"{state['recordings']:,}")
    table.add_row("  transcripts", f"{state['transcripts']:,}")
    table.add_row("  dead letters", f"{state['dead_letters']:,}")
    for code, count in state["dead_letters_by_code"].items():
        table.add_row(f"    {code}", f"{count:,}")
    table.add_row("  left to do", f"{left:,}")
    if waiting := state["recordings_committed"] - state["transcripts"] - state["dead_letters"]:
        table.add_row("    of them committed", f"{waiting:,}")
    table.add_row("shards committed", f"{state['shards_done']:,} of {state['shards']:,}")
    table.add_row("audio hours committed", f"{state['audio_hours_done']:,.2f} of {state['audio_hours']:,.2f}")
    found = state["segment_flags"]
    if found["segments"]:
        suspect = f"{found['suspect']['segments']:,} of {found['segments']:,}"
        table.add_row("suspect segments", suspect)
        for flag, part in found["by_flag"].items():
            if part["suspect"]:
                table.add_row(f"    {flag}", f"{part['segments']:,}")
    if corrected := state["corrections"]["segments"]:
        in_recordings = counted(state["corrections"]["recordings"], "recording")
        table.add_row("corrected segments", f"{corrected:,} in {in_recordings}")
    last = state["last_run"]
    table.add_row(
        "last run",
        f"{last['run_id']}, started {last['started_at']} on {last['host']}, {_end(last, state['running'])}",
    )
    lines: list[RenderableType] = [Text(state["out"], style="bold"), table]
    if state["progress"]:
        lines.append(Text(f"{state['progress']['line']}  (at {state['progress']['updated_at']})"))
    return Group(*lines)


def _end(run: dict[str, Any], running: bool) -> str:
    if run["finished_at"]:
        return f"finished {run['finished_at']}"
    return "running" if running else "interrupted: the same command goes on from there"


def _progress(out: str) -> dict[str, Any] | None:
    try:
        state: dict[str, Any] = json.loads(files.read_bytes(files.join(out, "progress.json")))
    except (FileNotFoundError, ValueError):
        return None
    return state
