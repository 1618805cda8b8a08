"""Retries of storage requests: which errors are transient, and how often and how long a request is retried.

All requests to a store share one back-off. The libraries below (botocore, s3fs) are configured not to retry,
because nested retries multiply: ten times ten attempts take half an hour without any message.
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

# Seconds of back-off.
FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
# Connections of one process to S3.
CONNECTIONS = 64
MISSING_ERRNOS = {errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}
LASTING_ERRNOS = MISSING_ERRNOS | {
    errno.EACCES,
    errno.EPERM,
    errno.ENOSPC,
    errno.EROFS,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EBADF,
}
# HTTP statuses of the 4xx class that mean: try again later.
_TRANSIENT_STATUSES = (408, 425, 429)
# Codes of S3 that mean the same, with status 400 or 409.
_TRANSIENT_S3_CODES = {
    "RequestTimeout",
    "IncompleteBody",
    "BadDigest",
    "XAmzContentSHA256Mismatch",
    "OperationAborted",
}
STORE_LIBRARIES = ("botocore", "aiobotocore", "aiohttp", "fsspec", "gcsfs", "google", "adlfs", "azure")
_RETRIES, _TIMEOUT = "SCRIPTORIUM_STORAGE_RETRIES", "SCRIPTORIUM_STORAGE_TIMEOUT"

T = TypeVar("T")


def apply(config: StorageConfig) -> None:
    """Use these settings in this process and in all processes that it starts from now on."""
    os.environ.update({_RETRIES: str(config.retries), _TIMEOUT: str(config.timeout)})


def variables() -> dict[str, str]:
    """The settings as environment variables, for processes elsewhere; empty where they are the defaults."""
    if settings() == StorageConfig():
        return {}
    return {_RETRIES: os.environ[_RETRIES], _TIMEOUT: os.environ[_TIMEOUT]}


def settings() -> StorageConfig:
    """The settings that `apply` set in this process or in one that started it; else the defaults."""
    return _settings(os.environ.get(_RETRIES), os.environ.get(_TIMEOUT))


@functools.lru_cache(maxsize=8)
def _settings(retries: str | None, timeout: str | None) -> StorageConfig:
    # Cached because every read of a decoder needs the settings.
    values = {"retries": retries, "timeout": timeout}
    return StorageConfig.model_validate({name: value for name, value in values.items() if value is not None})


def call_with_retries(action: Callable[[], T], retries: int | None = None) -> T:
    """Run `action`, and retry it on transient errors with exponential back-off and jitter.

    Args:
        action: what to run.
        retries: attempts after the first one; None takes the setting.

    Raises:
        Exception: what `action` raised last.
    """
    limit = settings().retries if retries is None else retries
    for attempt in range(limit + 1):
        try:
            return action()
        except Exception as error:
            if attempt == limit:
                # A caller that retries, too, must not try again.
                error._retries_exhausted = True  # type: ignore[attr-defined]
            if hasattr(error, "_retries_exhausted") or not is_transient(error):
                raise
            time.sleep(min(LONGEST_DELAY, FIRST_DELAY * 2**attempt) * random.uniform(0.5, 1.0))
    raise AssertionError("unreachable")


def read_with_retries(action: Callable[[], T], uri: str, retries: int | None = None) -> T:
    """`call_with_retries` for reads of audio.

    Args:
        action: what to run.
        uri: of the audio, for messages.
        retries: attempts after the first one; None takes the setting.

    Raises:
        RowError: another attempt is useless. The code is the one of the dead letter.
        RetryableError: storage_unavailable, after all retries.
        UsageError: the protocol of `uri` is unknown, or its library is not installed.
    """
    try:
        return call_with_retries(action, retries)
    except Exception as error:
        known = classify(error, uri)
        known._retries_exhausted = True  # type: ignore[attr-defined]
        raise known from error


def is_transient(error: BaseException) -> bool:
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
        return status >= 500 or status in _TRANSIENT_STATUSES or _s3_code(error) in _TRANSIENT_S3_CODES
    if "AWS Error" in str(error):
        # Arrow's S3 client has retried by itself, except for this status, which it does not know.
        return "HTTP status 429" in str(error)
    if getattr(error, "errno", None) in LASTING_ERRNOS:
        return False
    return isinstance(error, OSError | EOFError) or type(error).__module__.split(".")[0] in STORE_LIBRARIES


def classify(error: BaseException, uri: str) -> BaseException:
    """Turn a storage error into one with a code.

    Args:
        error: what was raised.
        uri: of the object, for the message.

    Returns:
        A `RowError` where another attempt is useless, a `RetryableError` where it may help, a `UsageError`
        where the protocol is unknown or its library is missing; other errors unchanged.
    """
    if isinstance(error, ScriptoriumError | MemoryError):
        return error
    text = " ".join(str(error).split()) or type(error).__name__
    status = _http_status(error)
    if isinstance(error, ImportError) or (isinstance(error, ValueError) and "rotocol not known" in text):
        return UsageError(f"cannot open {uri}: {text}")
    if isinstance(error, PermissionError) or status in (401, 403) or "Credentials" in type(error).__name__:
        return RowError(f"the store refuses access to {uri}: {text}", "access_denied")
    if (
        isinstance(error, FileNotFoundError)
        or status in (404, 410)
        or getattr(error, "errno", None) in MISSING_ERRNOS
    ):
        return RowError(f"there is nothing at {uri}: {text}", "audio_not_found")
    if status in (412, 416):
        return RowError(f"{uri} changed while it was read: {text}", "audio_changed")
    if is_transient(error):
        return RetryableError(f"reading {uri} failed: {type(error).__name__}: {text}", "storage_unavailable")
    if (
        status is not None
        or isinstance(error, OSError)
        or type(error).__module__.split(".")[0] in STORE_LIBRARIES
    ):
        return RowError(f"the store refuses the request for {uri}: {text}", "storage_unavailable")
    return error


def s3_filesystem() -> Any:
    """S3 through s3fs, without its retries and without its cache of listings."""
    import fsspec
    from fsspec.config import conf

    timeout = settings().timeout
    user_config = conf.get("s3", {}).get("config_kwargs", {})
    config = {
        "connect_timeout": min(20.0, timeout),
        "read_timeout": timeout,
        "retries": {"max_attempts": 0},
        "max_pool_connections": CONNECTIONS,
        **user_config,
    }
    filesystem = fsspec.filesystem("s3", use_listings_cache=False, config_kwargs=config)
    filesystem.retries = 1
    return filesystem


def _http_status(error: BaseException) -> int | None:
    """The HTTP status of an error of aiohttp or botocore, or of the error that it was raised from."""
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
