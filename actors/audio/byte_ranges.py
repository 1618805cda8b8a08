"""A remote object read by ranges, all of them whole and all of the same object."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any


class Ranges:
    """An object read by ranges, `block` bytes ahead.

    Args:
        fetch: gives the bytes from a first to before a last position.
        size: of the object in bytes.
        block: bytes fetched at least, unless the object ends.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size: int, block: int) -> None:
        self._fetch, self._size, self._block = fetch, size, block
        self._position, self._start, self._data = 0, 0, b""

    def seek(self, position: int) -> None:
        self._position = position

    def read(self, count: int) -> bytes:
        pieces = []
        while count > 0 and self._position < self._size:
            if not self._start <= self._position < self._start + len(self._data):
                end = min(self._size, self._position + max(count, self._block))
                self._data = whole(self._fetch(self._position, end), end - self._position)
                self._start = self._position
            first = self._position - self._start
            piece = self._data[first : first + count]
            pieces.append(piece)
            self._position += len(piece)
            count -= len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        self._data = b""


def read_s3(filesystem: Any, path: str, start: int, end: int, etag: str | None) -> bytes:
    """Bytes [start, end) of an object in S3, which must be the one with this etag."""
    from fsspec.asyn import sync

    async def body() -> bytes:
        bucket, key, version = filesystem.split_path(path)
        conditions = {"IfMatch": etag} if etag else {}
        if version:
            conditions["VersionId"] = version
        answer = await filesystem._call_s3(
            "get_object", Bucket=bucket, Key=key, Range=f"bytes={start}-{end - 1}", **conditions
        )
        try:
            data: bytes = await answer["Body"].read()
            return data
        finally:
            answer["Body"].close()

    data: bytes = sync(filesystem.loop, body) if end > start else b""
    return data


def whole(data: Any, size: int) -> Any:
    """`data` (bytes, or how many came), unless it is less than it should be: a store or something on the way to it cut the answer off."""
    got = data if isinstance(data, int) else len(data)
    if got < size:
        raise OSError(errno.EIO, f"the answer has {got} bytes instead of {size}")
    return data
