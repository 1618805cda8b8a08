"""One run as the page sees it: searches, transcripts with corrections, where their audio is, documents."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from actors.records import Row
from actors.redaction import redacted_address
from pipelines.browsing import index, indexing, searching
from pipelines.browsing.audio import Source
from pipelines.corrections import store
from pipelines.export import names
from pipelines.export.documents.formats import DOCUMENTS
from pipelines.export.documents.subtitle_files import SubtitleOptions
from pipelines.export.documents.writing import encoded
from pipelines.output import speakers
from pipelines.output.transcript_filters import recording_confidence
from pipelines.output.transcript_reader import audio_sources

_KEPT = 64  # transcripts, and sources of audio


class Library:
    """The transcripts of an output directory. All methods may be called from several threads.

    Args:
        out: the output directory.
        path: of its search index.
    """

    def __init__(self, out: str, path: Path) -> None:
        self.out, self._path = out, path
        self._rows: OrderedDict[str, Row] = OrderedDict()
        self._sources: OrderedDict[str, Source] = OrderedDict()
        self._lock, self._refreshing = threading.Lock(), threading.Lock()

    def refresh(self, report: Callable[[int, int], None] = lambda done, count: None) -> indexing.Changes:
        """Take in what was written to OUT since the last time. One call at a time; others return at once."""
        if not self._refreshing.acquire(blocking=False):
            return indexing.Changes()
        try:
            changes = indexing.refresh(self.out, self._path, self._corrected, store.recording_ids, report)
        finally:
            self._refreshing.release()
        if changes.added or changes.removed or changes.recordings:
            with self._lock:
                self._rows.clear()
                self._sources.clear()
        return changes

    def overview(self) -> dict[str, Any]:
        """Totals, and the values of the filters."""
        with index.connection(self._path) as database:
            return {**searching.totals(database), "values": searching.facet_values(database)}

    def search(self, search: searching.Search) -> dict[str, Any]:
        """See `searching.find`."""
        with index.connection(self._path) as database:
            return searching.find(database, search)

    def row(self, recording_id: str) -> Row | None:
        """The TRANSCRIPT row of a recording with its corrections; None where there is none."""
        with self._lock:
            known = self._rows.get(recording_id)
        if known is not None:
            return known
        with index.connection(self._path) as database:
            place = indexing.place_of(database, recording_id)
        if place is None:
            return None
        row = self._corrected([indexing.read_row(place)])[0]
        with self._lock:
            self._rows[recording_id] = row
            if len(self._rows) > _KEPT:
                self._rows.popitem(last=False)
        return row

    def transcript(self, recording_id: str) -> dict[str, Any] | None:
        """A transcript for the page: addresses without credentials."""
        row = self.row(recording_id)
        return None if row is None else view(row)

    def source(self, recording_id: str) -> Source | None:
        """Where the audio of a recording is: only recordings with a transcript have one."""
        with self._lock:
            known = self._sources.get(recording_id)
        if known is not None:
            return known
        row = self.row(recording_id)
        if row is None:
            return None
        planned = audio_sources(self.out, [recording_id]).get(recording_id) or {
            "audio": row["audio"],
            "window": row.get("window"),
        }
        start = (row.get("window") or {}).get("start") or 0.0
        codec = (row.get("provenance") or {}).get("codec")
        source = Source(planned, codec, frozenset(row["flags"] or ()), start + (row["duration"] or 0.0))
        with self._lock:
            self._sources[recording_id] = source
            if len(self._sources) > _KEPT:
                self._sources.popitem(last=False)
        return source

    def document(self, recording_id: str, form: str) -> tuple[str, bytes] | None:
        """A transcript in one of the formats of `scriptorium export`: file name and content."""
        row = self.row(recording_id)
        if row is None:
            return None
        if form == "rttm":
            row = {**row, "turns": self._turns(recording_id)}
        text, _ = DOCUMENTS[form].make(row, SubtitleOptions())
        name = names.file_name(recording_id, DOCUMENTS[form].suffix).rpartition("/")[2]
        return name, encoded(text)

    def correct(
        self, recording_id: str, number: int, text: str, before: str, who: str
    ) -> dict[str, Any] | None:
        """Store what a segment should say, and index it.

        Args:
            recording_id: of the recording.
            number: of the segment.
            text: the right text.
            before: the text that was corrected; the segment must still have it.
            who: corrected it.

        Returns:
            The transcript with the correction; None where there is no such segment.

        Raises:
            Stale: the segment has another text by now.
        """
        row = self.row(recording_id)
        if row is None or not 0 <= number < len(row["segments"] or ()):
            return None
        if row["segments"][number]["text"] != before:
            raise Stale
        store.add(self.out, [store.correction_of(row, number, text, who=who, source="browse")])
        with self._lock:
            self._rows.pop(recording_id, None)
        with index.connection(self._path) as database:
            indexing.update(database, [recording_id], self._corrected)
        return self.transcript(recording_id)

    def _corrected(self, rows: Sequence[Row]) -> Sequence[Row]:
        return store.apply(self.out, rows)

    def _turns(self, recording_id: str) -> list[Row] | None:
        with index.connection(self._path) as database:
            place = indexing.place_of(database, recording_id)
        return speakers.turns_of_file(place[0]).get(recording_id) if place else None


class Stale(Exception):
    """Somebody else corrected the segment in the meantime."""


def view(row: Row) -> dict[str, Any]:
    """A TRANSCRIPT row as the page shows it."""
    window = row.get("window") or {}
    start = window.get("start") or 0.0
    provenance = row.get("provenance") or {}
    return {
        "recording_id": row["recording_id"],
        "audio": redacted_address(row["audio"] or ""),
        "start": start,
        "end": start + (row["duration"] or 0.0),
        "duration": row["duration"],
        "language": row["language"],
        "status": row["status"],
        "flags": list(row["flags"] or ()),
        "text_source": row.get("text_source"),
        "confidence": recording_confidence(row["segments"] or []),
        "speakers": [
            {"speaker": entry["speaker"], "name": entry["name"], "duration": entry["duration"]}
            for entry in row.get("speakers") or ()
        ],
        "model": provenance.get("asr_model"),
        "segments": [_segment(number, segment) for number, segment in enumerate(row["segments"] or ())],
    }


def _segment(number: int, segment: Any) -> dict[str, Any]:
    words = segment.get("words") or ()
    return {
        "number": number,
        "start": segment["start"],
        "end": segment["end"],
        "language": segment["language"],
        "text": segment["text"] or "",
        "confidence": segment["confidence"],
        "speaker": segment.get("speaker"),
        "flags": list(segment["flags"] or ()),
        "corrected": _correction(segment.get("corrected")),
        # Lists, because a transcript may have 100,000 words.
        "words": [
            [
                *(word["start"], word["end"], word["char_start"], word["char_end"]),
                *(word.get("confidence"), word.get("speaker")),
            ]
            for word in words
        ],
    }


def _correction(found: Any) -> dict[str, Any] | None:
    """Who corrected a segment, when, and what the model said."""
    return found and {"by": found["by"], "at": found["at"].isoformat(), "original": found["original"]}
