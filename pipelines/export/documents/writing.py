"""Writes transcripts as documents: one file for each recording, or all of them in one file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from actors.errors import UsageError
from actors.records import Row
from pipelines.export import names
from pipelines.export.documents import labelstudio
from pipelines.export.documents.formats import DOCUMENTS, DocumentFormat
from pipelines.export.documents.subtitle_files import SubtitleOptions
from pipelines.export.parallel import LARGE_BYTES, run_tasks, workers_for
from pipelines.output import speakers
from pipelines.output.transcript_filters import Filters
from pipelines.output.transcript_reader import Part, divide, find_parts, iter_tables, iter_transcripts
from pipelines.storage import files
from pipelines.storage.atomic_files import streamed_file

# Transcripts of one task of a parallel export.
_ROWS_PER_TASK = 500


@dataclass(frozen=True)
class DocumentJob:
    """What is written, and where.

    Attributes:
        out: the output directory of the run.
        form: name of the format.
        dest: folder, or file whose name ends in the format's suffix; None: beside the audio files.
        filters: which transcripts.
        subtitles: how subtitles are made.
        overwrite: whether files beside audio that exist are replaced.
        dry_run: count and measure, write nothing.
        collisions: see `names.find_collisions`.
    """

    out: str
    form: str
    dest: str | None
    filters: Filters = field(default_factory=Filters)
    subtitles: SubtitleOptions = field(default_factory=SubtitleOptions)
    overwrite: bool = False
    dry_run: bool = False
    collisions: frozenset[int] = frozenset()

    @property
    def format(self) -> DocumentFormat:
        return DOCUMENTS[self.form]

    @property
    def is_one_file(self) -> bool:
        return self.dest is not None and self.dest.casefold().endswith(self.format.suffix.casefold())


def write_documents(
    job: DocumentJob, parallel: int | None = None, address: str | None = None
) -> Counter[str]:
    """Write all transcripts that pass the filters.

    Args:
        job: what and where.
        parallel: processes; None: decided by size.
        address: of a Ray cluster.

    Returns:
        Counts: `transcripts` found, `written`, `bytes`, `seconds` of audio, and for subtitles those of
        `subtitle_files.subtitle_text`. `skipped_...` counts what was not written, by reason.

    Raises:
        UsageError: the destination does not fit the format.
    """
    job.filters.check()
    parts = find_parts(job.out)
    total = Counter(transcripts=sum(part.rows for part in parts))
    if job.is_one_file:
        return total + _write_one_file(job, parts)
    job = _with_collisions(job, parts)
    tasks = divide(parts, _ROWS_PER_TASK)
    workers = workers_for(sum(part.bytes for part in parts), LARGE_BYTES, len(tasks), parallel)
    for counts in run_tasks(_PartWriter(job), tasks, workers, address):
        total.update(counts)
    if job.dest is not None and not job.dry_run:
        if job.form == "labelstudio":
            config = labelstudio.labelling_config().encode()
            files.write_atomic(files.join(job.dest, "labelling_config.xml"), config, sync=False)
        files.sync_all(job.dest)
    return total


class _PartWriter:
    """Writes the documents of one part; a class, so that it can be pickled."""

    def __init__(self, job: DocumentJob) -> None:
        self._job = job

    def __call__(self, part: Part) -> Counter[str]:
        job, counts = self._job, Counter[str]()
        for row in _rows(job, part):
            uri, reason = address_of(job, row)
            if uri is None:
                counts[f"skipped_{reason}"] += 1
                continue
            text, made = job.format.make(row, job.subtitles)
            data = encoded(text)
            if not job.dry_run:
                files.write_atomic(uri, data, sync=False)
            counts.update(made)
            counts.update({"written": 1, "bytes": len(data), "seconds": row["duration"] or 0.0})
        return counts


def _rows(job: DocumentJob, part: Part) -> Iterator[Row]:
    """The transcripts of a part; for RTTM with `turns`, who speaks when by the voices (OUT/speakers)."""
    turns = speakers.turns_of_file(part.uri) if job.form == "rttm" else {}
    for row in iter_transcripts([part], job.filters):
        yield {**row, "turns": turns.get(row["recording_id"])}


def encoded(text: str) -> bytes:
    """A document's bytes. Half of a surrogate pair, which UTF-8 does not have, becomes a question mark."""
    return text.encode("utf-8", "replace")


def address_of(job: DocumentJob, row: Row) -> tuple[str | None, str]:
    """The address of a recording's document; None and the reason where it has none."""
    suffix = job.format.suffix
    if job.dest is not None:
        return files.join(job.dest, names.file_name(row["recording_id"], suffix, job.collisions)), ""
    audio = row["audio"] or ""
    local = audio.removeprefix("file://")
    if files.is_remote(audio) or not os.path.isabs(local) or not os.path.isfile(local):
        return None, "audio_not_local"
    mark = _window_mark(row)
    stem, ending = os.path.splitext(local)
    # Several files with the same name but for the ending: players find `x.mp3.srt` too.
    if names.name_key(f"{stem}{mark}") in job.collisions:
        stem += ending
    uri = f"{stem}{mark}{suffix}"
    if not job.overwrite and os.path.lexists(uri):
        return None, "exists"
    return uri, ""


def _with_collisions(job: DocumentJob, parts: Sequence[Part]) -> DocumentJob:
    """The job with the names that would be given twice."""
    return replace(job, collisions=names.find_collisions(_name_sources(job, parts)))


def _name_sources(job: DocumentJob, parts: Sequence[Part]) -> Iterable[str]:
    if job.dest is not None:
        for table in iter_tables(parts, None, ["recording_id"]):
            yield from table["recording_id"].to_pylist()
        return
    for row in iter_transcripts(parts, job.filters, ["audio", "window"]):
        yield os.path.splitext((row["audio"] or "").removeprefix("file://"))[0] + _window_mark(row)


def _window_mark(row: Row) -> str:
    """What tells the recordings of one file apart."""
    window = row.get("window") or {}
    start, end = window.get("start") or 0.0, window.get("end")
    return f".{start:.2f}-{'' if end is None else f'{end:.2f}'}" if start or end is not None else ""


def _write_one_file(job: DocumentJob, parts: Sequence[Part]) -> Counter[str]:
    assert job.dest is not None
    form = job.format
    if not form.joins:
        found = 0
        for table in iter_tables(parts, job.filters, ["recording_id"]):
            found += table.num_rows
            if found > 1:
                raise UsageError(
                    f"{job.form} holds one recording a file: DEST must be a folder, not {job.dest}, or the "
                    "filters must leave one recording"
                )
    counts: Counter[str] = Counter()

    def documents() -> Iterable[bytes]:
        make = form.joined or form.make
        yield encoded(form.head) if form.joins else b""
        for number, row in enumerate(row for part in parts for row in _rows(job, part)):
            text, made = (make if form.joins else form.make)(row, job.subtitles)
            counts.update(made)
            counts.update({"written": 1, "seconds": row["duration"] or 0.0})
            yield encoded((form.separator if number else "") + text)
        yield encoded(form.tail) if form.joins else b""

    if job.dry_run:
        counts["bytes"] = sum(map(len, documents()))
        return counts
    with streamed_file(job.dest) as file:
        for data in documents():
            file.write(data)
            counts["bytes"] += len(data)
    if job.form == "labelstudio":
        config = labelstudio.labelling_config().encode()
        files.write_atomic(files.join(files.parent(job.dest), "labelling_config.xml"), config)
    return counts
