"""Uploaded files, stored in a temporary folder of the server while they are transcribed."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from starlette.datastructures import UploadFile

from pipelines.serving.web.errors import unavailable

COPY_BYTES = 1 << 20  # read or written at once
_DISK_FULL_RETRY = 30.0  # seconds after which a client may retry when the disk is full


@dataclass(frozen=True)
class StoredUpload:
    """A client's file on the server's disk."""

    path: str  # chosen by the server
    name: str  # given by the client: data only, never part of a path
    size: int  # bytes


class UploadStore:
    """A temporary folder for uploads, removed when the server ends."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="scriptorium-serve-")

    @asynccontextmanager
    async def store(self, source: UploadFile | BinaryIO | bytes, name: str) -> AsyncIterator[StoredUpload]:
        """Write `source` to a file that exists for the life of a `with` block.

        Raises:
            Problem: 503 if the disk is full.
        """
        with reporting_full_disk():
            number, path = tempfile.mkstemp(dir=self._folder)
        os.close(number)
        try:
            with reporting_full_disk():
                await asyncio.to_thread(
                    _write, source.file if isinstance(source, UploadFile) else source, path
                )
            if isinstance(source, UploadFile):
                await source.close()  # one copy on disk is enough
            del source  # and none in memory
            yield StoredUpload(path, name[:200] or "audio", os.path.getsize(path))
        finally:
            # If the caller was cancelled, the thread may still write: the unlinked file is freed when it is
            # done.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def close(self) -> None:
        """Remove the folder and its contents."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def names(self) -> list[str]:
        """Names of the files that are stored now."""
        return [path.name for path in Path(self._folder).iterdir()]


@contextmanager
def reporting_full_disk() -> Iterator[None]:
    """Turn a full disk in the `with` block into a 503, so that the client retries.

    Raises:
        Problem: 503.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise unavailable(
            "the server's disk has no space for this file now", _DISK_FULL_RETRY, "disk_full"
        ) from None


def _write(source: BinaryIO | bytes, path: str) -> None:
    """Write to an existing file. A file that was removed meanwhile is not created again."""
    with open(path, "r+b") as file:
        if isinstance(source, bytes):
            file.write(source)
        else:
            source.seek(0)
            shutil.copyfileobj(source, file, COPY_BYTES)
