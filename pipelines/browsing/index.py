"""The search index: an SQLite database with FTS5, beside OUT or in this user's cache."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actors.errors import UsageError
from actors.records import Row
from pipelines.browsing.query import spaced
from pipelines.storage import files

# Changes with the tables below; an index of another version is built anew.
_VERSION = 1
_NAME = "browse/index.sqlite3"
_BUSY_SECONDS = 60.0

# A confidence is indexed in steps of this size.
CONFIDENCE_STEPS = 20
FIRST_TOKEN = "firstsegment"
CORRECTED_TOKEN = "correctedsegment"

# `segments` has one row without text for a recording without segments, so that filters find it, too. The
# full-text table keeps no copy of the text. Filters are tokens of its column `facets`: lists of row numbers
# are intersected fast, however long they are.
_TABLES = """
CREATE TABLE files (id INTEGER PRIMARY KEY, uri TEXT UNIQUE NOT NULL, etag TEXT NOT NULL);
CREATE TABLE recordings (
    id INTEGER PRIMARY KEY, recording_id TEXT UNIQUE NOT NULL, file INTEGER NOT NULL,
    row_group INTEGER NOT NULL, row INTEGER NOT NULL, duration REAL, language TEXT, status TEXT,
    first_segment INTEGER, last_segment INTEGER
);
CREATE INDEX recordings_by_file ON recordings (file);
CREATE TABLE segments (
    id INTEGER PRIMARY KEY, recording INTEGER NOT NULL, number INTEGER NOT NULL, start REAL, end REAL,
    language TEXT, speaker TEXT, confidence REAL, flags TEXT, corrected INTEGER NOT NULL, body TEXT NOT NULL,
    facets TEXT NOT NULL
);
CREATE TABLE facets (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, value TEXT NOT NULL, count INTEGER NOT NULL DEFAULT 0,
    UNIQUE (kind, value)
);
CREATE VIRTUAL TABLE search USING fts5 (
    body, facets, content='', columnsize=0, prefix='3',
    tokenize="unicode61 remove_diacritics 2 categories 'L* N* Co M*'"
);
"""


def index_path(out: str) -> Path:
    """Where the index of a run is: in OUT if that is a local folder that can be written, else in the cache.

    The cache is keyed by the address; the index in it knows the etags of the files that it was made of.
    """
    if not files.is_remote(out) and os.access(out, os.W_OK):
        return Path(out, _NAME)
    base = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    return base / "scriptorium" / "browse" / f"{hashlib.sha256(out.encode()).hexdigest()[:24]}.sqlite3"


def create(path: Path) -> None:
    """Make the tables, if there are none of this version.

    Raises:
        UsageError: this SQLite has no FTS5, or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            # Transcripts may be confidential: only this user reads the index.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, stat.S_IRUSR | stat.S_IWUSR))
        with connection(path) as database:
            if database.execute("PRAGMA user_version").fetchone()[0] == _VERSION:
                return
            database.execute("BEGIN IMMEDIATE")
            names = database.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' "
                "AND name NOT LIKE 'search_%'"
            ).fetchall()
            for (name,) in names:
                database.execute(f'DROP TABLE "{name}"')
            for statement in _TABLES.split(";\n"):
                if statement.strip():
                    database.execute(statement)
            database.execute(f"PRAGMA user_version = {_VERSION}")
            database.execute("COMMIT")
    except OSError as error:
        raise UsageError(
            f"the search index {path} cannot be written: {error.strerror}; "
            "XDG_CACHE_HOME names another folder"
        ) from None
    except sqlite3.Error as error:
        advice = (
            "this Python's SQLite has no FTS5" if "fts5" in str(error) else "delete the file to build it anew"
        )
        raise UsageError(f"the search index {path} cannot be used: {error}; {advice}") from None


@contextmanager
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    """An open connection, for one thread. Statements outside of a transaction take effect at once."""
    database = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    try:
        # Readers do not wait for a writer. Where the folder is on a network, SQLite keeps its other mode.
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = OFF")  # it can be built again
        yield database
    finally:
        database.close()


def confidence_token(step: int) -> str:
    """The token of segments whose confidence is in [step, step + 1) / CONFIDENCE_STEPS."""
    return f"confidence{step:02d}"


def facet_token(number: int) -> str:
    """The token of a row of the table `facets`."""
    return f"facet{number}"


