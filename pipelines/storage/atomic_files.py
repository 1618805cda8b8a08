"""Large files that are written as a stream and appear at their address as a whole."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from pipelines.storage import files
from pipelines.storage.filesystems import call_store, filesystem


@contextmanager
def streamed_file(uri: str) -> Iterator[BinaryIO]:
    """A file to write to; it is at `uri` once the `with` block has ended without an error.

    Local: a hidden file in the same folder, synced, then renamed. Object stores: a temporary file on this
    machine, uploaded at the end, in several requests if it is large.

    Raises:
        StorageError: the store refuses the file.
    """
    if not files.is_remote(uri):
        path = Path(files.absolute(uri))
        call_store("write", uri, lambda: path.parent.mkdir(parents=True, exist_ok=True))
        draft = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex}.tmp")
        try:
            with call_store("write", uri, lambda: draft.open("wb")) as file:
                yield cast(BinaryIO, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        finally:
            draft.unlink(missing_ok=True)
        return
    with tempfile.NamedTemporaryFile(prefix="scriptorium-export-") as copy:
        yield cast(BinaryIO, copy)
        copy.flush()
        store, path_in_store = filesystem(uri)
        call_store("write", uri, lambda: store.put_file(copy.name, path_in_store))


def copy_into(source: str, target: BinaryIO) -> None:
    """Append the local file `source` to an open file."""
    with open(source, "rb") as file:
        shutil.copyfileobj(file, target, 1 << 20)
