"""The command `scriptorium export`: checks what was asked for, writes it, and says what was written."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import replace
from typing import Any

from actors.errors import UsageError
from pipelines.corrections import store
from pipelines.export import selection
from pipelines.export.arguments import DATASET_FORMATS, DOCUMENT_FORMATS
from pipelines.export.documents.subtitle_files import SubtitleOptions
from pipelines.export.documents.writing import DocumentJob, write_documents
from pipelines.output.transcript_filters import Filters, filters_of
from pipelines.plurals import counted
from pipelines.storage import files
from pipelines.subtitles.profiles import profile_of


def run(given: argparse.Namespace) -> int:
    """Run the command; returns its exit code.

    Raises:
        UsageError: arguments do not fit together.
    """
    _check(given)
    filters = filters_of(given.language, given.status, given.min_confidence, given.without_flags, given.where)
    filters.check()
    out = files.absolute(given.out)
    if not given.original:
        filters = replace(filters, corrections=store.read(out))
    if given.selection:
        is_training = given.format in DATASET_FORMATS
        filters = replace(filters, recording_ids=selection.kept_recordings(given.selection, is_training))
    dest = files.absolute(given.dest) if given.dest else None
    if given.format in DATASET_FORMATS:
        from pipelines.export.datasets.command import write_dataset

        counts = write_dataset(given, out, dest or "", filters)
    else:
        counts = write_documents(_job(given, out, dest, filters), given.parallel, given.address)
    summary = {name: _plain(counts[name]) for name in counts}
    if given.json:
        print(json.dumps(summary, indent=2))
    else:
        print("\n".join(summary_lines(given, counts)))
    return 0


def _job(given: argparse.Namespace, out: str, dest: str | None, filters: Filters) -> DocumentJob:
    changed = {
        name: value
        for name in ("line_chars", "chars_per_second", "speaker_labels")
        if (value := getattr(given, name)) not in (None, False)
    }
    subtitles = SubtitleOptions(profile_of(given.profile, changed), given.highlight, given.low_confidence)
    return DocumentJob(out, given.format, dest, filters, subtitles, given.overwrite, given.dry_run)


def _check(given: argparse.Namespace) -> None:
    if given.beside_audio and given.dest:
        raise UsageError("--beside-audio writes next to the audio: leave DEST out")
    if given.beside_audio and given.format in DATASET_FORMATS:
        raise UsageError(f"--beside-audio is for subtitles and other documents, not for {given.format}")
    if not given.dest and not given.beside_audio:
        raise UsageError("DEST is missing: give a folder, or --beside-audio")
    if given.overwrite and not given.beside_audio and given.format in DOCUMENT_FORMATS:
        raise UsageError(
            "--overwrite is for --beside-audio and training sets: other files are always replaced"
        )
    if given.parallel is not None and given.parallel < 1:
        raise UsageError("--parallel is a number of processes from 1 on")
    if given.max_hours is not None and given.max_hours <= 0:
        raise UsageError("--max-hours must be more than 0")
    if given.per and given.max_hours is None:
        raise UsageError("--per needs --max-hours")
    if given.low_confidence is not None and given.format != "vtt":
        raise UsageError("--low-confidence is for vtt")
    if given.highlight and given.format != "vtt":
        raise UsageError("--highlight is for vtt")


def summary_lines(given: argparse.Namespace, counts: Counter[str]) -> list[str]:
    """What an export did, for people."""
    did = "would write" if given.dry_run else "wrote"
    target = "beside the audio" if given.beside_audio else f"to {given.dest}"
    things = counts["written"]
    unit = "sample" if given.format in DATASET_FORMATS else "transcript"
    hours = counts["seconds"] / 3600
    found = counted(counts["transcripts"], "transcript")
    lines = [
        f"{did} {counted(things, unit)} of {found} {target}: {hours:,.2f} h of audio, {size(counts['bytes'])}"
    ]
    for name, count in sorted(counts.items()):
        if name.startswith("skipped_"):
            lines.append(f"  left out, {_REASONS.get(name[8:], name[8:].replace('_', ' '))}: {count:,}")
        elif name.startswith("part_") and name.endswith("_samples"):
            part = name[5:-8]
            part_hours = counts[f"part_{part}_seconds"] / 3600
            lines.append(f"  {part}: {counted(count, 'sample')}, {part_hours:,.2f} h")
    if counts["cues"]:
        lines.append(f"  {counted(counts['cues'], 'cue')} by the profile {given.profile}")
        if counts["cues_too_fast"]:
            share = 100 * counts["cues_too_fast"] / counts["cues"]
            lines.append(
                f"  {counts['cues_too_fast']:,} of them ({share:.1f} %) are spoken faster than its reading "
                "speed: they have all of the text, and stay until the next one begins"
            )
    broken = {name[7:]: count for name, count in counts.items() if name.startswith("broken_") and count}
    if broken:
        told = ", ".join(f"{rule} {count:,}" for rule, count in broken.items())
        lines.append(f"  cues that break a rule of the profile: {told}")
    return lines


_REASONS = {
    "audio_not_local": "the audio is no local file",
    "exists": "the file exists (--overwrite replaces it)",
    "duration": "shorter or longer than asked for",
    "confidence": "confidence too low, or not known",
    "flags": "with one of the flags",
    "speaker": "of another speaker",
    "language": "in another language",
    "no_text": "without text",
    "selection": "dropped by select",
    "balance": "beyond --max-hours",
    "audio_unreadable": "the audio cannot be read any more",
}


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def _plain(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value
