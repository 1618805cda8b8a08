"""File operations for local paths and for every URI that fsspec supports.

Addresses are strings (see `uris`): a plain absolute path, or `s3://bucket/key`, `gs://`, `memory://`,
`https://`. Nothing is cached between calls, because other processes write to the same places. Every operation
is retried on transient errors. A lasting error is raised as StorageError, or as FileNotFoundError where there
is nothing to read.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, cast

import fsspec
import pyarrow as pa
from pyarrow.fs import FileSelector, FileType

from actors.audio.sources import BLOCK_BYTES, open_file
from pipelines.storage import local_disk
from pipelines.storage.filesystems import S3, arrow_filesystem, call_store, filesystem
from pipelines.storage.parquet import READERS, conform, read_all
from pipelines.storage.uris import absolute, is_remote, join, name_of, parent

__all__ = [
    "READERS",
    "absolute",
    "arrow_filesystem",
    "exists",
    "filesystem",
    "glob",
    "is_folder",
    "is_remote",
    "iter_tables",
    "join",
    "list",
    "name_of",
    "open",
    "parent",
    "read_bytes",
    "read_tables",
    "remove",
    "remove_drafts",
    "sizes",
    "sync_all",
    "write_atomic",
]


def exists(uri: str) -> bool:
    """Whether there is a file or a non-empty folder at `uri`."""
    store, path = filesystem(uri)
    return call_store("look for", uri, lambda: bool(store.exists(path)))


def is_folder(uri: str) -> bool:
    """Whether `uri` is a folder (in an object store: the prefix of at least one object)."""
    store, path = filesystem(uri)
    return call_store("look for", uri, lambda: bool(store.isdir(path)))


def list(uri: str, suffix: str | tuple[str, ...] = "", recursive: bool = True) -> Sequence[str]:
    """List the addresses of the files in the folder `uri`, sorted; empty if there is no such folder.

    Names that start with a dot are left out: these files are hidden or incomplete.

    Args:
        uri: a folder, or a prefix in an object store.
        suffix: keep only names with this ending, in any case; a tuple allows several.
        recursive: include sub-folders; linked ones too, each once.
    """
    # `[*...]` rather than `list(...)`: in this module, `list` is this function.
    if not is_remote(uri):
        found = call_store("list", uri, lambda: [*local_disk.walk(absolute(uri), recursive)])
    else:
        found = call_store("list", uri, lambda: [*_list_remote(uri, recursive)])
    return sorted(
        address
        for address in found
        if not name_of(address).startswith(".") and address.lower().endswith(suffix)
    )


def sizes(uri: str, suffix: str) -> dict[str, int]:
    """File sizes in bytes by address, for the files directly in `uri` whose names end in `suffix`.

    Empty if there is no such folder.
    """
    if not is_remote(uri):
        return call_store("list", uri, lambda: local_disk.sizes(absolute(uri), suffix))
    store, path = filesystem(uri)
    found = call_store("list", uri, lambda: store.find(path, maxdepth=1, detail=True))
    return {
        _address_in(store, name): int(info["size"] or 0)
        for name, info in found.items()
        if name.endswith(suffix)
    }


def glob(uri: str) -> Sequence[str]:
    """List the addresses of the files that match a pattern with `*`, `?` or `[...]`, sorted."""
    store, pattern = filesystem(uri)
    found = call_store("list", uri, lambda: store.glob(pattern, detail=True))
    paths = (path for path, info in found.items() if info["type"] != "directory")
    return sorted(str(store.unstrip_protocol(path)) if is_remote(uri) else path for path in paths)


def open(uri: str, compression: str | None = None, block_size: int = BLOCK_BYTES) -> BinaryIO:
    """Open `uri` for reading bytes, with a read-ahead of `block_size` bytes on object stores.

    Args:
        uri: address of the file.
        compression: None, a name that fsspec knows, or "infer": from the suffix (.gz, .bz2, .xz, .zst).
        block_size: bytes fetched by one request.

    Raises:
        FileNotFoundError: there is no such file.
        StorageError: it cannot be opened. Later reads raise the errors of `actors.audio.sources.open_file`.
    """
    store, path = filesystem(uri)
    if not is_remote(uri):
        return call_store(
            "read", uri, lambda: cast(BinaryIO, store.open(path, "rb", compression=compression))
        )
    file = cast(
        Any,
        io.BufferedReader(call_store("read", uri, lambda: open_file(uri, block_size=block_size)), block_size),
    )
    packed = fsspec.utils.infer_compression(path) if compression == "infer" else compression
    return cast(BinaryIO, fsspec.compression.compr[packed](file, mode="r") if packed else file)


def read_bytes(uri: str) -> bytes:
    """Read the whole file at `uri` in one request: a consistent state even while others keep replacing it."""
    store, path = filesystem(uri)
    return call_store("read", uri, lambda: cast(bytes, store.cat_file(path)))


def write_atomic(uri: str, data: bytes, sync: bool = True, private: bool = False) -> None:
    """Write `data` so that a reader sees either the old file or the new one, never a partial file.

    Local: a hidden file in the same folder, synced, then renamed. Object stores: one PUT, which is atomic
    there.

    Args:
        uri: address of the file.
        data: the complete content.
        sync: wait until the data is on disk, so that a power failure cannot lose it. To write many files,
            pass False and call `sync_all` once.
        private: only this user may read a local file. Object stores have rights of their own.
    """
    store, path = filesystem(uri)
    call_store(
        "write",
        uri,
        lambda: (
            store.pipe_file(path, data) if is_remote(uri) else local_disk.write(path, data, sync, private)
        ),
    )


def sync_all(uri: str) -> None:
    """Wait until everything written below `uri` is on disk; object stores need no waiting."""
    if not is_remote(uri):
        os.sync()


def remove(uri: str) -> None:
    """Delete the file at `uri`, if there is one."""
    store, path = filesystem(uri)
    try:
        call_store("delete", uri, lambda: store.rm_file(path))
    except FileNotFoundError:
        return


def remove_drafts(uri: str, prefix: str = "", age: float = 0.0) -> int:
    """Delete the incomplete files that killed writers left directly in the local folder `uri`.

    Object stores never hold incomplete files.

    Args:
        uri: a folder, which may be missing, and in which no process is writing.
        prefix: delete only drafts of files whose names start with this.
        age: delete only drafts older than this, in seconds.

    Returns:
        The number of deleted files.
    """
    if is_remote(uri):
        return 0
    return call_store("delete", uri, lambda: local_disk.remove_drafts(absolute(uri), prefix, age))


def iter_tables(uri: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Read the Parquet files in the folder `uri`, one table each, in the order of their names."""
    return read_all(list(uri, ".parquet"), columns)


