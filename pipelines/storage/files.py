"""Files at any address: local paths and every URI that fsspec knows, behind a dozen small functions.

Addresses are strings (see `addresses`): a plain absolute path, or `s3://bucket/key`, `gs://`, `memory://`, `https://`. Nothing is cached
between calls: other processes write to the same places. Whatever a store is asked is asked again while it hiccups; what lasts is a
StorageError, or a FileNotFoundError where there is nothing to read.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import re
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec
import pyarrow as pa
from pyarrow.fs import FileSelector, FileType

from actors.audio.sources import BLOCK, open_file
from pipelines.storage.filesystems import S3, arrow_filesystem, filesystem
from pipelines.storage.parquet import READERS, read_all
from pipelines.storage.requests import ask
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

_DRAFT = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")  # as `_write_local` names it


def exists(uri: str) -> bool:
    """Whether a file or a folder with something in it stands at `uri`."""
    store, path = filesystem(uri)
    return ask("look for", uri, lambda: bool(store.exists(path)))


def is_folder(uri: str) -> bool:
    """Whether `uri` is a folder (in an object store: a prefix of at least one object)."""
    store, path = filesystem(uri)
    return ask("look for", uri, lambda: bool(store.isdir(path)))


def list(uri: str, suffix: str | tuple[str, ...] = "", recursive: bool = True) -> Sequence[str]:
    """Addresses of the files under the folder `uri`, sorted; empty where there is no such folder.

    Args:
        uri: a folder, or a prefix in an object store.
        suffix: keep names that end so, in whatever case; a tuple offers a choice.
        recursive: go into sub-folders; linked ones too, each once.

    Names that start with a dot are left out: they are hidden or half written.
    """
    # Not a list comprehension over `list`: in this module that name is a function.
    if not is_remote(uri):
        found = ask("list", uri, lambda: [*_walk(absolute(uri), recursive)])
    else:
        found = ask("list", uri, lambda: [*_listed(uri, recursive)])
    return sorted(
        address
        for address in found
        if not name_of(address).startswith(".") and address.lower().endswith(suffix)
    )


def sizes(uri: str, suffix: str) -> dict[str, int]:
    """Bytes of the files directly in the folder `uri` whose names end so, by address; nothing where there is no such folder."""
    if not is_remote(uri):
        return ask("list", uri, lambda: _sizes(absolute(uri), suffix))
    store, path = filesystem(uri)
    found = ask("list", uri, lambda: store.find(path, maxdepth=1, detail=True))
    return {
        _address(store, name): int(info["size"] or 0) for name, info in found.items() if name.endswith(suffix)
    }


def glob(uri: str) -> Sequence[str]:
    """Addresses of the files that a pattern with `*`, `?` or `[...]` names, sorted."""
    store, pattern = filesystem(uri)
    found = ask("list", uri, lambda: store.glob(pattern, detail=True))
    paths = (path for path, info in found.items() if info["type"] != "directory")
    return sorted(str(store.unstrip_protocol(path)) if is_remote(uri) else path for path in paths)


def open(uri: str, compression: str | None = None, block_size: int = BLOCK) -> BinaryIO:
    """Open `uri` for reading bytes, with read-ahead of `block_size` bytes on object stores.

    Args:
        uri: what to read.
        compression: None, a name that fsspec knows, or "infer": from the suffix (.gz, .bz2, .xz, .zst).
        block_size: bytes fetched by one request.

    Raises:
        FileNotFoundError, StorageError: now; while reading, what `actors.audio.sources.open_file` says.
    """
    store, path = filesystem(uri)
    if not is_remote(uri):
        return ask("read", uri, lambda: cast(BinaryIO, store.open(path, "rb", compression=compression)))
    file = cast(
        Any, io.BufferedReader(ask("read", uri, lambda: open_file(uri, block_size=block_size)), block_size)
    )
    packed = fsspec.utils.infer_compression(path) if compression == "infer" else compression
    return cast(BinaryIO, fsspec.compression.compr[packed](file, mode="r") if packed else file)


def read_bytes(uri: str) -> bytes:
    """The whole file at `uri`, by one request: of a file that others write over all the time, one of its states."""
    store, path = filesystem(uri)
    return ask("read", uri, lambda: cast(bytes, store.cat_file(path)))


def write_atomic(uri: str, data: bytes, sync: bool = True) -> None:
    """Write `data` so that a reader sees the old file or the new one, never half of it.

    Local: a hidden file in the same folder, synced, then renamed. Object stores: one PUT, which is atomic there.

    Args:
        uri: where to.
        data: all of the file.
        sync: wait until the disk has it, so that a power cut cannot lose it. Without, write many files and call `sync_all` once.
    """
    store, path = filesystem(uri)
    ask(
        "write",
        uri,
        lambda: store.pipe_file(path, data) if is_remote(uri) else _write_local(path, data, sync),
    )


def sync_all(uri: str) -> None:
    """Wait until the disk has everything that was written under `uri`; object stores have it already."""
    if not is_remote(uri):
        os.sync()


def remove(uri: str) -> None:
    """Delete the file at `uri`; nothing happens where there is none."""
    store, path = filesystem(uri)
    try:
        ask("delete", uri, lambda: store.rm_file(path))
    except FileNotFoundError:
        return


def remove_drafts(uri: str, prefix: str = "", age: float = 0.0) -> int:
    """Delete what writers that were killed have left directly in the local folder `uri`; returns how many files. Stores keep no halves.

    Args:
        uri: a folder, which need not exist and in which nobody writes at the moment.
        prefix: only drafts of files whose names start so.
        age: only drafts that are older, in seconds.
    """
    return 0 if is_remote(uri) else ask("delete", uri, lambda: _remove_drafts(absolute(uri), prefix, age))


def iter_tables(uri: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The Parquet files under the folder `uri`, one table each, in the order of their names; nothing where there is none."""
    return read_all(list(uri, ".parquet"), columns)


