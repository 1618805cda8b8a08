"""OUT/report.json and OUT/report.html: what a run did, and the totals that prove that nothing is missing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from actors.redaction import redacted
from pipelines.config import RunConfig
from pipelines.output import run_record, transcripts
from pipelines.pages import phrases
from pipelines.planning import planner
from pipelines.plurals import counted
from pipelines.reporting import corrections, html_report, repairs
from pipelines.reporting.error_advice import ADVICE
from pipelines.reporting.figures import costs, throughput, transcript_figures
from pipelines.reporting.figures.costs import Prices
from pipelines.storage import files

FAILURES = 20  # dead letters in the report; all are in OUT/dead_letters
FAILURES_PER_CODE = 5  # of these, so that one cause does not hide the others


def write(out: str, prices: Prices | None = None) -> dict[str, Any]:
    """Build the report of `out`, write both files, and return the report."""
    report = build(out, prices)
    files.write_atomic(files.join(out, "report.json"), _json(report))
    files.write_atomic(files.join(out, "report.html"), html_report.page(report, totals_line(report)).encode())
    return report


def _json(report: dict[str, Any]) -> bytes:
    # Names of files may have characters that UTF-8 cannot.
    return json.dumps(report, indent=2, ensure_ascii=False).encode(errors="replace")


def build(out: str, prices: Prices | None = None) -> dict[str, Any]:
    """Sum up plan, transcripts, shards and dead letters, a few thousand rows at a time.

    Args:
        out: the output directory.
        prices: of machines; None: those of the settings of the run.

    Raises:
        UsageError: there is no run in `out`.
    """
    record = run_record.require(out)
    planned = pc.unique(planner.read_plan(out, ["recording_id"])["recording_id"])
    done = transcript_figures.of_transcripts(out)
    letters = transcripts.dead_letters(out)
    wrong = discrepancies(planned, done.recording_ids, [row["recording_id"] for row in letters])
    runs = throughput.of_runs(out, record["runs"])
    return {
        "out": out,
        "command": record["command"],
        "version": record["version"],
        "config_hash": record["config_hash"],
        "models": record["models"],
        "packages": record.get("packages") or {},
        "changed_settings": changed_settings(record.get("config") or {}),
        "recordings": len(planned),
        "transcripts": done.transcripts,
        "dead_letters": len(letters),
        "exact": not any(wrong.values()),
        "discrepancies": wrong,
        "audio_hours": done.seconds / 3600,
        # Null in transcripts of version 0.1.0.
        "silence_hours": done.silence / 3600,
        # Of the transcripts that know their silence; null: none does.
        "speech_ratio": 1 - done.silence / done.judged_seconds if done.judged_seconds else None,
        "by_status": {name: part["recordings"] for name, part in done.ordered("status").items()},
        "by_language": done.ordered("language"),
        "by_codec": done.ordered("codec"),
        "by_sampling_rate": done.ordered("sampling_rate"),
        "by_channels": done.ordered("channels"),
        "by_flag": dict(sorted(done.flags.items(), key=lambda item: (-item[1], item[0]))),
        "segment_flags": done.segment_flags.as_record(),
        "durations": done.durations.as_record(),
        "confidence": done.confidence.as_record(),
        "characters_per_second": done.characters.as_record(),
        "samples": done.samples.as_record(),
        "throughput": runs,
        "cost": costs.of_runs(record, runs, prices or Prices()),
        "repairs": repairs.of_runs(record["runs"]),
        "corrections": corrections.of_output(out),
        "by_error": (by_error := dict(Counter(row["error_code"] for row in letters).most_common())),
        "advice": {code: ADVICE[code]._asdict() for code in by_error if code in ADVICE},
        "failures": _failures(letters),
        # The points of a run's curves are in run.json; `throughput` has what they say.
        "runs": [{name: run[name] for name in run if name != "throughput"} for run in record["runs"]],
    }


def _failures(letters: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Some dead letters of each cause, the first ones in their order."""
    seen: Counter[str] = Counter()
    shown: list[dict[str, Any]] = []
    for row in letters:
        seen[row["error_code"]] += 1
        if len(shown) < FAILURES and seen[row["error_code"]] <= FAILURES_PER_CODE:
            shown.append(
                {name: row[name] for name in ("recording_id", "error_stage", "error_code", "attempts")}
                | {name: redacted(row[name] or "") for name in ("audio", "error_message")}
            )
    return shown


def changed_settings(config: dict[str, Any]) -> dict[str, Any]:
    """Settings of a run that are not the defaults of this version, by dotted name; secrets are masked."""
    found: dict[str, Any] = {}

    def compare(own: dict[str, Any], default: dict[str, Any], prefix: str) -> None:
        for name, value in own.items():
            if name not in default:
                continue  # a setting of another version
            if isinstance(value, dict) and isinstance(default[name], dict) and default[name]:
                compare(value, default[name], f"{prefix}{name}.")
            elif value != default[name]:
                found[f"{prefix}{name}"] = value

    compare(config, RunConfig().model_dump(mode="json"), "")
    return found


def discrepancies(
    planned: pa.Array, transcripts: Sequence[pa.Array], dead_letters: Sequence[str]
) -> dict[str, int]:
    """How many recordings break the equation recordings = transcripts + dead letters, by kind.

    Args:
        planned: ids of the recordings in the plan, each once.
        transcripts: ids in OUT/transcripts.
        dead_letters: ids in OUT/dead_letters.
    """
    tables = [array.cast(pa.string()) for array in (*transcripts, pa.array(dead_letters, pa.string()))]
    found = pc.value_counts(pa.chunked_array(tables, pa.string()))
    ids, counts = found.field("values"), found.field("counts")
    planned = planned.cast(pa.string())
    return {
        "in_neither_table": len(planned) - _true(pc.is_in(planned, ids)),
        "twice": _true(pc.greater(counts, 1)),
        "in_no_plan": len(ids) - _true(pc.is_in(ids, planned)),
    }


def _true(values: pa.Array) -> int:
    return int(pc.sum(values).as_py() or 0)


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
        f"{phrases.amount(3600 * report['audio_hours'])} of audio"
        f"{f', {phrases.amount(3600 * silence)} of it without speech' if silence else ''}"
    )
