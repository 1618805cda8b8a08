"""Manifests that can be read only once: standard input, named pipes and process substitution."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from actors.errors import UsageError

_STANDARD_INPUT = "/dev/stdin"
_DESCRIPTORS = re.compile(r"/dev/(stdin|fd/\d+)|/proc/(self|\d+)/fd/\d+")


def is_stream(path: str) -> bool:
    """Whether a manifest's address is `-`, a file descriptor or a pipe."""
    if path == "-" or _DESCRIPTORS.fullmatch(path):
        return True
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


@contextmanager
def copied_stream(path: str) -> Iterator[str]:
    """A file with everything that a stream has, for the life of a `with` block; yields its path.

    The first bytes of a manifest are read twice, and a stream has them only once.

    Args:
        path: for which `is_stream` holds.

    Raises:
        UsageError: it is a terminal or cannot be read.
    """
    path = _STANDARD_INPUT if path == "-" else path
    with tempfile.NamedTemporaryFile(prefix="scriptorium-manifest-") as copy:
        try:
            with open(
                0 if path == _STANDARD_INPUT else path, "rb", closefd=path != _STANDARD_INPUT
            ) as source:
                if source.isatty():
                    raise UsageError(
                        f"{path}: the manifest is a terminal; send it a file or the output of a command"
                    )
                shutil.copyfileobj(source, copy, 1 << 20)
            copy.flush()
        except OSError as error:
            raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from None
        yield copy.name
