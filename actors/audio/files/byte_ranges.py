"""Reads of a remote object by ranges, each of which must be complete and of the same object."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

# Blocks of a file that a reader remembers, so that going back and forth between the header, an index and the
# audio does not fetch them again.
REMEMBERED_BLOCKS = 8


class RangeReader:
    """A remote object that is read by ranges, ahead of its reader. Has the `seek` and `read` of a file.

    Args:
        fetch: returns bytes [start, end) of the object.
        size: of the object in bytes.
        block: bytes per request at least, except at the end of the object.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size: int, block: int) -> None:
        self._fetch, self._size, self._block = fetch, size, block
        self._position = 0
        # (start, bytes), the block that was used last at the end.
        self._blocks: list[tuple[int, bytes]] = []

    def seek(self, position: int) -> None:
        self._position = position

    def read(self, count: int) -> bytes:
        pieces = []
        while count > 0 and self._position < self._size:
            start, data = self._block_at(self._position, count)
            first = self._position - start
            piece = data[first : first + count]
            pieces.append(piece)
            self._position += len(piece)
            count -= len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        self._blocks = []

    def _block_at(self, position: int, count: int) -> tuple[int, bytes]:
        for number in range(len(self._blocks) - 1, -1, -1):
            start, data = self._blocks[number]
            if start <= position < start + len(data):
                self._blocks.append(self._blocks.pop(number))
                return self._blocks[-1]
        end = min(self._size, position + max(count, self._block))
        data = self._fetch(position, end)
        require_complete(len(data), end - position)
        self._blocks.append((position, data))
        while len(self._blocks) > 1 and (
            sum(len(block) for _, block in self._blocks) > REMEMBERED_BLOCKS * self._block
        ):
            del self._blocks[0]
        return self._blocks[-1]


def read_s3(filesystem: Any, path: str, start: int, end: int, etag: str | None) -> bytes:
    """Bytes [start, end) of the object in S3 that has this etag."""
    from fsspec.asyn import sync

    async def body() -> bytes:
        bucket, key, version = filesystem.split_path(path)
        conditions = {"IfMatch": etag} if etag else {}
        if version:
            conditions["VersionId"] = version
        response = await filesystem._call_s3(
            "get_object", Bucket=bucket, Key=key, Range=f"bytes={start}-{end - 1}", **conditions
        )
        try:
            data: bytes = await response["Body"].read()
            return data
        finally:
            response["Body"].close()

    data: bytes = sync(filesystem.loop, body) if end > start else b""
    return data


def serves_ranges(filesystem: Any, url: str) -> bool:
    """Whether a web server sends a part of this file when it is asked for one."""
    from fsspec.asyn import sync

    async def ask() -> bool:
        session = await filesystem.set_session()
        headers = {**filesystem.kwargs.get("headers", {}), "Range": "bytes=0-0"}
        options = {**filesystem.kwargs, "headers": headers}
        # The body, which may be the whole file, is not read.
        async with session.get(filesystem.encode_url(url), **options) as response:
            response.raise_for_status()
            return bool(response.status == 206)

    return bool(sync(filesystem.loop, ask))


def require_complete(received: int, expected: int) -> None:
    """Check the number of bytes of a response.

    Raises:
        OSError: EIO where the store, or something on the way to it, cut the response off.
    """
    if received < expected:
        raise OSError(errno.EIO, f"the response has {received} bytes instead of {expected}")
