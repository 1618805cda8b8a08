"""Audio bytes from anywhere: a local path or any fsspec URI as one seekable file, with bounded retries and errors that say what is wrong.

Reading a span out of the middle of a large object must not cost one request per read of a decoder (8 KiB each): remote files are read ahead in
blocks of about 1 MiB, and small objects come in one request.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, TypeVar

from actors.errors import RetryableError, RowError, ScriptoriumError, UsageError

BLOCK = 1 << 20  # bytes read ahead of a remote file
WHOLE = 8 << 20  # remote objects up to this size come in one request
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 30.0  # seconds of back-off
_MISSING = {errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}

T = TypeVar("T")


class AudioFile(io.RawIOBase):
    """A seekable, read-only binary file that knows its size and etag; failing reads are tried again where they stopped."""

    def __init__(self, raw: BinaryIO, size: int, etag: str, uri: str, retries: int) -> None:
        super().__init__()
        self.size, self.etag, self.uri = size, etag, uri
        self._raw, self._retries, self._position = raw, retries, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self._read(len(view))
        view[: len(data)] = data
        return len(data)

    def _read(self, count: int) -> bytes:
        if self._position >= self.size:
            return b""

        def attempt() -> bytes:
            self._raw.seek(self._position)
            return self._raw.read(count)

        data = with_retries(attempt, self.uri, self._retries)
        self._position += len(data)
        return data

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


@contextmanager
def open_audio(uri: str, retries: int = 4, block_size: int = BLOCK, whole: int = WHOLE) -> Iterator[AudioFile]:
    """Open `uri` for reading.

    Args:
        uri: a local path or anything fsspec knows.
        retries: attempts after a storage error.
        block_size: bytes read ahead of a remote file.
        whole: remote objects of at most this many bytes come in one request.

    Raises:
        RowError: audio_not_found or access_denied.
        RetryableError: storage_unavailable, after all retries.
        UsageError: a protocol that is unknown or whose library is not installed.
    """
    file = with_retries(lambda: _open(uri, retries, block_size, whole), uri, retries)
    try:
        yield file
    finally:
        file.close()


def etag_of(uri: str, retries: int = 4) -> tuple[str, int | None]:
    """The object's etag (the store's, else a digest of size and modification time) and its size in bytes (None where the store does not say)."""
    path = _local(uri)
    if path is not None:
        status = with_retries(lambda: os.stat(path), uri, retries)
        return _digest(status.st_size, status.st_mtime_ns), status.st_size

    def ask() -> tuple[str, int | None]:
        filesystem, remote = _filesystem(uri)
        info = _info(filesystem, remote)
        return _etag(info), info.get("size")

    return with_retries(ask, uri, retries)


def with_retries(action: Callable[[], T], uri: str, retries: int) -> T:
    """Run `action` up to `1 + retries` times with exponential back-off and jitter while the store hiccups; other errors come at once."""
    for attempt in range(retries + 1):
        try:
            return action()
        except Exception as error:
            known = classify(error, uri)
            if not isinstance(known, RetryableError) or attempt == retries:
                raise known from error
            delay = min(_LONGEST_DELAY, _FIRST_DELAY * 2**attempt)
            time.sleep(delay * random.uniform(0.5, 1.0))
    raise AssertionError("unreachable")


def classify(error: BaseException, uri: str) -> BaseException:
    """Name a storage error: `RowError` where another attempt is useless, `RetryableError` where it may help, itself where it is not ours."""
    if isinstance(error, ScriptoriumError | MemoryError):
        return error
    said = " ".join(str(error).split()) or type(error).__name__
    status = _http_status(error)
    if isinstance(error, ImportError) or (isinstance(error, ValueError) and "rotocol not known" in said):
        return UsageError(f"cannot open {uri}: {said}")
    if isinstance(error, PermissionError) or status in (401, 403) or "Credentials" in type(error).__name__:
        return RowError(f"the store refuses access to {uri}: {said}", "access_denied")
    if isinstance(error, FileNotFoundError) or status in (404, 410) or getattr(error, "errno", None) in _MISSING:
        return RowError(f"there is nothing at {uri}: {said}", "audio_not_found")
    if status is not None and 400 <= status < 500 and status not in (408, 425, 429):
        return RowError(f"the store refuses the request for {uri}: {said}", "storage_unavailable")
    if (
        status is not None
        or isinstance(error, OSError | EOFError)
        or type(error).__module__.split(".")[0] in ("botocore", "aiobotocore", "aiohttp", "fsspec")
    ):
        return RetryableError(f"reading {uri} failed: {type(error).__name__}: {said}", "storage_unavailable")
    return error


def _http_status(error: BaseException) -> int | None:
    """The HTTP status behind an error of aiohttp, botocore or whatever wraps them."""
    current: BaseException | None = error
    while current is not None:
        status = getattr(current, "status", None)
        response = getattr(current, "response", None)
        if status is None and isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if isinstance(status, int):
            return status
        current = current.__cause__
    return None


def _open(uri: str, retries: int, block_size: int, whole: int) -> AudioFile:
    path = _local(uri)
    if path is not None:
        raw = open(path, "rb")  # noqa: SIM115 - AudioFile closes it
        status = os.fstat(raw.fileno())
        return AudioFile(raw, status.st_size, _digest(status.st_size, status.st_mtime_ns), uri, retries)
    filesystem, remote = _filesystem(uri)
    info = _info(filesystem, remote)
    if info.get("type") == "directory":
        raise IsADirectoryError(errno.EISDIR, "is a folder", uri)
    size = info.get("size")
    if size is not None and size <= whole:
        # With its bounds known, s3fs need not ask for the size again.
        data = filesystem.cat_file(remote, start=0, end=size) if "s3" in filesystem.protocol and size else filesystem.cat_file(remote)
        return AudioFile(io.BytesIO(data), len(data), _etag(info), uri, retries)
    # A web server that tells no size or knows no ranges: the file must come as a whole, but not into memory.
    if size is None or ("http" in filesystem.protocol and not info.get("partial")):
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - AudioFile closes it
        with filesystem.open(remote, "rb", block_size=0) as stream:
            shutil.copyfileobj(stream, copy, BLOCK)
        return AudioFile(copy, copy.tell(), _etag(info), uri, retries)
    known = {"size": size} if {"s3", "http"} & set(filesystem.protocol) else {}  # saves those a second request for the size
    opened = filesystem.open(remote, "rb", block_size=block_size, cache_type="readahead", **known)
    return AudioFile(opened, size, _etag(info), uri, retries)


def _local(uri: str) -> str | None:
    """The path of a local file; None for everything else."""
    if uri.startswith("file://"):
        return uri[len("file://") :]
    return None if "://" in uri or "::" in uri else uri


def _filesystem(uri: str) -> tuple[Any, str]:
    import fsspec
    from fsspec.config import conf
    from fsspec.core import url_to_fs

    if uri.split("://")[0] not in ("s3", "s3a"):
        return url_to_fs(uri)
    # botocore and s3fs both retry on their own, which multiplies: they try twice, the rest is ours and bounded.
    settings = {"connect_timeout": 20, "read_timeout": 60, "retries": {"max_attempts": 1}, **conf.get("s3", {}).get("config_kwargs", {})}
    filesystem = fsspec.filesystem("s3", config_kwargs=settings)
    filesystem.retries = 1
    return filesystem, filesystem._strip_protocol(uri)


def _info(filesystem: Any, path: str) -> dict[str, Any]:
    # A listing that the filesystem remembers may be older than the object.
    if "s3" in filesystem.protocol:  # the protocol of a filesystem is a name or several
        return filesystem.info(path, refresh=True)
    return filesystem.info(path)


def _etag(info: dict[str, Any]) -> str:
    etag = next((info[name] for name in ("ETag", "etag", "content_md5") if info.get(name)), None)
    if isinstance(etag, str):
        return etag.strip('"')
    changed = next((info[name] for name in ("LastModified", "last_modified", "mtime", "updated", "created") if info.get(name)), None)
    return _digest(info.get("size"), changed)


def _digest(size: Any, changed: Any) -> str:
    return hashlib.sha1(f"{size}:{changed}".encode(), usedforsecurity=False).hexdigest()[:20]
