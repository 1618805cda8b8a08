"""Audio bytes from anywhere: a local path or any fsspec URI as one seekable file, with bounded retries and errors that say what is wrong.

Reading a span out of the middle of a large object must not cost one request per read of a decoder (8 KiB each): remote files are read ahead in
blocks of about 1 MiB, and small objects come in one request. All of a file's bytes are of one and the same object: one that is replaced while it
is read is an error, and so is an answer that is shorter than it should be.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from actors.audio.byte_ranges import Ranges, read_s3
from actors.audio.byte_ranges import whole as whole_answer
from actors.errors import RowError
from actors.retries import s3_filesystem, with_retries

BLOCK = 1 << 20  # bytes read ahead of a remote file
WHOLE = 8 << 20  # remote objects up to this size come in one request
LARGEST_COPY = (
    16 << 30
)  # bytes copied to the disk of a worker at most: more than a day of stereo at CD quality, uncompressed
SPARE_DISK = 1 << 30  # bytes that a copy leaves free there: all else on the worker needs some, too


class AudioFile(io.RawIOBase):
    """A seekable, read-only binary file that knows its size and etag; failing reads are tried again where they stopped.

    Args:
        raw: what to read from: `seek`, `read`, `close`.
        size: in bytes.
        etag: of the object.
        uri: where it is, for messages.
        retries: attempts after a storage error; None: the setting.
        current_etag: tells the etag of what stands there now; None where nothing but this object can have been read.
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
        self.end = size  # byte at which readers are told that it ends
        self._raw, self._retries, self._position, self._current_etag = raw, retries, 0, current_etag

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

        data = with_retries(attempt, self.uri, self._retries)
        self._position += len(data)
        return data

    def require_unchanged(self) -> None:
        """Raises: RowError audio_changed where the object was replaced since it was opened, so that what was read may be of both."""
        if self._current_etag is None:
            return
        now = with_retries(self._current_etag, self.uri, self._retries)
        if now != self.etag:
            raise RowError(
                f"{self.uri} changed while it was read: it was {self.etag}, now it is {now}", "audio_changed"
            )

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


@contextmanager
def open_audio(
    uri: str, retries: int | None = None, block_size: int = BLOCK, whole: int = WHOLE
) -> Iterator[AudioFile]:
    """`open_file` for a `with` block, which must leave the object as it is.

    Raises:
        RowError: audio_changed where the object is replaced before the block ends; and what `open_file` raises.
    """
    file = open_file(uri, retries, block_size, whole)
    try:
        yield file
        file.require_unchanged()
    finally:
        file.close()


def open_file(uri: str, retries: int | None = None, block_size: int = BLOCK, whole: int = WHOLE) -> AudioFile:
    """Open `uri` for reading.

    Args:
        uri: a local path or anything fsspec knows.
        retries: attempts after a storage error; None: the setting.
        block_size: bytes read ahead of a remote file.
        whole: remote objects of at most this many bytes come in one request.

    Raises:
        RowError: audio_not_found, access_denied; while reading, audio_changed.
        RetryableError: storage_unavailable, after all retries.
        UsageError: a protocol that is unknown or whose library is not installed.
    """
    return with_retries(lambda: _open(uri, retries, block_size, whole), uri, retries)


def etag_of(uri: str, retries: int | None = None) -> tuple[str, int | None]:
    """The object's etag (the store's, else a digest of size and modification time) and its size in bytes (None where the store does not say)."""
    path = _local(uri)
    if path is not None:
        status = with_retries(lambda: os.stat(path), uri, retries)
        return _digest_of(path, status), status.st_size

    def ask() -> tuple[str, int | None]:
        filesystem, remote = _filesystem(uri)
        info = _info(filesystem, remote)
        return _etag(info), info.get("size")

    return with_retries(ask, uri, retries)


