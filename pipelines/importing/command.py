"""The command `scriptorium import`: corrected files become rows in OUT/corrections."""

from __future__ import annotations

import argparse
import getpass
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.errors import UsageError
from actors.records import Row
from pipelines.config import describe
from pipelines.corrections import store
from pipelines.importing.alignment import WordAligner
from pipelines.importing.changes import Change, find_changes
from pipelines.importing.documents import Document
from pipelines.importing.formats import SUFFIXES, parse
from pipelines.importing.matching import Names
from pipelines.output import run_record, saved_settings
from pipelines.output.transcript_filters import Filters
from pipelines.output.transcript_reader import Part, divide, find_parts, iter_tables, iter_transcripts
from pipelines.plurals import counted
from pipelines.storage import files

_ROWS = 64
_SHOWN = 20  # changes and problems that are printed


@dataclass
class Summary:
    """What an import found."""

    counts: Counter[str] = field(default_factory=Counter)
    changes: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # parts of files that were not taken

    @property
    def exit_code(self) -> int:
        return 3 if self.problems else 0


def run(given: argparse.Namespace) -> int:
    """Run the command; returns its exit code.

    Raises:
        UsageError: arguments do not fit together, or a file cannot be read.
    """
    out = files.absolute(given.out)
    parts = find_parts(out)
    config = None
    if given.print_config or not (given.no_align or given.dry_run):
        config = saved_settings.load_settings(out, run_record.require(out), given.config, given.set)
    if given.print_config and config is not None:
        print("\n".join(describe(config)).strip())
        return 0
    documents = [document for uri in _files(given.files) for document in _documents(uri, given.format)]
    if given.id and len(documents) != 1:
        raise UsageError(f"--id is for one recording, but there are {len(documents)} in the files")
    summary = Summary(Counter(documents=len(documents)))
    by_recording = _matched(parts, documents, given.id, summary)
    who = given.who or getpass.getuser()
    aligner = WordAligner(out, config)
    made: list[Row] = []
    try:
        for row in _rows(out, by_recording):
            for document in by_recording[row["recording_id"]][1]:
                corrections = _corrections(
                    row, document, aligner, given, given.who or document.who or who, summary
                )
                made += corrections
    finally:
        aligner.close()
    if not given.dry_run:
        store.add(out, made)
    _print(given, summary, aligner.problems)
    return summary.exit_code


def _files(named: Sequence[str]) -> Iterator[str]:
    for name in named:
        uri = files.absolute(name)
        if files.is_folder(uri):
            found = [entry for entry in files.list(uri) if entry.lower().endswith(tuple(SUFFIXES))]
        elif any(char in name for char in "*?[") and not files.exists(uri):
            found = [*files.glob(uri)]
        else:
            found = [uri]
        if not found:
            raise UsageError(f"{name}: there are no files to import")
        yield from found


def _documents(uri: str, form: str | None) -> list[Document]:
    suffix = "." + files.name_of(uri).rpartition(".")[2].lower()
    chosen = form or SUFFIXES.get(suffix)
    if chosen is None:
        raise UsageError(f"{uri}: {suffix} is none of {', '.join(SUFFIXES)}: say what it is with --format")
    try:
        with files.open(uri) as file:
            data = file.read()
    except FileNotFoundError:
        raise UsageError(f"{uri} does not exist") from None
    return parse(uri, chosen, data)


def _matched(
    parts: Sequence[Part], documents: Sequence[Document], chosen: str | None, summary: Summary
) -> dict[str, tuple[Part, list[Document]]]:
    """The documents by recording, with the part of the transcripts where the recording is."""
    known: list[Row] = []
    place: dict[str, Part] = {}
    for part in divide(parts, _ROWS):
        for table in iter_tables([part], None, ["recording_id", "audio"]):
            for row in table.to_pylist():
                known.append(row)
                place[row["recording_id"]] = part
    names = Names(known, {document.form for document in documents})
    found: dict[str, tuple[Part, list[Document]]] = {}
    for document in documents:
        recording_id = names.find(chosen or document.recording_id, document.origin)
        if recording_id is None:
            stated = chosen or document.recording_id
            why = (
                f"there is no recording {stated!r}"
                if stated
                else "its name is that of no recording, or of several"
            )
            summary.problems.append(f"{document.origin}: {why}: --id says which recording it is")
            continue
        found.setdefault(recording_id, (place[recording_id], []))[1].append(document)
    summary.counts["recordings"] = len(found)
    return found


