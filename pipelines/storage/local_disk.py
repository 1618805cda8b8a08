"""Files on the local disk: atomic writes, walks that follow links, and clean-up after killed writers.

`files` calls these functions for local paths. They raise OSError.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

_DRAFT = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")  # the names that `write` gives to drafts


def write(path: str, data: bytes, sync: bool, private: bool = False) -> None:
    """Write `data` to a hidden draft in the same folder, then rename it; creates the folder.

    Args:
        path: absolute path of the file.
        data: the complete content.
        sync: wait until the draft is on disk before it is renamed.
        private: only this user may read the file.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    # The draft has another suffix, so that no listing by suffix takes it for a finished file.
    draft = os.path.join(os.path.dirname(path), f".{os.path.basename(path)[:100]}.{uuid.uuid4().hex}.tmp")
    try:
        with open(draft, "wb", opener=_open_private if private else None) as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def remove_drafts(folder: str, prefix: str, age: float) -> int:
    """Delete the drafts in `folder` that killed writers left behind; returns the number of deleted files.

    Args:
        folder: absolute path; it may be missing.
        prefix: delete only drafts of files whose names start with this.
        age: delete only drafts older than this, in seconds; 0: all.
    """
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
        # The file is gone if its writer has renamed it in the meantime.
        with contextlib.suppress(FileNotFoundError):
            if not age or time.time() - draft.stat().st_mtime > age:
                draft.unlink()
                removed += 1
    return removed


def sizes(folder: str, suffix: str) -> dict[str, int]:
    """File sizes in bytes by path, for the visible files directly in `folder` whose names end in `suffix`."""
    try:
        with os.scandir(folder) as entries:
            return {
                entry.path: entry.stat().st_size
                for entry in entries
                if entry.name.endswith(suffix) and not entry.name.startswith(".")
            }
    except FileNotFoundError:
        return {}


def walk(folder: str, recursive: bool) -> Iterator[str]:
    """The paths of all files in `folder`, and below it if `recursive`; nothing if there is no such folder."""
    # A link may lead back up or sideways: every real folder is entered once.
    seen = {os.path.realpath(folder)}
    for path, folders, names in os.walk(folder, followlinks=True, onerror=_raise_unless_missing):
        for name in names:
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


def _raise_unless_missing(error: OSError) -> None:
    # A folder that cannot be read must not pass for an empty one.
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
