"""File systems by address, for fsspec and for Arrow."""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path
from typing import Any, cast

import fsspec
import pyarrow.fs as pafs

from actors import retries
from actors.errors import UsageError
from pipelines.storage.requests import ask
from pipelines.storage.uris import absolute, is_remote

UNDER_ARROW = {"retries": {"max_attempts": 3}}  # where nobody above an fsspec file system tries again


def filesystem(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The fsspec file system that holds `uri`, and the path of `uri` in it. S3 is asked once: whoever asks, asks through `requests.ask`.

    Raises:
        UsageError: nobody knows this scheme, or the package that speaks it is not installed.
    """
    if not is_remote(uri):
        return fsspec.filesystem("file"), absolute(uri)
    try:
        if _is_s3(uri):
            store = retries.s3_filesystem()
            return store, store._strip_protocol(uri)
        # Listings are not cached: on a second look, what another process wrote must be there.
        return cast(
            tuple[fsspec.AbstractFileSystem, str], fsspec.core.url_to_fs(uri, use_listings_cache=False)
        )
    except ImportError as error:
        package = "pip install 'scriptorium[s3]'" if _is_s3(uri) else str(error)
        raise UsageError(
            f"{uri}: reading this address needs a package that is not installed: {package}"
        ) from error
    except ValueError as error:
        raise UsageError(f"{uri}: unknown kind of address ({error})") from error


def arrow_filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """A pyarrow file system for `uri` and the path in it: for Ray Data's readers, writers and checkpoint. Pickles to workers.

    S3 is spoken natively by Arrow (its rename costs a fifth of s3fs's, and it holds no secrets when pickled: workers find credentials in
    their environment). Where fsspec or the AWS profile redirects S3, which Arrow would not see, and for every other store, Arrow goes
    through fsspec.

    Raises:
        StorageError: S3 does not tell in which region the bucket is.
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
    """Arrow's S3, which tries each request again by itself, and remembers how often when it is pickled: Arrow's own forgets."""

    def __init__(self, endpoint: str, region: str, again: int, timeout: float) -> None:
        self._arguments = (endpoint, region, again, timeout)
        super().__init__(
            endpoint_override=endpoint or None,
            region=region or None,
            retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=1 + again),
            connect_timeout=min(20.0, timeout),
            request_timeout=timeout,
            # A file that fits into one request is written by one: it is there as a whole or not at all, and a lost answer does no harm.
            allow_delayed_open=True,
        )

    # Ray's checkpoint calls these without any retries of its own, and Arrow does not know every answer that means "later".

    def get_file_info(self, paths_or_selector: Any) -> Any:
        return retries.retried(lambda: super(S3, self).get_file_info(paths_or_selector))

    def create_dir(self, path: str, *, recursive: bool = True) -> None:
        retries.retried(lambda: super(S3, self).create_dir(path, recursive=recursive))

    def copy_file(self, src: str, dest: str) -> None:
        retries.retried(lambda: super(S3, self).copy_file(src, dest))

    def move(self, src: str, dest: str) -> None:
        self.copy_file(src, dest)
        self.delete_file(src)

    def delete_file(self, path: str) -> None:
        # What is gone may have been deleted by an attempt whose answer got lost.
        with contextlib.suppress(FileNotFoundError):
            retries.retried(lambda: super(S3, self).delete_file(path))

    def open_input_file(self, path: str) -> Any:
        return retries.retried(lambda: super(S3, self).open_input_file(path))

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return _native_s3, self._arguments


@functools.lru_cache
def _native_s3(endpoint: str, region: str, again: int, timeout: float) -> S3:
    return S3(endpoint, region, again, timeout)


@functools.lru_cache
def _region_of(bucket: str) -> str:
    return str(ask("look for", f"s3://{bucket}", lambda: pafs.resolve_s3_region(bucket)))


def _is_s3(uri: str) -> bool:
    return uri.startswith(("s3://", "s3a://"))


def _redirected_s3() -> bool:
    if fsspec.config.conf.get("s3"):
        return True
    profile = Path(os.environ.get("AWS_CONFIG_FILE", "~/.aws/config")).expanduser()
    return (
        not os.environ.get("AWS_ENDPOINT_URL")
        and profile.is_file()
        and "endpoint_url" in profile.read_text(errors="replace")
    )
