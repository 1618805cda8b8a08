"""Retries of storage requests: which errors are transient, and how often and how long a request is retried.

All requests to a store share one back-off. The libraries below (botocore, s3fs) are configured not to retry,
because nested retries multiply: ten times ten attempts take half an hour without any message.
"""

from __future__ import annotations

import errno
import functools
import itertools
import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from actors.errors import RetryableError, RowError, ScriptoriumError, UsageError

# A process that decodes does without pydantic and ssl, whose imports take longer than ten clips.
if TYPE_CHECKING:
    from actors.config.base import StorageConfig

# Seconds of back-off.
FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
# Connections of one process to S3.
CONNECTIONS = 64
MISSING_ERRNOS = {errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}
LASTING_ERRNOS = MISSING_ERRNOS | {
    errno.EACCES,
    errno.EEXIST,
    errno.EPERM,
    errno.ENOSPC,
    errno.EROFS,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EBADF,
}
# HTTP statuses that mean that there is nothing.
_GONE = (404, 410)
# Names of errors, of aiohttp and yarl, for addresses that no request can be sent to.
_INVALID_ADDRESSES = ("InvalidURL", "InvalidUrlClientError", "NonHttpUrlClientError")
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
STORE_LIBRARIES = (
    "botocore", "aiobotocore", "aiohttp", "fsspec", "gcsfs", "google", "adlfs", "azure", "oss2", "ossfs",
    "oci",
    "ocifs", "huggingface_hub", "requests", "httpx", "urllib3", "paramiko", "smbprotocol",
)  # fmt: skip
_RETRIES, _TIMEOUT = "SCRIPTORIUM_STORAGE_RETRIES", "SCRIPTORIUM_STORAGE_TIMEOUT"

T = TypeVar("T")


def apply(config: StorageConfig) -> None:
    """Use these settings in this process and in all processes that it starts from now on."""
    os.environ.update({_RETRIES: str(config.retries), _TIMEOUT: str(config.timeout)})


def variables() -> dict[str, str]:
    """The settings as environment variables, for processes elsewhere; empty where they are the defaults."""
    if settings() == _settings(None, None):
        return {}
    return {_RETRIES: os.environ[_RETRIES], _TIMEOUT: os.environ[_TIMEOUT]}


def settings() -> StorageConfig:
    """The settings that `apply` set in this process or in one that started it; else the defaults."""
    return _settings(os.environ.get(_RETRIES), os.environ.get(_TIMEOUT))


@functools.lru_cache(maxsize=8)
def _settings(retries: str | None, timeout: str | None) -> StorageConfig:
    from actors.config.base import StorageConfig

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
    for attempt in itertools.count():
        try:
            return action()
        except Exception as error:
            # Only now: a decoder reads hundreds of times a second, nearly always without an error.
            limit = settings().retries if retries is None else retries
            if attempt >= limit:
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
    error = _cause_of(error)
    if isinstance(error, ImportError | FileNotFoundError | PermissionError) or _is_refusal(error):
        return False
    if type(error).__name__ in _INVALID_ADDRESSES:
        return False
    status = _http_status(error)
    if status is not None:
        return status >= 500 or status in _TRANSIENT_STATUSES or _s3_code(error) in _TRANSIENT_S3_CODES
    if "AWS Error" in str(error):
        # Arrow's S3 client has retried by itself, except for this status, which it does not know.
        return "HTTP status 429" in str(error)
    if _errno(error) in LASTING_ERRNOS:
        return False
    return _is_of_a_store(error)


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
    error = _cause_of(error)
    text = " ".join(str(error).split()) or type(error).__name__
    status = _http_status(error)
    if isinstance(error, ImportError):
        return UsageError(f"cannot open {uri}: a package is not installed: {text}", "storage_unavailable")
    if isinstance(error, ValueError) and "rotocol not known" in text:
        return UsageError(f"cannot open {uri}: {text}", "audio_not_found")
    if type(error).__name__ in _INVALID_ADDRESSES:
        return RowError(f"{uri} is not a valid address: {text}", "audio_not_found")
    if isinstance(error, PermissionError) or status in (401, 403) or _is_refusal(error):
        return RowError(f"the store refuses access to {uri}: {text}", "access_denied")
    if isinstance(error, FileNotFoundError) or status in _GONE or _errno(error) in MISSING_ERRNOS:
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


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, what it was raised from, and so on."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _cause_of(error: BaseException) -> BaseException:
    """What a store really answered.

    fsspec raises FileNotFoundError for everything that fails when it asks a web server about an object: a
    refused port, a dropped connection, status 500. Only the error below it tells them apart.
    """
    if not isinstance(error, FileNotFoundError):
        return error
    status = _http_status(error)
    for cause in _chain(error):
        if isinstance(cause, ScriptoriumError | FileNotFoundError):
            continue
        if status is None and _is_of_a_store(cause) and _errno(cause) not in MISSING_ERRNOS:
            return cause
        if status not in (None, *_GONE) and _own_status(cause) == status:
            return cause
    return error


def _errno(error: BaseException) -> int | None:
    """The number of the operating system's error; errors of TLS have numbers of their own."""
    of_tls = getattr(sys.modules.get("ssl"), "SSLError", ())
    if any(isinstance(one, of_tls) for one in _chain(error)):
        return None
    return getattr(error, "errno", None)


def _is_of_a_store(error: BaseException) -> bool:
    return isinstance(error, OSError | EOFError) or type(error).__module__.split(".")[0] in STORE_LIBRARIES


def _is_refusal(error: BaseException) -> bool:
    """Whether the error is about credentials: missing, incomplete, or not accepted."""
    name = type(error).__name__
    return "Credentials" in name or "AuthenticationError" in name


def _http_status(error: BaseException) -> int | None:
    """The HTTP status of an error of a store's library, or of the error that it was raised from."""
    return next((status for one in _chain(error) if (status := _own_status(one)) is not None), None)


def _own_status(error: BaseException) -> int | None:
    if type(error).__module__ == "aiohttp.http_exceptions":
        # Of a response that broke off: its code 400 says what is wrong with the bytes, no server sent it.
        return None
    response = getattr(error, "response", None)
    candidates = [getattr(error, name, None) for name in ("status", "status_code", "code")]
    if isinstance(response, dict):
        candidates.append(response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
    else:
        candidates += [getattr(response, name, None) for name in ("status_code", "status")]
    for value in candidates:
        if isinstance(value, int | str) and re.fullmatch("[1-5][0-9][0-9]", str(value)):
            return int(value)
    return None


def _s3_code(error: BaseException) -> str:
    for one in _chain(error):
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""
