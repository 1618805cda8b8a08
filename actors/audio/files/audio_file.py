"""An open file of audio, local or remote, or a part of one, that reads itself with bounded retries."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

from actors.audio.files.slices import Slice
from actors.errors import RowError
from actors.retries import read_with_retries


class AudioFile(io.RawIOBase):
    """A seekable, read-only binary file that knows its size and etag.

    Failed reads are retried where they stopped.

    Args:
        raw: the object to read from, with `seek`, `read` and `close`.
        size: in bytes.
        etag: of the object.
        uri: of the object, for messages.
        retries: attempts after a storage error; None takes the setting.
        current_etag: returns the etag of the object that is at `uri` now. None where only this object can be
            read.
    """

    def __init__(
        self,
        raw: Any,
        size: int,
        etag: str,
        uri: str,
        retries: int | None,
        current_etag: Callable[[], str] | None = None,
    ) -> None:
        super().__init__()
        self.size, self.etag, self.uri = size, etag, uri
        # The byte at which readers see the end of the file; `open_container` hides what follows a WAVE file's
        # samples.
        self.end = size
        self._raw, self._retries, self._position, self._current_etag = raw, retries, 0, current_etag
        # Whether the file was copied to the disk, because its server cannot send a part of it.
        self.is_copy = False
        # Whether it is a view of a film whose sound begins late, and the picture's time stamps jump.
        self.begins_late = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.end}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self._read(len(view))
        view[: len(data)] = data
        return len(data)

    def _read(self, count: int) -> bytes:
        count = min(count, self.end - self._position)
        if count <= 0:
            return b""

        def attempt() -> bytes:
            self._raw.seek(self._position)
            return self._raw.read(count)

        data = read_with_retries(attempt, self.uri, self._retries)
        self._position += len(data)
        return data

    def require_unchanged(self) -> None:
        """Check that all bytes were read from the object that was opened.

        Raises:
            RowError: audio_changed where the object was replaced since.
        """
        if self._current_etag is None:
            return
        now = read_with_retries(self._current_etag, self.uri, self._retries)
        if now != self.etag:
            raise RowError(
                f"{self.uri} changed while it was read: it was {self.etag}, now it is {now}", "audio_changed"
            )

    def part(self, part: Slice, uri: str, closes: bool) -> AudioFile:
        """A part of this file as a file.

        Args:
            part: its place in this file.
            uri: its address, for messages.
            closes: whether closing the part closes this file.

        Raises:
            RowError: audio_changed where this file ends before the part does.
        """
        if part.end > self.size:
            raise RowError(
                f"{uri} was planned in a longer file; now it has {self.size} bytes", "audio_changed"
            )
        raw = _PartReader(self, self._raw, part, closes)
        return AudioFile(raw, part.end - part.start, self.etag, uri, self._retries, self._current_etag)

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _PartReader:
    """A part of an open file, with the `seek`, `read` and `close` that an `AudioFile` needs."""

    def __init__(self, file: AudioFile, raw: Any, part: Slice, closes: bool) -> None:
        # The file must live as long as its part: files that nobody refers to are closed.
        self._file, self._raw, self._part, self._closes = file, raw, part, closes
        self._position = 0

    def seek(self, position: int) -> None:
        self._position = position

    def read(self, count: int) -> bytes:
        place = self._part.start + self._position
        self._raw.seek(place)
        data: bytes = self._raw.read(max(0, min(count, self._part.end - place)))
        self._position += len(data)
        return data

    def close(self) -> None:
        if self._closes:
            self._file.close()
