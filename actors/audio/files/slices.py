"""Addresses of audio that is a part of another file: a member of a tar archive, a cell of a Parquet file.

A recording in an archive is shown as `s3://bucket/x.tar#a/b.flac`. Planning looks up where the member begins,
and workers open `slice://START-END/s3://bucket/x.tar`, the bytes [START, END) of the archive, by range reads.

A recording in a table is shown as `x.parquet#COLUMN/ROW_GROUP/ROW` and opened as
`cell://COLUMN/ROW_GROUP/ROW/x.parquet`, where fsspec knows this scheme.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

SLICE = "slice://"
CELL = "cell://"
_SLICE = re.compile(r"slice://(\d{1,18})-(\d{1,18})/(.+)", re.DOTALL)
_CELL = re.compile(r"cell://([^/]+)/(\d{1,9})/(\d{1,12})/(.+)", re.DOTALL)
_SHOWN_CELL = re.compile(r"(.+?\.(?:parquet|pq))#([^/]+)/(\d{1,9})/(\d{1,12})", re.DOTALL | re.I)
_MEMBER = re.compile(r"(.+?\.(?:tar|tar\.gz|tgz|tar\.bz2|tbz2?|tar\.xz|txz|tar\.zst))#(.+)", re.DOTALL | re.I)


@dataclass(frozen=True, slots=True)
class Slice:
    """Bytes [start, end) of the file at `address`."""

    address: str
    start: int
    end: int

    def __str__(self) -> str:
        return f"{SLICE}{self.start}-{self.end}/{self.address}"


def parse_slice(uri: str) -> Slice | None:
    """The slice that an address names; None for the address of a whole file."""
    found = _SLICE.fullmatch(uri)
    return Slice(found[3], int(found[1]), int(found[2])) if found else None


def parse_member(uri: str) -> tuple[str, str] | None:
    """The archive and the member of an address such as `x.tar#a/b.flac`; None for other addresses."""
    found = _MEMBER.fullmatch(uri)
    return (found[1], found[2]) if found else None


def parse_cell(uri: str) -> str | None:
    """The `cell://` address of what is shown as `x.parquet#audio/0/17`; None for other addresses."""
    found = _SHOWN_CELL.fullmatch(uri)
    return cell_address(found[1], found[2], int(found[3]), int(found[4])) if found else None


def cell_address(file: str, column: str, row_group: int, row: int) -> str:
    """The address of a cell.

    Args:
        file: address of a Parquet file.
        column: name of a column of bytes, or of structs with a field `bytes`.
        row_group: its number, from 0.
        row: the number of the row in this row group, from 0.
    """
    return f"{CELL}{quote(column, safe='')}/{row_group}/{row}/{file}"


def is_part(uri: str) -> bool:
    """Whether an address is written like that of a member or a cell; a file may have such a name, too."""
    return parse_member(uri) is not None or parse_cell(uri) is not None


def file_of(uri: str) -> str:
    """The address of the file whose bytes are read for `uri`."""
    if found := _SLICE.fullmatch(uri):
        return found[3]
    if found := _CELL.fullmatch(uri):
        return found[4]
    if found := _SHOWN_CELL.fullmatch(uri):
        return found[1]
    return member[0] if (member := parse_member(uri)) else uri
