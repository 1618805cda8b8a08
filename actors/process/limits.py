"""Limits that a child process sets for itself when it starts."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

# Bytes of the largest file that a child can write. This limits what a library prints or stores, so that it
# cannot fill the disk.
MAX_FILE_BYTES = 16 << 30
_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when the parent's thread that started it ends.

    Only Linux can do that. Elsewhere the process ends after its current call, when it finds the pipe closed.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def limit_memory(max_memory: float) -> None:
    """Let this process use `max_memory` GiB on top of what it uses now."""
    try:
        import resource
    except ImportError:  # not on this platform
        return
    pages = 0
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    _set_limit(resource.RLIMIT_AS, int(max_memory * 2**30) + pages * resource.getpagesize())


def limit_file_size() -> None:
    """Let this process write no file larger than `MAX_FILE_BYTES`."""
    try:
        import resource
    except ImportError:  # not on this platform
        return
    _set_limit(resource.RLIMIT_FSIZE, MAX_FILE_BYTES)


def _set_limit(kind: int, limit: int) -> None:
    """Set the soft limit of a resource; never above its hard limit."""
    import resource

    hard = resource.getrlimit(kind)[1]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
