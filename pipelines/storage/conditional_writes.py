"""Writing an object only if nobody else has: `If-None-Match` and `If-Match` in S3, write-and-look-again in other stores."""

from __future__ import annotations

import time
from typing import Any

from actors.retries import retried
from pipelines.storage import files
from pipelines.storage.requests import ask, trouble

ATTEMPTS_MORE = 4  # after the first, some six seconds of back-off
ATTEMPT_SECONDS = 8.0  # that one request to S3 may take: a few hundred bytes, and a lease has a short life
SETTLE_SECONDS = 1.0  # between writing and looking again, where a store knows no conditions


def look(uri: str) -> tuple[bytes, str | None] | None:
    """An object's bytes and, where the store has one, its etag; None where there is no object."""
    store, path = files.filesystem(uri)
    limit = {"timeout": ATTEMPT_SECONDS} if "s3" in store.protocol else {}
    try:
        etag = ask("look for", uri, lambda: store.info(path, **limit)).get("ETag")
        data: bytes = ask("read", uri, lambda: store.cat_file(path, **limit))
        return data, etag.strip('"') if isinstance(etag, str) else None
    except FileNotFoundError:
        return None


def create(uri: str, data: bytes) -> str | None:
    """Write an object where there is none; its etag (empty where the store has none), or None where somebody was faster."""
    return _write(uri, data, None, True)


def replace(uri: str, data: bytes, before: bytes, etag: str | None, *, settle: bool = False) -> str | None:
    """Write an object over the one that was looked at, or that we wrote; the new etag, or None where somebody else has written it since.

    Args:
        uri: the object.
        data: its new content.
        before: the content that it must still have.
        etag: the etag of that content, where it is known.
        settle: others may do the same at this moment: where the store knows no conditions, wait before looking whose content stands there.
    """
    return _write(uri, data, (before, etag), settle)


def _write(uri: str, data: bytes, expected: tuple[bytes, str | None] | None, settle: bool) -> str | None:
    store, path = files.filesystem(uri)
    if "s3" in store.protocol and (expected is None or expected[1]):
        condition: dict[str, Any] = (
            {"mode": "create"} if expected is None else {"IfMatch": f'"{expected[1]}"'}
        )
        try:
            # Tried again after an answer that got lost, it finds its own work there: below. Not for long: a lease has a short life.
            written = retried(
                lambda: store.pipe_file(path, data, timeout=ATTEMPT_SECONDS, **condition), ATTEMPTS_MORE
            )
            return str(written["ETag"]).strip('"')
        except Exception as error:
            # Where there is nothing yet, "not found" is the bucket.
            if not _is_conflict(error) or (expected is None and isinstance(error, FileNotFoundError)):
                raise trouble("write", uri, error) from error
        found = look(uri)  # it may be ours: an answer that got lost on its way
        return (found[1] or "") if found and found[0] == data else None
    found = look(uri)
    if (found and found[0]) != (expected and expected[0]):
        return None
    files.write_atomic(uri, data)
    if settle:
        time.sleep(SETTLE_SECONDS)
    found = look(uri)
    return (found[1] or "") if found and found[0] == data else None


def _is_conflict(error: BaseException) -> bool:
    """Whether a store says that the condition of a write does not hold."""
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