@dataclass
class Writer:
    """Writes rows of recordings into the index, within a transaction."""

    database: sqlite3.Connection
    ids: dict[tuple[str, str], int] = field(default_factory=dict)
    counts: Counter[int] = field(default_factory=Counter)

    def facet(self, kind: str, value: str) -> str:
        """The token of a value, counted once."""
        number = self.ids.get((kind, value))
        if number is None:
            self.database.execute("INSERT OR IGNORE INTO facets (kind, value) VALUES (?, ?)", (kind, value))
            (number,) = self.database.execute(
                "SELECT id FROM facets WHERE kind = ? AND value = ?", (kind, value)
            ).fetchone()
            assert number is not None
            self.ids[kind, value] = number
        self.counts[number] += 1
        return facet_token(number)

    def finish(self) -> None:
        """Store the numbers of the facets."""
        self.database.executemany(
            "UPDATE facets SET count = max(0, count + ?) WHERE id = ?",
            [(change, number) for number, change in self.counts.items()],
        )
        self.counts.clear()

    def remove(self, recording: int) -> None:
        """Take the segments of a recording out of the index."""
        rows = self.database.execute(
            "SELECT segments.id, body, facets FROM recordings JOIN segments "
            "ON segments.id BETWEEN first_segment AND last_segment WHERE recordings.id = ?",
            (recording,),
        ).fetchall()
        self.database.executemany(
            "INSERT INTO search (search, rowid, body, facets) VALUES ('delete', ?, ?, ?)",
            [(number, spaced(body), facets) for number, body, facets in rows],
        )
        self.database.executemany("DELETE FROM segments WHERE id = ?", [(row[0],) for row in rows])
        for _, _, facets in rows:
            for token in facets.split():
                if token.startswith("facet"):
                    self.counts[int(token[5:])] -= 1

    def add(self, row: Row, place: tuple[int, int, int]) -> None:
        """Add a TRANSCRIPT row, in place of the one with its id.

        Args:
            row: with corrections.
            place: number of the file, row group, row.
        """
        database, name = self.database, row["recording_id"]
        known = database.execute(
            "SELECT id, first_segment, last_segment FROM recordings WHERE recording_id = ?", (name,)
        ).fetchone()
        if known:
            self.remove(known[0])
            database.execute("DELETE FROM recordings WHERE id = ?", known[:1])
        facts = (name, *place, row["duration"], row["language"], row["status"])
        recording = database.execute(
            "INSERT INTO recordings (recording_id, file, row_group, row, duration, language, status) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            facts,
        ).lastrowid
        segments = list(segment_rows(row))
        if known and known[2] - known[1] + 1 == len(segments):
            first = known[1]  # a correction does not move a recording to the end of the results
        else:
            (first,) = database.execute("SELECT coalesce(max(id), 0) + 1 FROM segments").fetchone()
        stored, indexed = [], []
        for identifier, segment in enumerate(segments, first):
            facets = " ".join(self._facets(row, segment, identifier == first))
            body = segment["text"]
            stored.append(
                (
                    *(identifier, recording, segment["number"], segment["start"], segment["end"]),
                    *(segment["language"], segment["speaker"], segment["confidence"]),
                    *(" ".join(segment["flags"]), int(segment["corrected"]), body, facets),
                )
            )
            indexed.append((identifier, spaced(body), facets))
        database.executemany(f"INSERT INTO segments VALUES ({', '.join('?' * 12)})", stored)
        database.executemany("INSERT INTO search (rowid, body, facets) VALUES (?, ?, ?)", indexed)
        database.execute(
            "UPDATE recordings SET first_segment = ?, last_segment = ? WHERE id = ?",
            (first, first + len(segments) - 1, recording),
        )

    def _facets(self, row: Row, segment: dict[str, Any], is_first: bool) -> Iterator[str]:
        if is_first:
            yield FIRST_TOKEN
        if segment["corrected"]:
            yield CORRECTED_TOKEN
        yield self.facet("status", row["status"] or "")
        language = segment["language"] or row["language"]
        if language:
            yield self.facet("language", language)
        for speaker in segment["speakers"]:
            yield self.facet("speaker", speaker)
        flags = [*(row["flags"] or ()), *segment["flags"]]
        for flag in dict.fromkeys(flag.partition(":")[0] for flag in flags):
            yield self.facet("flag", flag)
        if segment["confidence"] is not None:
            step = int(segment["confidence"] * CONFIDENCE_STEPS)
            yield confidence_token(max(0, min(CONFIDENCE_STEPS - 1, step)))


def segment_rows(row: Row) -> Iterator[dict[str, Any]]:
    """What is indexed of the segments of a TRANSCRIPT row; one without text where there are none."""
    names = {entry["speaker"]: entry["name"] for entry in row.get("speakers") or () if entry["name"]}
    if not row["segments"]:
        yield {
            "number": 0, "start": 0.0, "end": row["duration"], "language": None, "speaker": None,
            "speakers": [], "confidence": None, "flags": [], "corrected": False, "text": "",
        }  # fmt: skip
    for number, segment in enumerate(row["segments"] or ()):
        words = segment.get("words") or ()
        found = dict.fromkeys([segment.get("speaker"), *(word.get("speaker") for word in words)])
        speakers = [names.get(speaker, speaker) for speaker in found if speaker]
        text = segment["text"] or ""
        yield {
            "number": number,
            "start": segment["start"],
            "end": segment["end"],
            "language": segment["language"],
            "speaker": ", ".join(speakers) or None,
            "speakers": speakers,
            "confidence": segment["confidence"],
            "flags": list(segment["flags"] or ()),
            "corrected": bool(segment.get("corrected")),
            # SQLite stores UTF-8, which has no half of a surrogate pair.
            "text": text.encode("utf-8", "replace").decode(),
        }