def read_tables(uri: str, columns: Sequence[str] | None = None, schema: pa.Schema | None = None) -> pa.Table:
    """All Parquet files under `uri` as one table; an empty one where there is none.

    Args:
        uri: a folder, which need not exist.
        columns: read only these.
        schema: of the answer; needed to tell the columns of nothing, and to settle columns that are all null in some file.
    """
    wanted = (
        schema if schema is None or columns is None else pa.schema([schema.field(name) for name in columns])
    )
    tables = [*iter_tables(uri, columns)]
    if wanted is not None:
        return pa.concat_tables(
            [table.select(wanted.names).cast(wanted) for table in tables] or [wanted.empty_table()]
        )
    return (
        pa.concat_tables(tables, promote_options="permissive")
        if tables
        else pa.table({name: [] for name in columns or ()})
    )


def _write_local(path: str, data: bytes, sync: bool) -> None:
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


def _remove_drafts(folder: str, prefix: str, age: float) -> int:
    if not os.path.isdir(folder):
        return 0
    with os.scandir(folder) as entries:
        drafts = [
            Path(entry.path)
            for entry in entries
            if _DRAFT.fullmatch(entry.name) and entry.name.startswith("." + prefix)
        ]
    removed = 0
    for draft in drafts:
        with contextlib.suppress(FileNotFoundError):  # its writer has finished it
            if not age or time.time() - draft.stat().st_mtime > age:
                draft.unlink()
                removed += 1
    return removed


def _sizes(folder: str, suffix: str) -> dict[str, int]:
    try:
        with os.scandir(folder) as entries:
            return {
                entry.path: entry.stat().st_size
                for entry in entries
                if entry.name.endswith(suffix) and not entry.name.startswith(".")
            }
    except FileNotFoundError:
        return {}


def _address(store: fsspec.AbstractFileSystem, path: str) -> str:
    return path if "://" in path else str(store.unstrip_protocol(path))


def _listed(uri: str, recursive: bool) -> Iterator[str]:
    native, path = arrow_filesystem(uri)
    if isinstance(native, S3):  # s3fs lists 3,000 keys a second, Arrow as many as the store gives
        found = native.get_file_info(FileSelector(path, allow_not_found=True, recursive=recursive))
        folders = {info.path for info in found if info.type == FileType.Directory}
        for info in found:
            # Some tools mark a folder by an object without bytes whose key ends in a slash; Arrow cuts the slash off.
            if info.type == FileType.File and not (info.size == 0 and info.path in folders):
                yield f"s3://{info.path}"
        return
    store, path = filesystem(uri)
    for name in store.find(path) if recursive else store.find(path, maxdepth=1):
        yield _address(store, name)


def _walk(folder: str, recursive: bool) -> Iterator[str]:
    # A link may lead back up or aside: every real folder is entered once.
    seen = {os.path.realpath(folder)}
    for path, folders, files in os.walk(folder, followlinks=True, onerror=_unless_gone):
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


def _unless_gone(error: OSError) -> None:
    # A folder that cannot be looked into may not pass for an empty one.
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
