"""OUT/report.json and OUT/report.html: what a run did, and the totals that prove that nothing is missing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from actors.redaction import redacted
from pipelines.output import run_record, transcripts
from pipelines.planning import planner
from pipelines.plurals import counted
from pipelines.reporting import flag_counts, html_report, repairs
from pipelines.schema import TRANSCRIPT
from pipelines.storage import files

COLUMNS = ["recording_id", "duration", "silence", "language", "status", "flags"]
FAILURES = 20  # dead letters in the report; all are in OUT/dead_letters


def write(out: str) -> dict[str, Any]:
    """Build the report of `out`, write both files, and return the report."""
    report = build(out)
    files.write_atomic(
        files.join(out, "report.json"), json.dumps(report, indent=2, ensure_ascii=False).encode()
    )
    files.write_atomic(files.join(out, "report.html"), html_report.page(report, totals_line(report)).encode())
    return report


def build(out: str) -> dict[str, Any]:
    """Sum up plan, transcripts and dead letters; no text is read.

    Raises:
        UsageError: there is no run in `out`.
    """
    record = run_record.require(out)
    plan = planner.read_plan(out)
    done = files.read_tables(files.join(out, "transcripts"), COLUMNS, schema=TRANSCRIPT)
    letters = transcripts.dead_letters(out)
    planned = set(pc.unique(plan["recording_id"]).to_pylist())
    wrong = discrepancies(planned, done["recording_id"].to_pylist(), [row["recording_id"] for row in letters])
    return {
        "out": out,
        "command": record["command"],
        "version": record["version"],
        "config_hash": record["config_hash"],
        "models": record["models"],
        "recordings": len(planned),
        "transcripts": done.num_rows,
        "dead_letters": len(letters),
        "exact": not any(wrong.values()),
        "discrepancies": wrong,
        "audio_hours": (pc.sum(done["duration"]).as_py() or 0.0) / 3600,
        # Null in transcripts of version 0.1.0.
        "silence_hours": (pc.sum(done["silence"]).as_py() or 0.0) / 3600,
        "by_status": _counts(done["status"]),
        "by_language": _hours(done),
        "by_flag": dict(
            Counter(
                flag.partition(":")[0] for flags in done["flags"].to_pylist() for flag in flags or []
            ).most_common()
        ),
        "segment_flags": flag_counts.of_transcripts(out),
        "repairs": repairs.of_runs(record["runs"]),
        "by_error": dict(Counter(row["error_code"] for row in letters).most_common()),
        "failures": [
            {name: row[name] for name in ("recording_id", "error_stage", "error_code", "attempts")}
            | {name: redacted(row[name] or "") for name in ("audio", "error_message")}
            for row in letters[:FAILURES]
        ],
        "runs": record["runs"],
    }


def discrepancies(
    planned: set[str], transcripts: Sequence[str], dead_letters: Sequence[str]
) -> dict[str, int]:
    """How many recordings break the equation recordings = transcripts + dead letters, by kind.

    Args:
        planned: ids of the recordings in the plan.
        transcripts: ids in OUT/transcripts.
        dead_letters: ids in OUT/dead_letters.
    """
    found = Counter([*transcripts, *dead_letters])
    return {
        "in_neither_table": len(planned - found.keys()),
        "twice": sum(count > 1 for count in found.values()),
        "in_no_plan": len(found.keys() - planned),
    }


def totals_line(report: dict[str, Any]) -> str:
    """The totals in one line, and whether they are exact."""
    wrong = ", ".join(
        f"{count:,} {name.replace('_', ' ')}" for name, count in report["discrepancies"].items() if count
    )
    verdict = (
        "nothing lost, nothing duplicated"
        if report["exact"]
        else f"the totals do not match: {wrong}; run the same command again to go on"
    )
    silence = report["silence_hours"]
    return (
        f"{counted(report['recordings'], 'recording')}{' =' if report['exact'] else ','} "
        f"{counted(report['transcripts'], 'transcript')} + "
        f"{counted(report['dead_letters'], 'dead letter')} ({verdict}); "
        f"{report['audio_hours']:,.2f} audio hours"
        f"{f', {silence:,.2f} of them without speech' if silence else ''}"
    )


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {str(row["values"]): row["counts"] for row in pc.value_counts(column).to_pylist()}


def _hours(done: pa.Table) -> dict[str, dict[str, float]]:
    grouped = done.group_by("language").aggregate([("duration", "sum"), ("duration", "count")]).to_pylist()
    grouped.sort(key=lambda row: -(row["duration_sum"] or 0.0))
    return {
        str(row["language"] or "nothing said"): {
            "recordings": row["duration_count"],
            "hours": (row["duration_sum"] or 0.0) / 3600,
        }
        for row in grouped
    }
