"""File systems by address, for fsspec and for Arrow, and the retries around every call to a store."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import fsspec
import pyarrow.fs as pafs

from actors import retries
from actors.errors import RetryableError, RowError, ScriptoriumError, StorageError, UsageError
from pipelines.storage.uris import absolute, is_remote

T = TypeVar("T")

# botocore's own retries, for an fsspec file system below Arrow: there, no caller retries.
UNDER_ARROW = {"retries": {"max_attempts": 3}}

_ADVICE = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there, or have the quota raised",
    errno.EFBIG: "a file may not be that large: see `ulimit -f`, and what its file system allows",
    errno.EROFS: "it is read-only: mount it for writing, or choose another directory",
    errno.EACCES: "check the rights of this user",
    errno.EPERM: "check the rights of this user",
}


def call_store(verb: str, uri: str, action: Callable[[], T]) -> T:
    """Run `action`, and repeat it with back-off on transient errors.

    Args:
        verb: what the action does, for messages: read, write, list, delete, look for.
        uri: the address that it works on.
        action: a call that may fail at any point and be repeated.

    Raises:
        FileNotFoundError: there is nothing to read at `uri`.
        StorageError: any other answer of the store.
    """
    try:
        return retries.call_with_retries(action)
    except FileNotFoundError as error:
        if verb != "write":
            raise
        raise storage_error(verb, uri, error) from error
    except (RowError, RetryableError) as error:
        if error.code == "audio_not_found":
            raise FileNotFoundError(errno.ENOENT, error.message, uri) from error
        raise StorageError(error.message) from error
    except ScriptoriumError:
        raise
    except Exception as error:
        raise storage_error(verb, uri, error) from error


def storage_error(verb: str, uri: str, error: BaseException) -> StorageError:
    """The StorageError for a lasting error of a store: what failed, on which address, and what to do."""
    text = " ".join(str(error).split()).rstrip(".")
    text = text if isinstance(error, OSError) and text else f"{type(error).__name__}: {text}"
    advice = _ADVICE.get(getattr(error, "errno", None) or 0)
    if advice is None and (
        isinstance(error, PermissionError) or "ACCESS_DENIED" in text or "Credentials" in type(error).__name__
    ):
        advice = "check the rights of the credentials in the environment"
    if advice is None and (isinstance(error, FileNotFoundError) or "NO_SUCH_BUCKET" in text):
        advice = "is the bucket or the folder still there?"
    return StorageError(f"cannot {verb} {uri}: {text[:600]}" + (f" ({advice})" if advice else ""))


def filesystem(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The fsspec file system that holds `uri`, and the path of `uri` in it.

    The S3 file system does not retry by itself: make its calls through `call_store`.

    Raises:
        UsageError: the scheme is unknown, or its package is not installed.
    """
    if not is_remote(uri):
        return fsspec.filesystem("file"), absolute(uri)
    try:
        if _is_s3(uri):
            store = retries.s3_filesystem()
            return store, store._strip_protocol(uri)
        # Listings are not cached: a second listing must show what another process wrote.
        return cast(
            tuple[fsspec.AbstractFileSystem, str], fsspec.core.url_to_fs(uri, use_listings_cache=False)
        )
    except ImportError as error:
        package = "pip install 'scriptorium[s3]'" if _is_s3(uri) else str(error)
        raise UsageError(
            f"{uri}: reading this address needs a package that is not installed: {package}"
        ) from error
    except ValueError as error:
        raise UsageError(f"{uri}: unknown kind of address ({error}); check the part before `://`") from error


def arrow_filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """The pyarrow file system that holds `uri`, and the path of `uri` in it.

    Ray Data's readers, writers and checkpoint use it, so it can be pickled to workers.

    For S3 this is Arrow's own client: its rename costs a fifth of s3fs's, and it holds no secrets when
    pickled, because workers find credentials in their environment. Arrow goes through fsspec for every other
    store, and where fsspec's configuration or the AWS profile redirects S3, which Arrow would not notice.

    Raises:
        StorageError: the region of the S3 bucket cannot be found out.
    """
    if not is_remote(uri):
        return pafs.LocalFileSystem(), absolute(uri)
    if not _is_s3(uri):
        store, path = filesystem(uri)
        return pafs.PyFileSystem(pafs.FSSpecHandler(store)), path
    path = uri.partition("://")[2]
    if uri.startswith("s3://") and not _redirected_s3():
        settings = retries.settings()
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
        if not endpoint:
            region = _region_of(path.partition("/")[0])
        return _native_s3(endpoint, region, settings.retries, settings.timeout), path
    return pafs.PyFileSystem(
        pafs.FSSpecHandler(fsspec.filesystem("s3", use_listings_cache=False, config_kwargs=UNDER_ARROW))
    ), path


class S3(pafs.S3FileSystem):
    """Arrow's S3 file system with retry settings that survive pickling; those of Arrow's own class do not."""

    def __init__(self, endpoint: str, region: str, again: int, timeout: float) -> None:
        self._arguments = (endpoint, region, again, timeout)
        super().__init__(
            endpoint_override=endpoint or None,
            region=region or None,
            retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=1 + again),
            connect_timeout=min(20.0, timeout),
            request_timeout=timeout,
            # A file that fits into one request is written by one request: it is then complete or absent, and
            # a lost response does no harm.
            allow_delayed_open=True,
        )

    # Ray's checkpoint calls these methods without retries, and Arrow does not retry every transient answer.

    def get_file_info(self, paths_or_selector: Any) -> Any:
        return retries.call_with_retries(lambda: super(S3, self).get_file_info(paths_or_selector))

    def create_dir(self, path: str, *, recursive: bool = True) -> None:
        retries.call_with_retries(lambda: super(S3, self).create_dir(path, recursive=recursive))

    def copy_file(self, src: str, dest: str) -> None:
        retries.call_with_retries(lambda: super(S3, self).copy_file(src, dest))

    def move(self, src: str, dest: str) -> None:
        self.copy_file(src, dest)
        self.delete_file(src)

    def delete_file(self, path: str) -> None:
        # A missing file may have been deleted by an earlier attempt whose response was lost.
        with contextlib.suppress(FileNotFoundError):
            retries.call_with_retries(lambda: super(S3, self).delete_file(path))

    def open_input_file(self, path: str) -> Any:
        return retries.call_with_retries(lambda: super(S3, self).open_input_file(path))

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return _native_s3, self._arguments


@functools.lru_cache
def _native_s3(endpoint: str, region: str, again: int, timeout: float) -> S3:
    return S3(endpoint, region, again, timeout)


@functools.lru_cache
def _region_of(bucket: str) -> str:
    return str(call_store("look for", f"s3://{bucket}", lambda: pafs.resolve_s3_region(bucket)))


def _is_s3(uri: str) -> bool:
    return uri.startswith(("s3://", "s3a://"))


def _redirected_s3() -> bool:
    if fsspec.config.conf.get("s3"):
        return True
    if os.environ.get("AWS_ENDPOINT_URL"):
        return False
    # Unlike Path.expanduser, this needs no home directory.
    profile = os.path.expanduser(os.environ.get("AWS_CONFIG_FILE", "~/.aws/config"))
    try:
        return "endpoint_url" in Path(profile).read_text(errors="replace")
    except OSError:
        return False
