"""Chooses recordings or segments: measures, judges, and writes what was kept and why the rest was not."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from actors.errors import UsageError
from pipelines.corrections import store
from pipelines.corrections.overlay import Corrections
from pipelines.curation import agreement, measuring
from pipelines.curation.candidates import Candidate, candidates, voices
from pipelines.curation.limits import BAD_FLAGS, Limits, judge, judge_together
from pipelines.output.shards import parquet_bytes
from pipelines.output.transcript_filters import Filters, filters_of
from pipelines.output.transcript_reader import find_parts, iter_transcripts
from pipelines.plurals import counted
from pipelines.storage import files

SELECTION = pa.schema(
    [
        ("id", pa.string()),  # of the row of the manifest
        ("recording_id", pa.string()),
        ("audio", pa.string()),
        ("start", pa.float64()),  # seconds of the file
        ("end", pa.float64()),
        ("kept", pa.bool_()),
        ("reason", pa.string()),  # the first one; null: it was kept
        ("reasons", pa.list_(pa.string())),
        ("language", pa.string()),
        ("text", pa.string()),
        ("speaker", pa.string()),
        ("confidence", pa.float64()),
        ("agreement", pa.float64()),
        ("characters_per_second", pa.float64()),
        ("flags", pa.list_(pa.string())),
        ("status", pa.string()),
        # What was measured; null: it was not.
        ("snr_db", pa.float64()),
        ("bandwidth_hz", pa.float64()),
        ("clipped_share", pa.float64()),
        ("level_dbfs", pa.float64()),
    ]
)
_NAMES = (
    *("min_confidence", "min_agreement", "min_chars_per_second", "max_chars_per_second"),
    *("max_rate_deviation", "min_snr", "min_bandwidth", "max_clipped", "min_level", "min_duration"),
    *("max_duration", "min_speech", "max_speakers", "min_purity", "keep_copies", "max_same_text"),
)


def limits_of(given: argparse.Namespace) -> Limits:
    """The limits that the arguments name.

    Raises:
        UsageError: a language, a status or a flag does not exist.
    """
    names = [name for name in (given.without_flags or "").split(",") if name and name != "none"]
    checked = filters_of(given.language, given.status, None, names)
    flags = BAD_FLAGS if given.without_flags is None else checked.without_flags
    values = {name: getattr(given, name) for name in _NAMES}
    return Limits(checked.statuses or ("ok",), checked.languages, flags, **values)


def select(given: argparse.Namespace) -> int:
    """Run the command; returns its exit code.

    Raises:
        UsageError: arguments do not fit together, or nothing is to be chosen from.
    """
    limits = limits_of(given)
    out, dest = files.absolute(given.out), files.absolute(given.dest)
    if given.against and files.absolute(given.against) == out:
        raise UsageError("--against is another run: a run agrees with itself")
    found, people = _candidates(out, given.unit, Corrections() if given.original else store.read(out))
    unmeasured = 0 if given.no_audio else measuring.measure_all(out, found, given.parallel)
    if given.against:
        other = agreement.other_run(files.absolute(given.against))
        for candidate in found:
            candidate.agreement = agreement.agreement(candidate, other, given.unit == "recording")
        other.close()
    for candidate, of_each in zip(found, people, strict=True):
        candidate.reasons = judge(candidate, limits, of_each)
    judge_together(found, limits)
    summary = summary_of(found, limits, given.unit, unmeasured)
    if not given.dry_run:
        _write(dest, found, summary, given.unit)
    if given.json:
        print(json.dumps(summary, ensure_ascii=False, indent=2))
    else:
        print("\n".join(_lines(summary, dest, given.dry_run)))
    return 0


def _candidates(out: str, unit: Any, corrections: Corrections) -> tuple[list[Candidate], list[Counter[str]]]:
    found: list[Candidate] = []
    people: list[Counter[str]] = []
    for row in iter_transcripts(find_parts(out), Filters(corrections=corrections)):
        for candidate in candidates(row, unit):
            found.append(candidate)
            people.append(voices(row, candidate))
    return found, people


def summary_of(found: Sequence[Candidate], limits: Limits, unit: str, unmeasured: int) -> dict[str, Any]:
    """Counts and hours: kept, dropped, by first reason and by any reason."""
    kept = [candidate for candidate in found if not candidate.reasons]
    first = Counter(candidate.reasons[0] for candidate in found if candidate.reasons)
    every = Counter(reason for candidate in found for reason in candidate.reasons)
    hours: Counter[str] = Counter()
    for candidate in found:
        if candidate.reasons:
            hours[candidate.reasons[0]] += candidate.sample.duration / 3600  # type: ignore[assignment]
    return {
        "unit": unit,
        "candidates": len(found),
        "kept": len(kept),
        "dropped": len(found) - len(kept),
        "hours": round(sum(candidate.sample.duration for candidate in found) / 3600, 4),
        "kept_hours": round(sum(candidate.sample.duration for candidate in kept) / 3600, 4),
        "unmeasured": unmeasured,
        "reasons": {
            reason: {"dropped": count, "with_it": every[reason], "hours": round(hours[reason], 4)}
            for reason, count in first.most_common()
        },
        "limits": {name: getattr(limits, name) for name in ("statuses", "languages", "flags", *_NAMES)},
    }


def _write(dest: str, found: Sequence[Candidate], summary: dict[str, Any], unit: str) -> None:
    lines = [
        json.dumps(_manifest_row(candidate, unit), ensure_ascii=False)
        for candidate in found
        if not candidate.reasons
    ]
    text = "".join(f"{line}\n" for line in lines)
    table = pa.Table.from_pylist([_selection_row(candidate, unit) for candidate in found], schema=SELECTION)
    files.write_atomic(files.join(dest, "manifest.jsonl"), text.encode("utf-8", "replace"))
    files.write_atomic(files.join(dest, "selection.parquet"), parquet_bytes(table))
    body = json.dumps(summary, ensure_ascii=False, indent=1).encode()
    files.write_atomic(files.join(dest, "summary.json"), body)


def _identity(candidate: Candidate, unit: str) -> str:
    return candidate.sample.recording_id if unit == "recording" else candidate.sample.key


def _manifest_row(candidate: Candidate, unit: str) -> dict[str, Any]:
    sample = candidate.sample
    clip = sample.clip
    return {
        "id": _identity(candidate, unit),
        "audio": candidate.audio,
        "start": round(sample.start, 3),
        "end": round(sample.end, 3),
        **({} if clip.channel is None else {"channel": clip.channel}),
        **({} if clip.track is None else {"track": clip.track}),
        "language": sample.language,
        "text": sample.text,
        "recording_id": sample.recording_id,
        "speaker": sample.speaker,
        "confidence": sample.confidence,
        **{name: value for name, value in sample.metadata.items() if name not in _RESERVED},
    }


_RESERVED = ("id", "audio", "start", "end", "channel", "track", "language", "text", "recording_id", "speaker")


def _selection_row(candidate: Candidate, unit: str) -> dict[str, Any]:
    sample, signal = candidate.sample, candidate.signal
    measured = ("snr_db", "bandwidth_hz", "clipped_share", "level_dbfs")
    return {
        "id": _identity(candidate, unit),
        "recording_id": sample.recording_id,
        "audio": candidate.audio,
        "start": sample.start,
        "end": sample.end,
        "kept": not candidate.reasons,
        "reason": candidate.reasons[0] if candidate.reasons else None,
        "reasons": candidate.reasons,
        "language": sample.language,
        "text": sample.text,
        "speaker": sample.speaker,
        "confidence": sample.confidence,
        "agreement": candidate.agreement,
        "characters_per_second": round(candidate.characters_per_second, 2),
        "flags": sample.flags,
        "status": candidate.status,
        **{name: getattr(signal, name) if signal else None for name in measured},
    }


def _lines(summary: dict[str, Any], dest: str, dry_run: bool) -> list[str]:
    unit = summary["unit"]
    where = "" if dry_run else f" → {files.join(dest, 'manifest.jsonl')}"
    verb = "would keep" if dry_run else "kept"
    lines = [
        f"{verb} {summary['kept']:,} of {counted(summary['candidates'], unit)}, "
        f"{summary['kept_hours']:.2f} of {summary['hours']:.2f} h{where}"
    ]
    for reason, counts in summary["reasons"].items():
        also = counts["with_it"] - counts["dropped"]
        more = f" (and {also:,} with other reasons)" if also else ""
        lines.append(f"  dropped, {reason.replace('_', ' ')}: {counts['dropped']:,}{more}")
    if summary["unmeasured"]:
        lines.append(f"  sound not measured, as it cannot be read: {summary['unmeasured']:,}")
    return lines
