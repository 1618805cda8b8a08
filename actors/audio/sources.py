"""A local path or any fsspec URI as one seekable file, with bounded retries and clear errors.

A decoder reads 8 KiB at a time. To avoid one request per read, remote files are read ahead in blocks of about
1 MiB, and small objects are fetched in one request. All bytes of a file come from one and the same object: an
object that is replaced while it is read is an error, and so is a response that is shorter than it should be.
"""

from __future__ import annotations

import errno
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from actors.audio.files.audio_file import AudioFile
from actors.audio.files.byte_ranges import RangeReader, read_s3, require_complete, serves_ranges
from actors.audio.files.etags import etag_of_info, info_of, is_s3, local_etag
from actors.audio.files.names import hint_of
from actors.audio.files.slices import Slice, parse_cell, parse_member, parse_slice
from actors.errors import RowError
from actors.process.import_path import import_noted
from actors.process.limits import MAX_FILE_BYTES
from actors.retries import read_with_retries, s3_filesystem

__all__ = ["AudioFile", "etag_of", "open_audio", "open_file"]

# Bytes read ahead of a remote file.
BLOCK_BYTES = 1 << 20
# Remote objects up to this size are fetched in one request.
SINGLE_REQUEST_BYTES = 8 << 20
# Bytes copied to the disk of a worker at most: more than a day of stereo at CD quality, uncompressed.
MAX_COPY_BYTES = MAX_FILE_BYTES
# Bytes that a copy leaves free on the disk, because everything else on the worker needs some, too.
MIN_FREE_DISK_BYTES = 1 << 30


# The file that was read last, where the next recording is in it, too.
_open_files: list[AudioFile] = []


@contextmanager
def open_audio(
    uri: str,
    retries: int | None = None,
    block_size: int = BLOCK_BYTES,
    single_request_bytes: int = SINGLE_REQUEST_BYTES,
    keep_open: bool = False,
) -> Iterator[AudioFile]:
    """`open_file` for a `with` block, at the end of which the object must still be the same.

    Args:
        uri: see `open_file`; so are the others.
        retries: attempts.
        block_size: in bytes.
        single_request_bytes: in bytes.
        keep_open: this process reads the same file next, for another shard or recording: a remote one stays
            open with what was read of it. The next call ends that, whichever file it is for.

    Raises:
        RowError: audio_changed where the object was replaced before the block ended; and what `open_file`
            raises.
    """
    part = _part_of(uri, retries)
    address = part.address if part else uri
    whole = _take_open(address) or open_file(address, retries, block_size, single_request_bytes)
    try:
        file = whole.part(part, uri, closes=False) if part else whole
        yield file
        file.require_unchanged()
    except BaseException:
        whole.close()
        raise
    if keep_open and _local_path(address) is None:
        _open_files.append(whole)
    else:
        whole.close()


def _take_open(address: str) -> AudioFile | None:
    """The file that was kept open, if it is this one. Any other is closed."""
    while _open_files:
        file = _open_files.pop()
        if file.uri == address and not file.closed:
            file.end = file.size
            file.seek(0)
            return file
        file.close()
    return None


def _part_of(uri: str, retries: int | None) -> Slice | None:
    """The part of another file that an address names; None where it names a whole file."""
    part = parse_slice(uri)
    if part is not None:
        return part
    member = parse_member(uri)
    if member is None or ((path := _local_path(uri)) is not None and os.path.exists(path)):
        return None
    from actors.audio.files.tar_members import find_member

    return Slice(member[0], *find_member(*member, retries))


def open_file(
    uri: str,
    retries: int | None = None,
    block_size: int = BLOCK_BYTES,
    single_request_bytes: int = SINGLE_REQUEST_BYTES,
) -> AudioFile:
    """Open `uri` for reading.

    Args:
        uri: a local path or any URI that fsspec knows.
        retries: attempts after a storage error; None takes the setting.
        block_size: bytes read ahead of a remote file.
        single_request_bytes: remote objects of at most this many bytes are fetched in one request.

    Raises:
        RowError: audio_not_found, access_denied; while reading, audio_changed.
        RetryableError: storage_unavailable, after all retries.
        UsageError: a protocol that is unknown or whose library is not installed.
    """
    part = _part_of(uri, retries)
    if part is not None:
        return open_file(part.address, retries, block_size, single_request_bytes).part(part, uri, closes=True)
    return read_with_retries(lambda: _open(uri, retries, block_size, single_request_bytes), uri, retries)


