"""OUT/report.html: the report as one HTML page, without scripts and without anything from other servers."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

from pipelines.plurals import counted
from pipelines.reporting import flag_counts, repairs
from pipelines.supervision import model_costs

STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem}"
    "h1{margin-bottom:0}h2{margin:2rem 0 .5rem;font-size:1.2rem}"
    ".sum{font-size:1.2rem;border-left:.3rem solid;padding-left:.8rem}"
    ".exact{border-color:#2a7}.broken{border-color:#c33}"
    "div{overflow-x:auto}table{border-collapse:collapse;min-width:24rem}"
    "td,th{text-align:left;vertical-align:top;padding:.25rem 1rem .25rem 0;border-bottom:1px solid #8884}"
    "td:first-child,td:last-child{overflow-wrap:anywhere}th{font-weight:600}.number{text-align:right}"
    "td.number{white-space:nowrap;font-variant-numeric:tabular-nums}"
    ".facts,.note{color:#777}"
)


def page(report: dict[str, Any], headline: str) -> str:
    """Render a report.

    Args:
        report: from `pipelines.reporting.report.build`.
        headline: the totals in one line.
    """
    models = ", ".join(
        str(model["model"]) for model in report["models"].values() if model["backend"] != "none"
    )
    facts = f"models: {models}; settings {report['config_hash']}; version {report['version']}"
    verdict = "exact" if report["exact"] else "broken"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Scriptorium report</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f"<h1>Scriptorium report</h1><p class=facts>{html.escape(report['out'])}<br>{html.escape(facts)}</p>"
        f'<p class="sum {verdict}">{html.escape(headline)}</p>{"".join(_sections(report))}</body></html>'
    )


def _sections(report: dict[str, Any]) -> Iterable[str]:
    count = ("recordings",)
    yield _table("Transcripts by status", ("status", *count), report["by_status"].items())
    languages = [
        (name, part["recordings"], f"{part['hours']:,.2f}") for name, part in report["by_language"].items()
    ]
    yield _table("Transcripts by language", ("language", *count, "hours"), languages)
    yield _table("Transcripts by flag", ("flag", *count), report["by_flag"].items())
    if report.get("segment_flags"):
        yield _segment_flags(report["segment_flags"])
    steps = ("step", "segments decoded again", "repaired", "minutes", "% of the models' time")
    yield _table("Repair of doubtful segments", steps, repairs.rows_for_page(report.get("repairs", {})))
    yield _table("Dead letters by error code", ("code", *count), report["by_error"].items())
    failures = [
        (row["recording_id"], row["error_stage"], row["error_code"], row["attempts"], row["error_message"])
        for row in report["failures"]
    ]
    hidden = report["dead_letters"] - len(failures)
    note = f"{counted(hidden, 'further dead letter')} in OUT/dead_letters" if hidden else ""
    yield _table("Dead letters", ("recording", "stage", "code", "attempts", "message"), failures, note)
    runs = [
        (
            run["run_id"],
            run["started_at"],
            run["finished_at"] or "not finished",
            run["host"],
            run.get("processes_died", ""),
            run.get("shards_again", ""),
            ", ".join(
                f"{name.replace('_', ' ')}: {value:,.10g}"
                for name, value in run.get("asked_of_servers", {}).items()
            ),
            model_costs.in_words(run.get("model_costs", {})),
        )
        for run in report["runs"]
    ]
    head = (
        "run",
        "started",
        "finished",
        "host",
        "crashed model processes",
        "shards processed again",
        "remote recognisers",
        "speed of one process",
    )
    # Most runs use no remote recogniser, and early versions measured no speed.
    shown = [
        column for column in range(len(head)) if column < len(head) - 2 or any(run[column] for run in runs)
    ]
    yield _table(
        "Runs", [head[column] for column in shown], [[run[column] for column in shown] for run in runs]
    )


def _segment_flags(found: dict[str, Any]) -> str:
    suspect = counted(found["suspect"]["segments"], "segment")
    note = f"{suspect} of {found['segments']:,} probably wrong in text or word times: see docs/trust.md"
    columns = ("flag", "segments", "minutes", "% of audio")
    return _table("Segments by flag", columns, flag_counts.rows_for_page(found), note)


def _table(title: str, head: Sequence[str], rows: Iterable[Sequence[Any]], note: str = "") -> str:
    """A section with a table, numbers aligned right; nothing if there are no rows."""
    cells = [[(f"{cell:,}" if isinstance(cell, int) else str(cell)) for cell in row] for row in rows]
    if not cells:
        return ""
    numeric = [
        all(row[column].replace(",", "").replace(".", "").isdecimal() or not row[column] for row in cells)
        and any(row[column] for row in cells)
        for column in range(len(head))
    ]

    def line(tag: str, row: Sequence[str]) -> str:
        return (
            "<tr>"
            + "".join(
                f"<{tag}{' class=number' if number else ''}>{html.escape(cell)}</{tag}>"
                for cell, number in zip(row, numeric, strict=True)
            )
            + "</tr>"
        )

    body = line("th", head) + "".join(line("td", row) for row in cells)
    below = f"<p class=note>{html.escape(note)}</p>" if note else ""
    return f"<h2>{html.escape(title)}</h2><div><table>{body}</table></div>{below}"
