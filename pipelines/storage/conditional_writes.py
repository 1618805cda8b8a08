"""Compare-and-set for objects: `If-None-Match` and `If-Match` in S3, write and read back in other stores."""

from __future__ import annotations

import time
from typing import Any

from actors.retries import call_with_retries
from pipelines.storage import files
from pipelines.storage.filesystems import call_store, storage_error

# Attempts after the first one: about six seconds of back-off.
MORE_ATTEMPTS = 4
# Timeout of one request to S3, in seconds. The objects have a few hundred bytes, and a lease expires soon.
ATTEMPT_SECONDS = 8.0
# Seconds between the write and the read back, in stores without conditional writes.
SETTLE_SECONDS = 1.0


def read(uri: str) -> tuple[bytes, str | None] | None:
    """Read an object's bytes and its etag (None if the store has no etags); None if there is no object."""
    store, path = files.filesystem(uri)
    limit = {"timeout": ATTEMPT_SECONDS} if "s3" in store.protocol else {}
    try:
        etag = call_store("look for", uri, lambda: store.info(path, **limit)).get("ETag")
        data: bytes = call_store("read", uri, lambda: store.cat_file(path, **limit))
        return data, etag.strip('"') if isinstance(etag, str) else None
    except FileNotFoundError:
        return None


def create(uri: str, data: bytes) -> str | None:
    """Write an object that must not exist yet.

    Returns:
        The new etag (empty if the store has no etags), or None if another writer was faster.
    """
    return _write(uri, data, None, True)


def replace(uri: str, data: bytes, before: bytes, etag: str | None, *, settle: bool = False) -> str | None:
    """Replace an object that this process has read or written before.

    Args:
        uri: the object.
        data: its new content.
        before: the content that it must still have.
        etag: the etag of that content, if known.
        settle: whether others may be replacing it at the same moment. In a store without conditional writes,
            the result is then read back only after `SETTLE_SECONDS`.

    Returns:
        The new etag (empty if the store has no etags), or None if another writer has changed it in the
        meantime.
    """
    return _write(uri, data, (before, etag), settle)


def _write(uri: str, data: bytes, expected: tuple[bytes, str | None] | None, settle: bool) -> str | None:
    store, path = files.filesystem(uri)
    if "s3" in store.protocol and (expected is None or expected[1]):
        condition: dict[str, Any] = (
            {"mode": "create"} if expected is None else {"IfMatch": f'"{expected[1]}"'}
        )
        try:
            # A retry after a lost response conflicts with its own earlier write; that is sorted out below.
            # Few attempts only, because a lease expires soon.
            written = call_with_retries(
                lambda: store.pipe_file(path, data, timeout=ATTEMPT_SECONDS, **condition), MORE_ATTEMPTS
            )
            return str(written["ETag"]).strip('"')
        except Exception as error:
            # When creating an object, "not found" refers to the bucket.
            if not _is_conflict(error) or (expected is None and isinstance(error, FileNotFoundError)):
                raise storage_error("write", uri, error) from error
        # The object may be our own, if the response to an earlier attempt was lost.
        found = read(uri)
        return (found[1] or "") if found and found[0] == data else None
    found = read(uri)
    if (found and found[0]) != (expected and expected[0]):
        return None
    files.write_atomic(uri, data)
    if settle:
        time.sleep(SETTLE_SECONDS)
    found = read(uri)
    return (found[1] or "") if found and found[0] == data else None


def _is_conflict(error: BaseException) -> bool:
    """Whether the store answered that the condition of a write does not hold."""
    current: BaseException | None = error
    while current is not None:
        response = getattr(current, "response", None)
        code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
        if isinstance(current, FileExistsError) or code in (
            "PreconditionFailed",
            "ConditionalRequestConflict",
            "NoSuchKey",
            "412",
            "409",
        ):
            return True
        current = current.__cause__
    return (
        isinstance(error, FileNotFoundError)
        or "PreconditionFailed" in str(error)
        or "pre-conditions" in str(error)
    )