def read_tables(uri: str, columns: Sequence[str] | None = None, schema: pa.Schema | None = None) -> pa.Table:
    """Read all Parquet files in the folder `uri` as one table; an empty table if there are none.

    Args:
        uri: a folder, which may be missing.
        columns: read only these.
        schema: of the result. It defines the columns of an empty table, and the type of columns that are all
            null in some file.
    """
    wanted = (
        schema if schema is None or columns is None else pa.schema([schema.field(name) for name in columns])
    )
    tables = [*iter_tables(uri, columns)]
    if wanted is not None:
        return pa.concat_tables([conform(table, wanted) for table in tables] or [wanted.empty_table()])
    return (
        pa.concat_tables(tables, promote_options="permissive")
        if tables
        else pa.table({name: [] for name in columns or ()})
    )


def _address_in(store: fsspec.AbstractFileSystem, path: str) -> str:
    return path if "://" in path else str(store.unstrip_protocol(path))


def _list_remote(uri: str, recursive: bool) -> Iterator[str]:
    native, path = arrow_filesystem(uri)
    # s3fs lists 3,000 keys per second, Arrow as many as the store delivers.
    if isinstance(native, S3):
        found = native.get_file_info(FileSelector(path, allow_not_found=True, recursive=recursive))
        folders = {info.path for info in found if info.type == FileType.Directory}
        for info in found:
            # Some tools mark a folder with an empty object whose key ends in a slash. Arrow drops the slash.
            if info.type == FileType.File and not (info.size == 0 and info.path in folders):
                yield f"s3://{info.path}"
        return
    store, path = filesystem(uri)
    for name in store.find(path) if recursive else store.find(path, maxdepth=1):
        yield _address_in(store, name)
