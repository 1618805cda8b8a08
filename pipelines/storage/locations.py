"""Files at any address: local paths and every URI that fsspec knows, behind a dozen small functions.

Addresses are strings. A local file is always a plain absolute path (`file://` is taken off), everything else keeps its scheme
(`s3://bucket/key`, `gs://`, `memory://`, `https://`). Nothing is cached between calls: other processes write to the same places.
"""

from __future__ import annotations

import builtins
import os
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from actors.errors import UsageError

READERS = 16  # parallel requests while many small objects are read: latency-bound, not CPU-bound


def is_remote(uri: str) -> bool:
    """Whether `uri` is anything but a path on this machine."""
    return "://" in uri and not uri.startswith(("file://", "local://"))


def absolute(uri: str) -> str:
    """Local paths made absolute, normalised and free of `file://` and `~`; URIs without a trailing slash, otherwise untouched."""
    if is_remote(uri):
        return uri.rstrip("/")
    return os.path.abspath(os.path.expanduser(_local(uri)))


def join(base: str, *names: str) -> str:
    """Put `names` below `base`. A name that is itself absolute or a URI replaces what stands before it, as in `os.path.join`."""
    for name in names:
        if "://" in name or name.startswith("/"):
            base = name
        elif is_remote(base):
            base = f"{base.rstrip('/')}/{name}"
        else:
            base = os.path.join(_local(base), name)
    return base


def parent(uri: str) -> str:
    """The folder that holds `uri`."""
    if not is_remote(uri):
        return os.path.dirname(absolute(uri))
    scheme, _, path = _without_query(uri).rstrip("/").partition("://")
    return f"{scheme}://{path.rpartition('/')[0]}"


def name_of(uri: str) -> str:
    """The last part of an address, without the query of an http URL."""
    return _without_query(uri).rstrip("/").rpartition("/")[2]


