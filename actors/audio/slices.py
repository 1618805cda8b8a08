"""Addresses of audio that is a part of another file, such as a member of a tar archive.

A recording in an archive is shown as `s3://bucket/x.tar#a/b.flac`. Planning looks up where the member begins,
and workers open `slice://START-END/s3://bucket/x.tar`, the bytes [START, END) of the archive, by range reads.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SLICE = "slice://"
CELL = "cell://"
_SLICE = re.compile(r"slice://(\d{1,18})-(\d{1,18})/(.+)", re.DOTALL)
_CELL = re.compile(r"cell://([^/]+)/(\d{1,9})/(\d{1,12})/(.+)", re.DOTALL)
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


def file_of(uri: str) -> str:
    """The address of the file whose bytes are read for `uri`."""
    if found := _SLICE.fullmatch(uri):
        return found[3]
    if found := _CELL.fullmatch(uri):
        return found[4]
    return member[0] if (member := parse_member(uri)) else uri
