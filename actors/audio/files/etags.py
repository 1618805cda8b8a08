"""What tells one version of a file from another: the etag of a store, or a digest of size and time."""

from __future__ import annotations

import hashlib
import os
from typing import Any


def is_s3(filesystem: Any) -> bool:
    """Whether a file system of fsspec is S3."""
    # `protocol` is one name or several.
    return "s3" in filesystem.protocol


def info_of(filesystem: Any, path: str) -> dict[str, Any]:
    """What a store says about an object now."""
    # A cached listing may be older than the object.
    found: dict[str, Any] = (
        filesystem.info(path, refresh=True) if is_s3(filesystem) else filesystem.info(path)
    )
    return found


def etag_of_info(info: dict[str, Any]) -> str:
    """The etag of an object, from what its store says about it."""
    etag = next((info[name] for name in ("ETag", "etag", "content_md5") if info.get(name)), None)
    if isinstance(etag, str):
        # A web server's etag may have any bytes. Those that are not UTF-8 come as lone surrogates, which
        # Arrow cannot store.
        return etag.strip('"').encode(errors="backslashreplace").decode()
    times = ("LastModified", "last_modified", "mtime", "updated", "created")
    modified = next((info[name] for name in times if info.get(name)), None)
    return _digest(info.get("size"), modified)


def local_etag(path: str, status: os.stat_result) -> str:
    """The etag of a local file."""
    # Each node unpacks what `ray job submit --working-dir` sends at another time, but into a folder named by
    # the content.
    return _digest(status.st_size, path if "/_ray_pkg_" in path else status.st_mtime_ns)


def _digest(size: Any, modified: Any) -> str:
    return hashlib.sha1(f"{size}:{modified}".encode(), usedforsecurity=False).hexdigest()[:20]
