"""Recordings that share a file: where the members of archives begin, and which recordings are neighbours."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.audio.files.slices import Slice, file_of, parse_member, parse_slice
from actors.errors import RetryableError, RowError, UsageError
from pipelines.manifests.formats.tars import read_index
from pipelines.storage import files

# Archives whose headers are read at the same time.
_CONCURRENCY = 8


def locate_members(table: pa.Table) -> pa.Table:
    """Fill in `location` for audio that is named as `x.tar#member`.

    The headers of each archive are read once. An archive that cannot be read, or lacks the member, costs the
    rows that name it: they are left as they are, and decoding reports what is wrong.

    Args:
        table: with the columns `audio`, `location` and `origin`.

    Raises:
        UsageError: an archive is compressed or damaged; the message names the manifest's line.
    """
    wanted = _members(table)
    if not wanted:
        return table
    first_rows = {archive: row for row, (archive, _) in reversed(wanted.items())}
    with ThreadPoolExecutor(_CONCURRENCY) as pool:
        origins = (table["origin"][row].as_py() or archive for archive, row in first_rows.items())
        indexes = dict(zip(first_rows, pool.map(_index, first_rows, origins), strict=True))
    locations = table["location"].to_pylist()
    for row, (archive, name) in wanted.items():
        locations[row] = indexes[archive].get(name) or indexes[archive].get(_without_number(name))
    column = table.schema.get_field_index("location")
    return table.set_column(column, "location", pa.array(locations, pa.string()))


def addresses(table: pa.Table) -> pa.ChunkedArray:
    """Where the bytes of each recording are."""
    return pc.coalesce(table["location"], table["audio"])


def order_by_file(table: pa.Table, key: np.ndarray) -> np.ndarray:
    """The order of the rows in which recordings of one file stay together, so that it is fetched once.

    Args:
        table: recordings.
        key: what orders recordings of different files, descending; shape (rows,).

    Returns:
        Row numbers: files by the largest key of their recordings, recordings of a file by their place in it.
    """
    rows = np.arange(table.num_rows)
    if table["window"].null_count == table.num_rows == table["location"].null_count:
        return np.lexsort((rows, -key))
    locations = addresses(table).to_pylist()
    codes: dict[str, int] = {}
    group = np.array([codes.setdefault(file_of(uri), len(codes)) for uri in locations], np.int64)
    group_key = np.full(len(codes), -np.inf)
    np.maximum.at(group_key, group, key)
    windows = pc.fill_null(pc.struct_field(table["window"], "start"), 0.0).to_numpy()
    starts = np.array([part.start if (part := parse_slice(uri)) else 0 for uri in locations], np.int64)
    return np.lexsort((rows, windows, starts, group, -group_key[group]))


def _members(table: pa.Table) -> dict[int, tuple[str, str]]:
    """The archive and the member of each row that names one, by row."""
    found = pc.and_(pc.is_null(table["location"]), pc.match_substring(table["audio"], "#"))
    rows = np.flatnonzero(found.to_numpy()).tolist()
    members = ((row, table["audio"][row].as_py()) for row in rows)
    return {
        row: member
        for row, audio in members
        if (member := parse_member(audio)) and (files.is_remote(audio) or not os.path.exists(audio))
    }


def _index(archive: str, origin: str) -> dict[str, str]:
    """Where the members of an archive are, by name; empty if it cannot be read."""
    try:
        members: Iterable = read_index(archive)
    except UsageError as error:
        raise UsageError(f"{origin}: {error.message}") from error
    except (RowError, RetryableError):
        return {}
    return {member.name: str(Slice(archive, member.start, member.end)) for member in members}


def _without_number(name: str) -> str:
    """The member that NeMo means by `utterance-sub1.wav`: another window of `utterance.wav`."""
    stem, dot, suffix = name.rpartition(".")
    before, mark, number = stem.rpartition("-sub")
    return f"{before}{dot}{suffix}" if mark and number.isdigit() else name
