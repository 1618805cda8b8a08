"""A file made of pieces of another one: a corrected header and the spans of bytes that belong behind it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from actors.audio.sources import AudioFile


class Extent(NamedTuple):
    """Bytes [start, end) of a file."""

    start: int
    end: int


class Blank(NamedTuple):
    """Bytes that the file does not have, all of the same value."""

    size: int
    byte: int


Piece = bytes | Extent | Blank


class _PieceReader:
    """The pieces as one object with the `seek`, `read` and `close` that an `AudioFile` needs."""

    def __init__(self, file: AudioFile, pieces: Sequence[Piece]) -> None:
        self._file, self._pieces = file, pieces
        sizes = [_size(piece) for piece in pieces]
        # The positions at which the pieces begin, and the end of the last one.
        self._starts = [0, *accumulate(sizes)]
        self._position = 0

    @property
    def size(self) -> int:
        return self._starts[-1]

    def seek(self, position: int) -> None:
        self._position = position

    def read(self, count: int) -> bytes:
        found = []
        while count > 0 and self._position < self.size:
            number = bisect_right(self._starts, self._position) - 1
            piece, inside = self._pieces[number], self._position - self._starts[number]
            wanted = min(count, self._starts[number + 1] - self._position)
            if isinstance(piece, bytes):
                data = piece[inside : inside + wanted]
            elif isinstance(piece, Blank):
                data = bytes((piece.byte,)) * wanted
            else:
                self._file.seek(piece.start + inside)
                data = self._file.read(wanted) or b""
            if not data:
                break
            found.append(data)
            self._position += len(data)
            count -= len(data)
        return found[0] if len(found) == 1 else b"".join(found)

    def close(self) -> None:
        """Leave the file open: it belongs to the caller."""


def _size(piece: Piece) -> int:
    if isinstance(piece, bytes):
        return len(piece)
    return piece.size if isinstance(piece, Blank) else piece.end - piece.start


def join_pieces(file: AudioFile, pieces: Sequence[Piece]) -> AudioFile:
    """A view of `file` that consists of these bytes, extents and blanks, in order.

    The view has the etag and the address of `file`, and a size of its own. It reads through `file`, which
    retries failed requests.
    """
    reader = _PieceReader(file, [piece for piece in pieces if _size(piece) > 0])
    return AudioFile(reader, reader.size, file.etag, file.uri, 0)


def read_at(file: AudioFile, place: int, count: int) -> bytes:
    """Up to `count` bytes from byte `place` on; fewer at the end of the file.

    The file stays where it was: ffmpeg, which may have it open, reads on from there without a seek.
    """
    position = file.tell()
    file.seek(place)
    data: bytes = file.read(count) or b""
    file.seek(position)
    return data
