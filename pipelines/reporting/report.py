"""OUT/report.json and OUT/report.html: what a finished run did, with the sum that proves that nothing got lost."""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.output import run_record, transcripts
from pipelines.planning import planner
from pipelines.schema import TRANSCRIPT
from pipelines.storage import files
from pipelines.storage.uris import shown

COLUMNS = ["recording_id", "duration", "language", "status", "flags"]
WORST = 20  # dead letters shown on the page; all are in OUT/dead_letters


def write(out: str) -> dict[str, Any]:
    """Build the report of `out`, write both files and return it."""
    report = build(out)
    files.write_atomic(
        files.join(out, "report.json"), json.dumps(report, indent=2, ensure_ascii=False).encode()
    )
    files.write_atomic(files.join(out, "report.html"), page(report).encode())
    return report


def build(out: str) -> dict[str, Any]:
    """Sums over plan, transcripts and dead letters; no text is read."""
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
        "by_status": _counts(done["status"]),
        "by_language": _hours(done),
        "by_flag": dict(
            Counter(
                flag.partition(":")[0] for flags in done["flags"].to_pylist() for flag in flags or []
            ).most_common()
        ),
        "by_error": dict(Counter(row["error_code"] for row in letters).most_common()),
        "failures": [
            {name: row[name] for name in ("recording_id", "error_stage", "error_code", "attempts")}
            | {name: shown(row[name] or "") for name in ("audio", "error_message")}
            for row in letters[:WORST]
        ],
        "runs": record["runs"],
    }


def discrepancies(
    planned: set[str], transcripts: Sequence[str], dead_letters: Sequence[str]
) -> dict[str, int]:
    """How many recordings break the sum recordings = transcripts + dead letters, and in which way; all are 0 where it holds."""
    found = Counter([*transcripts, *dead_letters])
    return {
        "in_neither_table": len(planned - found.keys()),
        "twice": sum(count > 1 for count in found.values()),
        "in_no_plan": len(found.keys() - planned),
    }


def sentence(report: dict[str, Any]) -> str:
    """The sum in one line, and whether it holds."""
    wrong = ", ".join(
        f"{count:,} {name.replace('_', ' ')}" for name, count in report["discrepancies"].items() if count
    )
    verdict = (
        "nothing lost, nothing twice"
        if report["exact"]
        else f"the sum does not hold: {wrong}; the same command again goes on"
    )
    return (
        f"{report['recordings']:,} recordings = {report['transcripts']:,} transcripts + {report['dead_letters']:,} dead letters ({verdict}); "
        f"{report['audio_hours']:.2f} audio hours"
    )


def page(report: dict[str, Any]) -> str:
    """The report as one HTML page without anything from elsewhere."""
    sections = [
        _table("Recordings by outcome", ("outcome", "recordings"), report["by_status"].items()),
        _table(
            "By language",
            ("language", "recordings", "hours"),
            [(k, v["recordings"], f"{v['hours']:.2f}") for k, v in report["by_language"].items()],
        ),
        _table("Flags", ("flag", "recordings"), report["by_flag"].items()),
        _table("Dead letters by code", ("code", "recordings"), report["by_error"].items()),
        _table(
            "Dead letters",
            ("recording", "stage", "code", "message"),
            [
                (f["recording_id"], f["error_stage"], f["error_code"], f["error_message"])
                for f in report["failures"]
            ],
        ),
        _table(
            "Runs",
            (
                "run",
                "started",
                "finished",
                "host",
                "model processes that died",
                "shards done again for it",
                "asked of recognition servers",
            ),
            [
                (
                    r["run_id"],
                    r["started_at"],
                    r["finished_at"] or "not finished",
                    r["host"],
                    r.get("processes_died", ""),
                    r.get("shards_again", ""),
                    ", ".join(
                        f"{name.replace('_', ' ')}: {value:,.10g}"
                        for name, value in r.get("asked_of_servers", {}).items()
                    ),
                )
                for r in report["runs"]
            ],
        ),
    ]
    models = ", ".join(
        str(model["model"]) for model in report["models"].values() if model["backend"] != "none"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Scriptorium report</title>'
        '<meta name="viewport" content="width=device-width"><style>'
        ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.2rem .8rem .2rem 0;border-bottom:1px solid #8884;"
        "overflow-wrap:anywhere}h2{margin-top:2rem}.sum{font-size:1.2rem}</style></head><body>"
        f"<h1>Scriptorium report</h1><p class=sum>{html.escape(sentence(report))}</p>"
        f"<p>{html.escape(report['out'])}<br>models: {html.escape(models)}; settings {report['config_hash']}; version {report['version']}</p>"
        f"{''.join(sections)}</body></html>"
    )


def _table(title: str, head: tuple[str, ...], rows: Any) -> str:
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    if not body:
        return ""
    return f"<h2>{html.escape(title)}</h2><table><tr>{''.join(f'<th>{html.escape(name)}</th>' for name in head)}</tr>{body}</table>"


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
