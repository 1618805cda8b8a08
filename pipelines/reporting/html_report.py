"""OUT/report.html: the report as one HTML page, without scripts and without anything from other servers."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from pipelines.flags import FLAGS
from pipelines.pages import charts, phrases, templates
from pipelines.reporting.flag_counts import SUSPECT_FLAGS
from pipelines.supervision import model_costs

# Bars of the chart of flags, and rows of tables by name; report.json has all.
CHARTED_FLAGS, LISTED = 12, 40
# Runs whose curves are drawn: the last ones.
CHARTED_RUNS = 2
STAGES = {"recognise_again": "second model"}


def page(report: dict[str, Any], headline: str) -> str:
    """Render a report.

    Args:
        report: from `pipelines.reporting.report.build`.
        headline: the totals in one line.
    """
    causes = [
        {
            "code": code,
            "count": count,
            "advice": report["advice"].get(code),
            "examples": [row for row in report["failures"] if row["error_code"] == code],
            "command": f"scriptorium retry {shlex.quote(report['out'])} --code {shlex.quote(code)}",
        }
        for code, count in report["by_error"].items()
    ]
    return templates.render(
        "report.html",
        report=report,
        headline=headline,
        throughput=[*_throughput(report)],
        histograms=[*_histograms(report)],
        flags=_flags(report),
        flag_chart=_flag_chart(report),
        causes=causes,
        runs=[_run(run, report["throughput"].get(run["run_id"])) for run in report["runs"]],
        suspect_flags=SUSPECT_FLAGS,
        listed=LISTED,
        settings=[
            (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
            for name, value in report["changed_settings"].items()
        ],
    )


def _throughput(report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Charts of the last runs that did something: speed over time, and how busy each stage was."""
    for run_id, run in [*report["throughput"].items()][-CHARTED_RUNS:][::-1]:
        series = {"finished": [(at / 60, speed) for at, speed in run["finished"]]}
        stages: dict[str, Any] = {}
        for one in run["passes"]:
            for stage, figures in one["stages"].items():
                name = STAGES.get(stage, stage)
                series.setdefault(name, []).extend(
                    ((one["begin"] + at) / 60, speed) for at, speed in figures["speed"]
                )
                known = stages.setdefault(name, {"busy": 0.0, "audio": 0.0, "slots": 0, "time": 0.0})
                known["busy"] += figures["busy_seconds"]
                known["audio"] += figures["audio_seconds"]
                known["slots"] = max(known["slots"], figures["slots"] or 0)
                known["time"] += one["seconds"] * (figures["slots"] or 0)
        for figures in stages.values():
            figures["share"] = min(1.0, figures["busy"] / figures["time"]) if figures["time"] else None
        drawn = {name: points for name, points in series.items() if len(points) > 1}
        title = f"Speed over time, run {run_id}"
        description = (
            f"Audio seconds a second over the minutes of the run, by stage. {_bottleneck(run)} "
            "A table of the stages follows."
        )
        shares = {name: part["share"] for name, part in stages.items() if part["share"] is not None}
        draw = partial(charts.lines, title, description, drawn, "minutes since the start", phrases.speed)
        yield {
            "run_id": run_id,
            "run": run,
            "sentence": _bottleneck(run),
            "stages": stages,
            "drawn": [*drawn],
            "speed": draw() if drawn else None,
            "speed_wide": draw(is_wide=True) if drawn else None,
            "busy": charts.rows(
                f"Share of the time that each stage worked, run {run_id}",
                "; ".join(f"{name} {phrases.percent(share)}" for name, share in shares.items()),
                shares,
                phrases.percent,
                end=1,
            )
            if shares
            else None,
        }


