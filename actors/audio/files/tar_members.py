"""The members of a tar archive, found by its headers alone: nothing is unpacked.

The archive is read through a seekable file, so that on an object store only the headers are fetched, and what
a read-ahead brings along.
"""

from __future__ import annotations

import logging
import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from actors.audio.sources import AudioFile, open_audio
from actors.errors import RowError

logger = logging.getLogger(__name__)

_BLOCK = tarfile.BLOCKSIZE
# Bytes of zeros behind the end mark after which nothing more is expected: tar pads archives to 10 KiB.
_MAX_PADDING = 64 << 20
# Bytes of one header, with a long name or other attributes.
_MAX_HEADER = 16 << 20
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"(\xb5/\xfd": "zstd"}


class TarError(Exception):
    """The archive cannot be read. The message says where and why."""


@dataclass(frozen=True, slots=True)
class TarMember:
    """A regular file in an archive: bytes [start, end) of it."""

    name: str
    start: int
    end: int


def walk_members(file: AudioFile) -> Iterator[TarMember]:
    """The regular files of an archive in its order, from its headers, and links to them under their names.

    Archives that were joined byte for byte are read to the end of the last one.

    Raises:
        TarError: the file is compressed or no tar archive, a header is damaged, or the file ends too early.
    """
    head = file.read(8)
    for magic, name in _COMPRESSED.items():
        if head.startswith(magic):
            raise TarError(
                f"the archive is compressed ({name}), and its members cannot be read by their place in it; "
                f"store it uncompressed: audio does not get smaller"
            )
    spans: dict[str, tuple[int, int]] = {}
    passed_over = 0
    origin: int | None = 0
    while origin is not None:
        position = origin
        try:
            with tarfile.open(fileobj=cast(Any, _From(file, origin)), mode="r:") as archive:
                while (info := archive.next()) is not None:
                    # The list that `tarfile` keeps grows with the archive.
                    archive.members = []  # type: ignore[attr-defined]
                    start = origin + info.offset_data
                    if start + info.size > file.size:
                        raise TarError(
                            f"the archive is cut off: {info.name!r} should end at byte {start + info.size}, "
                            f"but there are {file.size}"
                        )
                    span = (start, start + info.size)
                    if info.islnk() or info.issym():
                        span = spans.get(_target(info), (-1, -1))
                    if info.isdir():
                        continue
                    if info.issparse() or info.isdev() or span[0] < 0:
                        passed_over += 1
                        continue
                    spans[posixpath.normpath(info.name)] = span
                    yield TarMember(_readable(info.name), *span)
                position = origin + archive.offset
        except tarfile.TarError as error:
            raise TarError(f"not a readable tar archive ({error})") from None
        origin = _next_archive(file, position)
    if passed_over:
        logger.warning(
            "%s: %d members passed over: links to other files, sparse files or devices", file.uri, passed_over
        )


def _target(link: tarfile.TarInfo) -> str:
    """The name of the member that a link means: of a symbolic one relative to its folder."""
    folder = posixpath.dirname(link.name) if link.issym() else ""
    return posixpath.normpath(posixpath.join(folder, link.linkname))


def find_member(uri: str, name: str, retries: int | None = None) -> tuple[int, int]:
    """The bytes [start, end) of the member `name` in the archive at `uri`, found by walking its headers.

    Raises:
        RowError: audio_not_found where it has no such member, not_audio where the archive is not readable.
        RetryableError: storage_unavailable.
    """
    with open_audio(uri, retries) as file:
        try:
            # The last of several members with one name replaces the ones before it.
            found = [member for member in walk_members(file) if member.name == name]
        except TarError as error:
            raise RowError(f"{uri}: {error}", "not_audio") from None
    if not found:
        raise RowError(f"{uri} has no member {name!r}", "audio_not_found")
    return found[-1].start, found[-1].end


def _next_archive(file: AudioFile, position: int) -> int | None:
    """Where another archive begins behind the end mark at `position`; None where there is none."""
    file.seek(position)
    block = file.read(_BLOCK)
    if not block:
        logger.warning("%s has no end mark; members may be missing", file.uri)
        return None
    if any(block):
        raise TarError(f"the header at byte {position} is damaged; what is behind it cannot be found")
    first = position
    while block and position - first <= _MAX_PADDING:
        if any(block):
            offset = next(number for number, byte in enumerate(block) if byte)
            return position + offset // _BLOCK * _BLOCK
        position += len(block)
        block = file.read(64 * _BLOCK)
    return None


def _readable(name: str) -> str:
    """A member's name as valid Unicode."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


class _From:
    """A file from the byte `origin` on, for `tarfile`."""

    def __init__(self, file: AudioFile, origin: int) -> None:
        self._file, self._origin = file, origin
        file.seek(origin)

    def read(self, count: int) -> bytes:
        if count > _MAX_HEADER:
            raise TarError(f"a header of {count} bytes; the archive is damaged")
        return self._file.read(count)

    def seek(self, position: int, whence: int = 0) -> int:
        return self._file.seek(position + (self._origin if whence == 0 else 0), whence) - self._origin

    def tell(self) -> int:
        return self._file.tell() - self._origin

    def close(self) -> Any:
        """The file stays open for its owner."""