def _rows(out: str, wanted: dict[str, tuple[Part, list[Document]]]) -> Iterator[Row]:
    """The transcripts with earlier corrections."""
    view = Filters(corrections=store.read(out))
    by_part: dict[Part, set[str]] = defaultdict(set)
    for recording_id, (part, _) in wanted.items():
        by_part[part].add(recording_id)
    for part, ids in by_part.items():
        for row in iter_transcripts([part], view):
            if row["recording_id"] in ids:
                yield row


def _corrections(
    row: Row, document: Document, aligner: WordAligner, given: argparse.Namespace, who: str, summary: Summary
) -> list[Row]:
    found = find_changes(row, document)
    name = row["recording_id"]
    if found.is_stranger and not given.force:
        summary.problems.append(
            f"{document.origin}: it has next to nothing in common with {name!r}: --force takes it"
        )
        return []
    summary.counts.update(found.counts)
    if found.counts["unplaced"]:
        spans = counted(found.counts["unplaced"], "text")
        summary.problems.append(f"{document.origin}: {spans} where {name!r} has no segment")
    changes = found.changed
    summary.counts["words_changed"] += sum(bool(change.text) for change in changes)
    for change in changes:
        segment = row["segments"][change.number]
        summary.changes.append(
            {
                "recording_id": name, "start": segment["start"], "end": segment["end"],
                "before": segment["text"], "after": change.text,
                "speaker": change.speaker, "language": change.language,
            }
        )  # fmt: skip
    if given.reviewed:
        changes = changes + _unchanged(row, {change.number for change in changes})
    if given.dry_run:
        return []
    differing = [change for change in changes if change.text != row["segments"][change.number]["text"]]
    words = dict(zip((change.number for change in differing), aligner.words(row, differing), strict=True))
    made = []
    source = files.name_of(document.origin)
    for change in changes:
        segment = row["segments"][change.number]
        kept = list(segment["words"] or ()) if change.text == segment["text"] else None
        of_change = words.get(change.number) or kept
        summary.counts["aligned"] += words.get(change.number) is not None
        correction = store.correction_of(
            row, change.number, change.text, who=who, source=source, language=change.language,
            speaker=change.speaker, words=of_change,
        )  # fmt: skip
        correction["words"] = _with_speakers(correction["words"], change)
        made.append(correction)
    return made


def _unchanged(row: Row, changed: set[int]) -> list[Change]:
    return [
        Change(number, segment["text"])
        for number, segment in enumerate(row["segments"] or ())
        if number not in changed and segment["text"] and not segment.get("corrected")
    ]


def _with_speakers(words: Sequence[Any], change: Change) -> list[Any]:
    made = []
    for word in words:
        for first, last, speaker in change.speakers:
            if first <= word["char_start"] < last:
                word = {**word, "speaker": speaker}
        made.append(word)
    return made


def _print(given: argparse.Namespace, summary: Summary, problems: Sequence[str]) -> None:
    counts = summary.counts
    if given.json:
        body = {"counts": dict(counts), "changes": summary.changes, "problems": summary.problems}
        print(json.dumps(body | {"not_aligned": list(problems)}, ensure_ascii=False, indent=2))
        return
    for change in summary.changes[:_SHOWN]:
        span = f"{change['start']:.2f}-{change['end']:.2f}"
        print(f"{change['recording_id']} {span}: {change['before']!r} → {change['after']!r}")
    if len(summary.changes) > _SHOWN:
        print(f"... and {len(summary.changes) - _SHOWN:,} more (--json lists all)")
    did = "would store" if given.dry_run else "stored"
    print(
        f"{counted(counts['documents'], 'document')}, {counted(counts['recordings'], 'recording')}: {did} "
        f"{counted(counts['changed'], 'correction')} of {counted(counts['segments'], 'segment')}"
        + (f", {counts['removed']:,} of them without text" if counts["removed"] else "")
    )
    unaligned = counts["words_changed"] - counts["aligned"]
    if unaligned > 0 and not given.dry_run:
        print(f"  in {counted(unaligned, 'segment')} new words have no times")
    for problem in [*problems, *summary.problems][:_SHOWN]:
        print(f"  {problem}")