def _bottleneck(run: Mapping[str, Any]) -> str:
    found = run["bottleneck"]
    if found is None:
        return "The time of stages was not recorded for this run."
    stage, share = STAGES.get(found["stage"], found["stage"]), phrases.percent(found["utilisation"])
    if found["is_busy"]:
        return f"The bottleneck was the stage {stage}, which worked {share} of the time."
    return (
        f"No stage was busy all the time: {stage}, the busiest, worked {share} of it. The rest went into "
        "loading models, waiting for files, and the work between the stages."
    )


def _histograms(report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Charts of durations, confidence and characters a second; none without values."""
    specs = (
        ("durations", "Durations of recordings", "recordings", phrases.duration, 1),
        ("confidence", "Confidence of segments", "segments", phrases.number, 4),
        ("characters_per_second", "Characters a second", "segments", partial(phrases.number, digits=1), 5),
    )
    for name, title, unit, said, every in specs:
        figures = report[name]
        if not figures["values"]:
            continue
        bounds = figures["bounds"]
        labels = [f"{said(low)} to {said(high)}" for low, high in pairwise(bounds)] + [
            f"{said(bounds[-1])} to 1" if name == "confidence" else f"{said(bounds[-1])} and more"
        ]
        middle = f"90 % between {said(figures['p05'])} and {said(figures['p95'])}"
        summary = f"Median {said(figures['median'])}; {middle}."
        short = [_short(low) for low in bounds] if name == "durations" else [said(low) for low in bounds]
        yield {
            "title": title,
            "unit": unit,
            "summary": summary,
            "chart": charts.columns(title, summary, short, figures["counts"], labels, every),
            "rows": [row for row in zip(labels, figures["counts"], strict=True) if row[1]],
            "values": figures["values"],
        }


def _short(seconds: float) -> str:
    """A bound of a duration, short enough for an axis."""
    for unit, name in ((3600, "h"), (60, "m")):
        if seconds >= unit:
            return f"{seconds / unit:g}{name}"
    return f"{seconds:g}s"


def _flags(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows by flag: transcripts, segments, seconds, share of the audio, and the meaning."""
    meanings = {flag.partition(":")[0]: text for flags in FLAGS.values() for flag, text in flags.items()}
    found = report["segment_flags"]
    names = dict.fromkeys([*found["by_flag"], *report["by_flag"]])
    nothing = {"segments": 0, "seconds": 0.0}
    return [
        {
            "flag": flag,
            "transcripts": report["by_flag"].get(flag, 0),
            "segments": (part := found["by_flag"].get(flag, nothing))["segments"],
            "seconds": part["seconds"],
            "share": part["seconds"] / found["seconds"] if found["seconds"] else 0.0,
            "meaning": meanings.get(flag, ""),
        }
        for flag in names
    ]


def _flag_chart(report: Mapping[str, Any]) -> Markup | None:
    counts = {name: part["segments"] for name, part in report["segment_flags"]["by_flag"].items()}
    chosen = dict(sorted(counts.items(), key=lambda item: -item[1])[:CHARTED_FLAGS])
    if not chosen:
        return None
    said = "; ".join(f"{name} {count:,}" for name, count in chosen.items())
    return charts.rows("Segments by flag", said, chosen, lambda value: f"{value:,.0f}")


def _run(run: Mapping[str, Any], figures: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the table of runs shows of one."""
    started, finished = run["started_at"], run.get("finished_at")
    return {
        **{name: run.get(name) for name in ("run_id", "started_at", "finished_at", "host")},
        "took": _difference(started, finished),
        "audio": figures["audio_seconds"] if figures else 0.0,
        "rtfx": figures["rtfx"] if figures else None,
        "processes_died": run.get("processes_died"),
        "shards_again": run.get("shards_again"),
        "asked_of_servers": run.get("asked_of_servers") or {},
        "speeds": model_costs.in_words(run.get("model_costs") or {}),
    }


def _difference(started: str, finished: str | None) -> float | None:
    try:
        return (datetime.fromisoformat(finished or "") - datetime.fromisoformat(started)).total_seconds()
    except ValueError:
        return None
