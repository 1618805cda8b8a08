"""Storage that hiccups: which errors may pass by themselves, how often and how long we wait for that, and an S3 that leaves all of it to us.

One back-off for everything that this code asks of a store. Whatever lies underneath (botocore, s3fs) is told not to try again on its own:
retries of retries multiply, and ten times ten attempts are half an hour of silence.
"""

from __future__ import annotations

import errno
import functools
import os
import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

from actors.config import StorageConfig
from actors.errors import RetryableError, RowError, ScriptoriumError, UsageError

FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0  # seconds of back-off
CONNECTIONS = 64  # to S3, of one process
MISSING = {errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}
LASTING = MISSING | {
    errno.EACCES,
    errno.EPERM,
    errno.ENOSPC,
    errno.EROFS,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EBADF,
}
_HICCUPS = (408, 425, 429)  # HTTP says that the request is to blame, but it means: later
_HICCUP_CODES = {
    "RequestTimeout",
    "IncompleteBody",
    "BadDigest",
    "XAmzContentSHA256Mismatch",
    "OperationAborted",
}  # S3's, with status 400 or 409
LIBRARIES = ("botocore", "aiobotocore", "aiohttp", "fsspec", "gcsfs", "google", "adlfs", "azure")
_RETRIES, _TIMEOUT = "SCRIPTORIUM_STORAGE_RETRIES", "SCRIPTORIUM_STORAGE_TIMEOUT"

T = TypeVar("T")


def apply(config: StorageConfig) -> None:
    """Make these the settings of this process and of all that it starts from now on."""
    os.environ.update({_RETRIES: str(config.retries), _TIMEOUT: str(config.timeout)})


def variables() -> dict[str, str]:
    """The settings as environment variables, for processes elsewhere; none where they are the defaults."""
    return (
        {}
        if settings() == StorageConfig()
        else {_RETRIES: os.environ[_RETRIES], _TIMEOUT: os.environ[_TIMEOUT]}
    )


def settings() -> StorageConfig:
    """The settings that count in this process: those of `apply`, here or in a process that started this one, else the defaults."""
    return _settings(os.environ.get(_RETRIES), os.environ.get(_TIMEOUT))


@functools.lru_cache(maxsize=8)
def _settings(retries: str | None, timeout: str | None) -> StorageConfig:
    # Every read of a decoder comes by here.
    given = {"retries": retries, "timeout": timeout}
    return StorageConfig.model_validate({name: value for name, value in given.items() if value is not None})


def retried(action: Callable[[], T], retries: int | None = None) -> T:
    """Run `action` up to `1 + retries` times (default: the setting) while its errors are hiccups, with exponential back-off and jitter.

    Raises:
        Exception: what `action` raised last.
    """
    limit = settings().retries if retries is None else retries
    for attempt in range(limit + 1):
        try:
            return action()
        except Exception as error:
            if attempt == limit:
                error._tried_enough = True  # type: ignore[attr-defined]  # for whoever calls us with retries of their own
            if hasattr(error, "_tried_enough") or not is_hiccup(error):
                raise
            time.sleep(min(LONGEST_DELAY, FIRST_DELAY * 2**attempt) * random.uniform(0.5, 1.0))
    raise AssertionError("unreachable")


def with_retries(action: Callable[[], T], uri: str, retries: int | None = None) -> T:
    """`retried`, for audio: what is raised has the name that a dead letter needs."""
    try:
        return retried(action, retries)
    except Exception as error:
        known = classify(error, uri)
        known._tried_enough = True  # type: ignore[attr-defined]
        raise known from error


def is_hiccup(error: BaseException) -> bool:
    """Whether another attempt may succeed."""
    if isinstance(error, ScriptoriumError | MemoryError):
        return isinstance(error, RetryableError)
    if (
        isinstance(error, ImportError | FileNotFoundError | PermissionError)
        or "Credentials" in type(error).__name__
    ):
        return False
    status = _http_status(error)
    if status is not None:
        return status >= 500 or status in _HICCUPS or _s3_code(error) in _HICCUP_CODES
    if "AWS Error" in str(error):  # Arrow's S3 has tried again by itself, but does not know this answer
        return "HTTP status 429" in str(error)
    if getattr(error, "errno", None) in LASTING:
        return False
    return isinstance(error, OSError | EOFError) or type(error).__module__.split(".")[0] in LIBRARIES


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
    if (
        isinstance(error, FileNotFoundError)
        or status in (404, 410)
        or getattr(error, "errno", None) in MISSING
    ):
        return RowError(f"there is nothing at {uri}: {said}", "audio_not_found")
    if status in (412, 416):
        return RowError(f"{uri} changed while it was read: {said}", "audio_changed")
    if is_hiccup(error):
        return RetryableError(f"reading {uri} failed: {type(error).__name__}: {said}", "storage_unavailable")
    if status is not None or isinstance(error, OSError) or type(error).__module__.split(".")[0] in LIBRARIES:
        return RowError(f"the store refuses the request for {uri}: {said}", "storage_unavailable")
    return error


def s3_filesystem() -> Any:
    """S3 through s3fs, which asks once and remembers no listings."""
    import fsspec
    from fsspec.config import conf

    timeout = settings().timeout
    given = conf.get("s3", {}).get("config_kwargs", {})
    config = {
        "connect_timeout": min(20.0, timeout),
        "read_timeout": timeout,
        "retries": {"max_attempts": 0},
        "max_pool_connections": CONNECTIONS,
        **given,
    }
    filesystem = fsspec.filesystem("s3", use_listings_cache=False, config_kwargs=config)
    filesystem.retries = 1
    return filesystem


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


def _s3_code(error: BaseException) -> str:
    current: BaseException | None = error
    while current is not None:
        response = getattr(current, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        current = current.__cause__
    return ""