def etag_of(uri: str, retries: int | None = None) -> tuple[str, int | None]:
    """The etag of an object and its size in bytes.

    The etag is the store's, or a digest of size and modification time where the store has none. The size is
    None where the store does not know it.
    """
    path = _local_path(uri)
    if path is not None:
        status = read_with_retries(lambda: os.stat(path), uri, retries)
        return local_etag(path, status), status.st_size

    def request() -> tuple[str, int | None]:
        filesystem, remote = _filesystem(uri)
        info = info_of(filesystem, remote)
        return etag_of_info(info), info.get("size")

    return read_with_retries(request, uri, retries)


def _open(uri: str, retries: int | None, block_size: int, single_request_bytes: int) -> AudioFile:
    path, cell = _local_path(uri), parse_cell(uri)
    if cell is not None and path is not None and not os.path.exists(path):
        path = None
    if path is not None:
        try:
            raw = open(path, "rb")  # noqa: SIM115 - AudioFile closes it
        except FileNotFoundError as error:
            raise FileNotFoundError(error.errno, f"{error.strerror}{hint_of(path)}", path) from None
        status = os.fstat(raw.fileno())
        return AudioFile(
            raw,
            status.st_size,
            local_etag(path, status),
            uri,
            retries,
            lambda: local_etag(path, os.fstat(raw.fileno())),
        )
    filesystem, remote = _filesystem(cell or uri)
    info = info_of(filesystem, remote)
    if info.get("type") == "directory":
        raise IsADirectoryError(errno.EISDIR, "is a folder", uri)
    size, etag = info.get("size"), etag_of_info(info)
    if is_s3(filesystem) and size is not None:
        # S3 itself guarantees that every range is of this object.
        reader = RangeReader(
            lambda start, end: read_s3(filesystem, remote, start, end, info.get("ETag")),
            size,
            size if size <= single_request_bytes else block_size,
        )
        if size <= single_request_bytes:
            reader.read(size)
        return AudioFile(reader, size, etag, uri, retries)
    if size is not None and size <= single_request_bytes:
        data = filesystem.cat_file(remote)
        require_complete(len(data), size)
        return AudioFile(io.BytesIO(data), len(data), etag, uri, retries)
    # A web server that gives no size or does not support ranges: the file is copied to the disk, because it
    # may not fit into memory.
    if size is None or ("http" in filesystem.protocol and not serves_ranges(filesystem, remote)):
        with filesystem.open(remote, "rb", block_size=0) as stream:
            copy = _copy(stream, uri, size)
        copied = AudioFile(copy, copy.tell(), etag, uri, retries)
        copied.is_copy = True
        return copied
    reader = RangeReader(
        lambda start, end: filesystem.cat_file(remote, start=start, end=end), size, block_size
    )
    return AudioFile(reader, size, etag, uri, retries, lambda: etag_of_info(info_of(filesystem, remote)))


def _copy(stream: Any, uri: str, size: int | None) -> Any:
    """Copy a stream to a temporary file, which is returned at its end.

    The size that a server gives is not trusted: it may send without end.

    Raises:
        RowError: too_long, or storage_unavailable where the disk has no room for it.
    """
    if size is not None and size > MAX_COPY_BYTES:
        raise _too_large(uri, f"has {size} bytes")
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - its reader closes it
    try:
        while data := stream.read(BLOCK_BYTES):
            if copy.tell() + len(data) > MAX_COPY_BYTES:
                raise _too_large(uri, "does not end")
            disk = os.fstatvfs(copy.fileno())
            if disk.f_bavail * disk.f_frsize < MIN_FREE_DISK_BYTES:
                raise RowError(
                    f"{uri} has to be copied, because its server does not support range requests, but "
                    f"{tempfile.gettempdir()} has less than {MIN_FREE_DISK_BYTES >> 20} MiB left",
                    "storage_unavailable",
                )
            copy.write(data)
        require_complete(copy.tell(), size or 0)
    except BaseException:
        copy.close()
        raise
    return copy


def _too_large(uri: str, problem: str) -> RowError:
    return RowError(
        f"{uri} {problem}, its server does not support range requests, and at most "
        f"{MAX_COPY_BYTES >> 20} MiB are copied: store it where ranges can be read",
        "too_long",
    )


def _local_path(uri: str) -> str | None:
    """The path of a local file; None for everything else."""
    if uri[: len("file://")].lower() == "file://":
        return uri[len("file://") :]
    return None if "://" in uri or "::" in uri else uri


def _filesystem(uri: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    import_noted()
    scheme, mark, rest = uri.partition("://")
    if mark and "::" not in scheme:
        # Schemes are case-insensitive, but not for fsspec.
        uri = scheme.lower() + mark + rest
    if not uri.startswith(("s3://", "s3a://")):
        return url_to_fs(uri)
    filesystem = s3_filesystem()
    return filesystem, filesystem._strip_protocol(uri)
