"""References: what was really said, from a manifest or from the transcripts of another run."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from actors.errors import UsageError
from pipelines.corrections import store
from pipelines.evaluation.metrics.word_times import TimedWord
from pipelines.evaluation.outputs import read_transcripts, timed_words
from pipelines.manifests.manifest import Recording, read_manifest
from pipelines.output.transcript_filters import Filters
from pipelines.output.transcript_reader import find_parts, iter_transcripts
from pipelines.storage import files

# Columns of a manifest that are no metadata, but by which a table may be divided.
OWN_COLUMNS = ("language", "channel")


class DiskMap:
    """JSON values by id in a temporary SQLite database, which is deleted when the map is closed.

    SQLite keeps a few megabytes in memory and writes the rest to the folder for temporary files.
    """

    def __init__(self) -> None:
        self._rows = sqlite3.connect("", isolation_level=None)
        self._rows.execute("PRAGMA journal_mode=OFF")
        self._rows.execute("PRAGMA synchronous=OFF")
        self._rows.execute("CREATE TABLE item (id TEXT PRIMARY KEY, body TEXT, taken INTEGER DEFAULT 0)")
        self._rows.execute("BEGIN")

    def add(self, key: str, value: Any) -> bool:
        """Store a value; False if the id is already there, whose value then stays."""
        done = self._rows.execute(
            "INSERT OR IGNORE INTO item (id, body) VALUES (?, ?)",
            (key, json.dumps(value, ensure_ascii=False)),
        )
        return done.rowcount == 1

    def get(self, key: str) -> Any | None:
        """The value of an id; None if there is none."""
        row = self._rows.execute("SELECT body FROM item WHERE id = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def take(self, key: str) -> bool:
        """Mark an id as used; False if it is unknown or already marked."""
        return (
            self._rows.execute("UPDATE item SET taken = 1 WHERE id = ? AND taken = 0", (key,)).rowcount == 1
        )

    def untaken(self) -> Iterator[tuple[str, Any]]:
        """The ids that `take` has not marked, with their values, in the order of the ids."""
        for key, body in self._rows.execute("SELECT id, body FROM item WHERE taken = 0 ORDER BY id"):
            yield key, json.loads(body)

    def some_ids(self, count: int) -> list[str]:
        """A few ids, for messages."""
        return [row[0] for row in self._rows.execute("SELECT id FROM item LIMIT ?", (count,))]

    def __len__(self) -> int:
        return int(self._rows.execute("SELECT count(*) FROM item").fetchone()[0])

    def close(self) -> None:
        """Delete the database."""
        self._rows.close()


@dataclass(frozen=True, slots=True)
class Reference:
    """What a recording should have become."""

    text: str
    language: str | None = None  # ISO code
    words: list[TimedWord] | None = None
    columns: dict[str, str] = field(default_factory=dict)  # those that tables are divided by


@dataclass
class References:
    """All references, on disk, and what was found when they were read."""

    items: DiskMap
    without_text: int = 0  # rows of the manifest that say nothing about what was spoken

    def get(self, recording_id: str) -> Reference | None:
        """The reference of a recording."""
        item = self.items.get(recording_id)
        return None if item is None else _reference(item)

    def remaining(self) -> Iterator[tuple[str, Reference]]:
        """The references that no `items.take` has asked for, with their ids."""
        for recording_id, item in self.items.untaken():
            yield recording_id, _reference(item)


def from_manifest(
    uri: str, names: Mapping[str, str] | None = None, columns: Sequence[str] = ()
) -> References:
    """Read the references of a manifest: its columns `text`, `language` and `words`.

    A row without text is no reference, unless its `words` is an empty list: then nothing is said in the
    recording.

    Args:
        uri: any manifest that `pipelines.manifests.manifest` reads.
        names: for columns of ours the names that the manifest has for them (`--columns`).
        columns: the columns that tables will be divided by (`--by`).

    Raises:
        UsageError: the manifest is wrong, has no text, or has none of a column of `columns`.
    """
    found = References(DiskMap())
    missing = set(columns) - set(OWN_COLUMNS)
    seen: set[str] = set()
    for recording in read_manifest(uri, names):
        seen |= recording.metadata.keys()
        missing -= recording.metadata.keys()
        words = _words(recording)
        if recording.text is None and words is None:
            found.without_text += 1
            continue
        text = recording.text if recording.text is not None else " ".join(word for word, _, _ in words or [])
        values = recording.metadata | {"language": recording.language, "channel": recording.channel}
        found.items.add(
            recording.id,
            {
                "text": text,
                "language": recording.language,
                "words": words,
                "columns": {name: _shown(values.get(name)) for name in columns},
            },
        )
    others = ", ".join(sorted(seen)) or "no others"
    if not len(found.items):
        raise UsageError(
            f"{uri}: no row has a `text`; say which column has the reference texts: --columns text=NAME "
            f"(found: {others})"
        )
    if missing:
        raise UsageError(
            f"{uri}: no row has the column {', '.join(sorted(missing))} of --by; correct its name "
            f"(found: {others})"
        )
    return found


def from_output(out: str) -> References:
    """The transcripts of another run as references, to see where two runs agree."""
    found = References(DiskMap())
    for row in read_transcripts(out):
        found.items.add(
            row["recording_id"],
            {
                "text": row["text"],
                "language": row["language"],
                "words": timed_words(row) or None,
                "columns": {},
            },
        )
    if not len(found.items):
        raise UsageError(f"{out} has no transcripts: give the output directory of a run as --against")
    return found


def has_corrections(uri: str) -> bool:
    """Whether `uri` is the output directory of a run, so that its corrections are the references.

    Raises:
        UsageError: it is one, but nobody has corrected anything.
    """
    if uri.startswith(("http://", "https://")) or not files.exists(files.join(uri, "transcripts")):
        return False
    if not store.exists(uri):
        raise UsageError(
            f"{uri} has no corrections that could be references: `scriptorium import` takes them in; "
            "--against compares two runs"
        )
    return True


def from_corrections(out: str, columns: Sequence[str] = ()) -> References:
    """The transcripts of `out` that people corrected, with the corrections, as references.

    Args:
        out: the output directory.
        columns: as in `from_manifest`: columns of the manifest that `out` was made from.
    """
    found = References(DiskMap())
    corrections = store.read(out)
    for row in iter_transcripts(find_parts(out), Filters(corrections=corrections)):
        if "corrected" not in row:
            continue
        values = json.loads(row["metadata"] or "{}") | {"language": row["language"]}
        found.items.add(
            row["recording_id"],
            {
                "text": row["text"],
                "language": row["language"],
                "words": None,  # most of their times are the aligner's own
                "columns": {name: _shown(values.get(name)) for name in columns},
            },
        )
    return found


def _reference(item: dict[str, Any]) -> Reference:
    words = item["words"]
    return Reference(
        item["text"],
        item["language"],
        None if words is None else [(word, start, end) for word, start, end in words],
        item["columns"],
    )


def _words(recording: Recording) -> list[TimedWord] | None:
    """The column `words`: a list of {text, start, end}, or the same as a JSON string; None without it."""
    value = recording.metadata.get("words")
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else None
        except ValueError:
            _refuse_words(recording)
    if value is None:
        return None
    if not isinstance(value, list):
        _refuse_words(recording)
    try:
        return [(_word_text(word), float(word["start"]), float(word["end"])) for word in value]
    except (KeyError, TypeError, ValueError):
        _refuse_words(recording)


def _word_text(word: Mapping[str, Any]) -> str:
    return str(word["text"] if "text" in word else word["word"])


def _refuse_words(recording: Recording) -> NoReturn:
    raise UsageError(
        f"{recording.origin}: `words` must be a list of objects with `text`, `start` and `end` in seconds; "
        "correct it, or give the column another name to leave word times out"
    )


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "-" if value is None else json.dumps(value, ensure_ascii=False)