def filesystem(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The fsspec file system that holds `uri`, and the path of `uri` in it.

    Raises:
        UsageError: nobody knows this scheme, or the package that speaks it is not installed.
    """
    if not is_remote(uri):
        return fsspec.filesystem("file"), absolute(uri)
    try:
        # Listings are not cached: on a second look, what another process wrote must be there.
        return cast(tuple[fsspec.AbstractFileSystem, str], fsspec.core.url_to_fs(uri, use_listings_cache=False))
    except ImportError as error:
        package = "pip install 'scriptorium[s3]'" if uri.startswith(("s3://", "s3a://")) else str(error)
        raise UsageError(f"{uri}: reading this address needs a package that is not installed: {package}") from error
    except ValueError as error:
        raise UsageError(f"{uri}: unknown kind of address ({error})") from error


def exists(uri: str) -> bool:
    """Whether a file or a folder with something in it stands at `uri`."""
    store, path = filesystem(uri)
    return bool(store.exists(path))


def is_folder(uri: str) -> bool:
    """Whether `uri` is a folder (in an object store: a prefix of at least one object)."""
    store, path = filesystem(uri)
    return bool(store.isdir(path))


def list(uri: str, suffix: str | tuple[str, ...] = "", recursive: bool = True) -> Sequence[str]:
    """Addresses of the files under the folder `uri`, sorted; empty where there is no such folder.

    Args:
        uri: a folder, or a prefix in an object store.
        suffix: keep names that end so, in whatever case; a tuple offers a choice.
        recursive: go into sub-folders; linked ones too, each once.

    Names that start with a dot are left out: they are hidden or half written.
    """
    if not is_remote(uri):
        found = _walk(absolute(uri), recursive)
    else:
        store, path = filesystem(uri)
        names = store.find(path) if recursive else store.find(path, maxdepth=1)
        found = (_address(store, name) for name in names)
    return sorted(address for address in found if not name_of(address).startswith(".") and address.lower().endswith(suffix))


def open(uri: str, compression: str | None = None, block_size: int = 2**20) -> BinaryIO:
    """Open `uri` for reading bytes, with read-ahead of `block_size` bytes on object stores.

    Args:
        uri: what to read.
        compression: None, a name that fsspec knows, or "infer": from the suffix (.gz, .bz2, .xz, .zst).
        block_size: bytes fetched by one request.
    """
    store, path = filesystem(uri)
    options: dict[str, Any] = {"block_size": block_size, "cache_type": "readahead"} if is_remote(uri) else {}
    return cast(BinaryIO, store.open(path, "rb", compression=compression, **options))


def read_bytes(uri: str) -> bytes:
    """The whole file at `uri`."""
    store, path = filesystem(uri)
    return cast(bytes, store.cat_file(path))


def write_atomic(uri: str, data: bytes, sync: bool = True) -> None:
    """Write `data` so that a reader sees the old file or the new one, never half of it.

    Local: a hidden file in the same folder, synced, then renamed. Object stores: one PUT, which is atomic there.

    Args:
        uri: where to.
        data: all of the file.
        sync: wait until the disk has it, so that a power cut cannot lose it. Without, write many files and call `sync_all` once.
    """
    store, path = filesystem(uri)
    if is_remote(uri):
        store.pipe_file(path, data)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    # The name ends differently, so that no listing for a suffix takes it for a finished file.
    draft = os.path.join(os.path.dirname(path), f".{os.path.basename(path)[:100]}.{uuid.uuid4().hex}.tmp")
    try:
        with builtins.open(draft, "wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def sync_all(uri: str) -> None:
    """Wait until the disk has everything that was written under `uri`; object stores have it already."""
    if not is_remote(uri):
        os.sync()


def remove(uri: str) -> None:
    """Delete the file at `uri`; nothing happens where there is none."""
    store, path = filesystem(uri)
    try:
        store.rm_file(path)
    except FileNotFoundError:
        return


def arrow_filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """A pyarrow file system for `uri` and the path in it: for Ray Data's readers, writers and checkpoint. Pickles to workers.

    S3 is spoken natively by Arrow (its rename costs a fifth of s3fs's, and it holds no secrets when pickled: workers find
    credentials and `AWS_ENDPOINT_URL` in their environment). Where fsspec or the AWS profile redirects S3, which Arrow would not see,
    and for every other store, Arrow goes through fsspec.
    """
    if not is_remote(uri):
        return pafs.LocalFileSystem(), absolute(uri)
    store, path = filesystem(uri)
    if uri.startswith("s3://") and not _redirected_s3():
        # Only the bucket goes through `from_uri`: it would decode percent signs in keys. It also finds out the bucket's region.
        return pafs.FileSystem.from_uri(f"s3://{path.partition('/')[0]}")[0], path
    return pafs.PyFileSystem(pafs.FSSpecHandler(store)), path


def iter_tables(uri: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The Parquet files under `uri`, one table each, in the order of their names; nothing where there is none.

    Files are read ahead by `READERS` threads, so that many small objects cost bandwidth and not round trips.
    """
    addresses = list(uri, ".parquet")
    if not addresses:
        return
    store, _ = arrow_filesystem(uri)

    def read(address: str) -> pa.Table:
        with store.open_input_file(_path_of(address)) as file:
            return pq.ParquetFile(file).read(columns=columns)

    with ThreadPoolExecutor(READERS) as pool:
        for first in range(0, len(addresses), 4 * READERS):
            yield from pool.map(read, addresses[first : first + 4 * READERS])


def read_tables(uri: str, columns: Sequence[str] | None = None, schema: pa.Schema | None = None) -> pa.Table:
    """All Parquet files under `uri` as one table; an empty one where there is none.

    Args:
        uri: a folder, which need not exist.
        columns: read only these.
        schema: of the answer; needed to tell the columns of nothing, and to settle columns that are all null in some file.
    """
    wanted = schema if schema is None or columns is None else pa.schema([schema.field(name) for name in columns])
    # Not a list comprehension over `list`: in this module that name is a function.
    tables = [*iter_tables(uri, columns)]
    if wanted is not None:
        return pa.concat_tables([table.select(wanted.names).cast(wanted) for table in tables] or [wanted.empty_table()])
    return pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({name: [] for name in columns or ()})


def _local(uri: str) -> str:
    for scheme in ("file://", "local://"):
        if uri.startswith(scheme):
            return uri[len(scheme) :]
    return uri


def _without_query(uri: str) -> str:
    return uri.partition("?")[0] if uri.startswith(("http://", "https://")) else uri


def _address(store: fsspec.AbstractFileSystem, path: str) -> str:
    return path if "://" in path else str(store.unstrip_protocol(path))


def _path_of(address: str) -> str:
    return filesystem(address)[1]


def _walk(folder: str, recursive: bool) -> Iterator[str]:
    # A link may lead back up or aside: every real folder is entered once.
    seen = {os.path.realpath(folder)}
    for path, folders, files in os.walk(folder, followlinks=True):
        for name in files:
            yield os.path.join(path, name)
        if not recursive:
            return
        entered = []
        for name in sorted(folders):
            real = os.path.realpath(os.path.join(path, name))
            if not name.startswith(".") and real not in seen:
                seen.add(real)
                entered.append(name)
        folders[:] = entered


def _redirected_s3() -> bool:
    if fsspec.config.conf.get("s3"):
        return True
    profile = Path(os.environ.get("AWS_CONFIG_FILE", "~/.aws/config")).expanduser()
    return not os.environ.get("AWS_ENDPOINT_URL") and profile.is_file() and "endpoint_url" in profile.read_text(errors="replace")