def _open(uri: str, retries: int | None, block_size: int, whole: int) -> AudioFile:
    path = _local(uri)
    if path is not None:
        raw = open(path, "rb")  # noqa: SIM115 - AudioFile closes it
        status = os.fstat(raw.fileno())
        return AudioFile(
            raw,
            status.st_size,
            _digest_of(path, status),
            uri,
            retries,
            lambda: _digest_of(path, os.fstat(raw.fileno())),
        )
    filesystem, remote = _filesystem(uri)
    info = _info(filesystem, remote)
    if info.get("type") == "directory":
        raise IsADirectoryError(errno.EISDIR, "is a folder", uri)
    size, etag = info.get("size"), _etag(info)
    if _is_s3(filesystem) and size is not None:
        # S3 itself sees to it that every range is of the object that was asked about.
        ranges = Ranges(
            lambda start, end: read_s3(filesystem, remote, start, end, info.get("ETag")),
            size,
            size if size <= whole else block_size,
        )
        if size <= whole:
            ranges.read(size)
        return AudioFile(ranges, size, etag, uri, retries)
    if size is not None and size <= whole:
        data = whole_answer(filesystem.cat_file(remote), size)
        return AudioFile(io.BytesIO(data), len(data), etag, uri, retries)
    # A web server that tells no size or knows no ranges: the file must come as a whole, but not into memory.
    if size is None or ("http" in filesystem.protocol and not info.get("partial")):
        with filesystem.open(remote, "rb", block_size=0) as stream:
            copy = _copied(stream, uri, size)
        return AudioFile(copy, copy.tell(), etag, uri, retries)
    ranges = Ranges(lambda start, end: filesystem.cat_file(remote, start=start, end=end), size, block_size)
    return AudioFile(ranges, size, etag, uri, retries, lambda: _etag(_info(filesystem, remote)))


def _copied(stream: Any, uri: str, size: int | None) -> Any:
    """A temporary file with all that a stream gives, at its end. A server may send without end, whatever it says.

    Raises:
        RowError: too_long, or storage_unavailable where there is no room for it.
    """
    if size is not None and size > LARGEST_COPY:
        raise _too_large(uri, f"has {size} bytes")
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - its reader closes it
    try:
        while data := stream.read(BLOCK):
            if copy.tell() + len(data) > LARGEST_COPY:
                raise _too_large(uri, "goes on and on")
            disk = os.fstatvfs(copy.fileno())
            if disk.f_bavail * disk.f_frsize < SPARE_DISK:
                place = f"{tempfile.gettempdir()} has less than {SPARE_DISK >> 20} MiB left"
                raise RowError(
                    f"{uri} has to be copied, because its server knows no ranges, but {place}",
                    "storage_unavailable",
                )
            copy.write(data)
        whole_answer(copy.tell(), size or 0)
    except BaseException:
        copy.close()
        raise
    return copy


def _too_large(uri: str, what: str) -> RowError:
    return RowError(
        f"{uri} {what}, its server knows no ranges, and at most {LARGEST_COPY >> 20} MiB of it are copied: put it where parts can be read",
        "too_long",
    )


def _local(uri: str) -> str | None:
    """The path of a local file; None for everything else."""
    if uri.startswith("file://"):
        return uri[len("file://") :]
    return None if "://" in uri or "::" in uri else uri


def _filesystem(uri: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    if uri.split("://")[0] not in ("s3", "s3a"):
        return url_to_fs(uri)
    filesystem = s3_filesystem()
    return filesystem, filesystem._strip_protocol(uri)


def _is_s3(filesystem: Any) -> bool:
    return "s3" in filesystem.protocol  # a name, or several


def _info(filesystem: Any, path: str) -> dict[str, Any]:
    # A listing that the filesystem remembers may be older than the object.
    if _is_s3(filesystem):
        return filesystem.info(path, refresh=True)
    return filesystem.info(path)


def _etag(info: dict[str, Any]) -> str:
    etag = next((info[name] for name in ("ETag", "etag", "content_md5") if info.get(name)), None)
    if isinstance(
        etag, str
    ):  # a web server's may have any bytes, which come as half characters: Arrow cannot hold them
        return etag.strip('"').encode(errors="backslashreplace").decode()
    changed = next(
        (
            info[name]
            for name in ("LastModified", "last_modified", "mtime", "updated", "created")
            if info.get(name)
        ),
        None,
    )
    return _digest(info.get("size"), changed)


def _digest_of(path: str, status: os.stat_result) -> str:
    # What `ray job submit --working-dir` sends, each node unpacks at its own time, into a folder named by the content.
    return _digest(status.st_size, path if "/_ray_pkg_" in path else status.st_mtime_ns)


def _digest(size: Any, changed: Any) -> str:
    return hashlib.sha1(f"{size}:{changed}".encode(), usedforsecurity=False).hexdigest()[:20]
