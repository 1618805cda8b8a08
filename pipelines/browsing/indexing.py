"""Brings the search index up to date with OUT: files of transcripts that are new, changed or gone."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from actors.audio.files.etags import etag_of_info, local_etag
from actors.records import Row
from pipelines.browsing import index
from pipelines.browsing.index import Writer
from pipelines.output.transcript_reader import Part, find_parts, iter_transcripts
from pipelines.storage import files
from pipelines.storage.filesystems import call_store, filesystem

_COLUMNS = ("recording_id", "duration", "language", "segments", "status", "flags", "speakers")
_CORRECTIONS = "corrections"
_ROWS = 500  # recordings whose corrections are looked up at once

Corrected = Callable[[Sequence[Row]], Sequence[Row]]


@dataclass
class Changes:
    """What a refresh changed: numbers of files and of recordings."""

    added: int = 0
    removed: int = 0
    recordings: int = 0


def etags(folder: str) -> dict[str, str]:
    """The etags of the Parquet files in a folder by address, by one listing; empty if there is none."""
    if not files.is_remote(folder):
        found = {}
        for uri in files.list(folder, ".parquet", recursive=False):
            try:
                found[uri] = local_etag(uri, os.stat(uri))
            except FileNotFoundError:  # replaced since it was listed
                continue
        return found
    store, path = filesystem(folder)
    listed = call_store("list", folder, lambda: store.find(path, maxdepth=1, detail=True))
    addresses = {files.name_of(uri): uri for uri in files.list(folder, ".parquet", recursive=False)}
    return {
        addresses[files.name_of(name)]: etag_of_info(info)
        for name, info in listed.items()
        if files.name_of(name) in addresses
    }


def refresh(
    out: str,
    path: Path,
    corrected: Corrected,
    corrected_ids: Callable[[str], Iterable[str]],
    report: Callable[[int, int], None] = lambda done, all_files: None,
) -> Changes:
    """Bring the index up to date. Files that it knows are not read again.

    Args:
        out: the output directory.
        path: of the index.
        corrected: returns rows with what people corrected in them.
        corrected_ids: returns the recordings that a file of corrections is about.
        report: called with the numbers of files that are done and that there are.
    """
    changes = Changes()
    with index.connection(path) as database:
        known = dict(database.execute("SELECT uri, etag FROM files").fetchall())
        now = etags(files.join(out, "transcripts"))
        notes = etags(files.join(out, _CORRECTIONS))
        new = [uri for uri, etag in now.items() if known.get(uri) != etag]
        parts = {uri: [part for part in find_parts(out) if part.uri == uri] for uri in new} if new else {}
        new_notes = [uri for uri, etag in notes.items() if known.get(uri) != etag]
        for done, uri in enumerate(new):
            report(done, len(new))
            with _transaction(database) as writer:
                if _etag_in(database, uri) == now[uri]:  # another process was faster
                    continue
                number = _register(database, uri, now[uri])
                before = dict(
                    database.execute("SELECT recording_id, id FROM recordings WHERE file = ?", (number,))
                )
                for part in parts[uri]:
                    for row_number, row in _numbered(iter_transcripts([part], None, _COLUMNS), corrected):
                        writer.add(row, (number, part.row_group, part.first + row_number))
                        before.pop(row["recording_id"], None)
                        changes.recordings += 1
                _forget(writer, before.values())
            changes.added += 1
        if new:
            report(len(new), len(new))
        for uri in [uri for uri in known if uri not in now and uri not in notes]:
            with _transaction(database) as writer:
                (number,) = database.execute("SELECT id FROM files WHERE uri = ?", (uri,)).fetchone()
                rows = database.execute("SELECT id FROM recordings WHERE file = ?", (number,)).fetchall()
                _forget(writer, [row[0] for row in rows])
                database.execute("DELETE FROM files WHERE id = ?", (number,))
            changes.removed += 1
        for uri in new_notes:
            update(database, list(corrected_ids(uri)), corrected)
            with _transaction(database):
                _register(database, uri, notes[uri])
    return changes


def update(database: sqlite3.Connection, recording_ids: Sequence[str], corrected: Corrected) -> None:
    """Index some recordings again, because people corrected them."""
    for name in dict.fromkeys(recording_ids):
        found = place_of(database, name)
        if found is None:
            continue
        row = read_row(found, _COLUMNS)
        number = database.execute("SELECT file FROM recordings WHERE recording_id = ?", (name,)).fetchone()[0]
        with _transaction(database) as writer:
            writer.add(corrected([row])[0], (number, found[1], found[2]))


def place_of(database: sqlite3.Connection, recording_id: str) -> tuple[str, int, int] | None:
    """Where the transcript of a recording is: file, row group, row; None where there is none."""
    found: tuple[str, int, int] | None = database.execute(
        "SELECT files.uri, recordings.row_group, recordings.row FROM recordings "
        "JOIN files ON files.id = recordings.file WHERE recordings.recording_id = ?",
        (recording_id,),
    ).fetchone()
    return found


def read_row(place: tuple[str, int, int], columns: Sequence[str] | None = None) -> Row:
    """The transcript at a place, from its file."""
    uri, group, number = place
    row: Row = next(iter_transcripts([Part(uri, group, number, 1, 0)], None, columns))
    return row


def _numbered(rows: Iterable[Row], corrected: Corrected) -> Iterator[tuple[int, Row]]:
    batch: list[Row] = []
    number = 0
    for row in rows:
        batch.append(row)
        if len(batch) == _ROWS:
            yield from enumerate(corrected(batch), number)
            number, batch = number + len(batch), []
    yield from enumerate(corrected(batch) if batch else [], number)


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[Writer]:
    """A transaction with a writer; undone where the block raises."""
    writer = Writer(database)
    database.execute("BEGIN IMMEDIATE")
    try:
        yield writer
        writer.finish()
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _etag_in(database: sqlite3.Connection, uri: str) -> str | None:
    row = database.execute("SELECT etag FROM files WHERE uri = ?", (uri,)).fetchone()
    return row[0] if row else None


def _register(database: sqlite3.Connection, uri: str, etag: str) -> int:
    database.execute(
        "INSERT INTO files (uri, etag) VALUES (?, ?) ON CONFLICT (uri) DO UPDATE SET etag = excluded.etag",
        (uri, etag),
    )
    (number,) = database.execute("SELECT id FROM files WHERE uri = ?", (uri,)).fetchone()
    assert isinstance(number, int)
    return number


def _forget(writer: Writer, recordings: Iterable[int]) -> None:
    for recording in recordings:
        writer.remove(recording)
        writer.database.execute("DELETE FROM recordings WHERE id = ?", (recording,))
