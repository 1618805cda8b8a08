"""What a Ray on this machine needs of it: checked, and chosen where there is a choice, before Ray starts.

Ray itself reports such faults after minutes, with the logs of several processes, or not at all.
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
import tempfile
from typing import Any

from actors.errors import UsageError
from pipelines.cluster.nodes import GIB

# Bytes of the longest path of a Unix socket, and of what Ray appends to its folder for temporary files:
# /ray/session_2026-01-31_23-59-59_123456_1234567/sockets/plasma_store
_SOCKET_PATH = 103 if sys.platform == "darwin" else 107
_SESSION_PATH = 70
_SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")
SHARED_MEMORY = "/dev/shm"
# Open files that the driver and Ray's processes need at least; Ray raises a lower soft limit by itself.
MIN_OPEN_FILES = 1024
# Processes and threads of a run on two cores; Linux counts both.
MIN_PROCESSES = 512
# GiB that the largest file of a run may have beside the object store: Ray's logs, shards.
FILE_MARGIN = 0.1
# GiB of addresses that each process may need: Ray's threads and libraries reserve much more than they use.
MIN_ADDRESS_SPACE = 16.0
# GiB of the object store of a machine without GPUs.
DEFAULT_OBJECT_STORE = 1.0


def object_store_size(gpus: int) -> float:
    """Size of the object store for a machine with so many GPUs, in GiB.

    A GPU's tables have 256 MiB of samples (`pipelines.execution.ray_data`): one is in each of two models, two
    wait before each of them, and two are being decoded. Of the machine's memory 30 % at most are taken, as
    Ray does by itself, and of shared memory what is free.
    """
    if not gpus:
        return DEFAULT_OBJECT_STORE
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    limits = [2.0 + 2.0 * gpus, 0.3 * memory]
    if os.path.isdir(SHARED_MEMORY):
        limits.append(0.9 * _free_shared_memory())
    return max(DEFAULT_OBJECT_STORE, round(min(limits), 2))


def local_ray_options(object_store_memory: float) -> dict[str, Any]:
    """Check this machine and return further arguments for `ray.init`.

    Sets the folder of Ray's temporary files and a random token that only processes of this run know, in the
    environment. Without the token Ray would keep one in the home directory, which may not exist.

    Args:
        object_store_memory: GiB.

    Raises:
        UsageError: Ray cannot run here; the message says what to do.
    """
    require_machine(object_store_memory)
    if not any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE")):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    folder = short_temporary_folder()
    os.environ["RAY_TMPDIR"] = folder
    problem = shared_memory_problem(object_store_memory)
    if problem is None:
        return {}
    print(
        f"scriptorium: {problem}: decoded audio is kept in files below {folder}, which is slower. "
        "In Docker, --shm-size sets the size; cluster.object_store_memory sets what is needed",
        file=sys.stderr,
        flush=True,
    )
    os.environ["RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE"] = "1"
    return {"_plasma_directory": folder}


def require_machine(object_store_memory: float = 0.0) -> None:
    """Check what Ray needs of this machine, apart from folders.

    Args:
        object_store_memory: GiB, as far as they are known.

    Raises:
        UsageError: Ray cannot run here; the message says what to do.
    """
    _require_working_directory()
    _require_loopback()
    _require_limits(object_store_memory)


def short_temporary_folder() -> str:
    """A writable folder for temporary files whose path leaves room for the names of Ray's Unix sockets.

    Raises:
        UsageError: there is none.
    """
    wanted = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    problems = []
    for folder in dict.fromkeys((os.path.abspath(wanted), *_SHORT_FOLDERS)):
        if len(os.fsencode(folder)) + _SESSION_PATH > _SOCKET_PATH:
            problems.append(f"{folder} is too long for the names of Unix sockets")
        elif not _is_writable(folder):
            problems.append(f"{folder} is not a folder that can be written")
        elif not _is_writable(os.path.join(folder, "ray"), missing_ok=True):
            problems.append(f"{folder}/ray cannot be written")
        else:
            return folder
    raise UsageError(
        f"Ray finds no folder for its temporary files: {'; '.join(problems)}. Set RAY_TMPDIR to a writable "
        f"folder with a path of at most {_SOCKET_PATH - _SESSION_PATH} bytes"
    )


def shared_memory_problem(needed: float) -> str | None:
    """What is wrong with shared memory for an object store of `needed` GiB; None if nothing is.

    Other systems than Linux have no folder for it.
    """
    if not sys.platform.startswith("linux"):
        return None
    if not os.path.isdir(SHARED_MEMORY):
        return f"there is no {SHARED_MEMORY}"
    if not _is_writable(SHARED_MEMORY):
        return f"{SHARED_MEMORY} cannot be written"
    free = _free_shared_memory()
    if free < needed:
        return f"{SHARED_MEMORY} has {free:.2g} GiB free, of {needed:g} GiB that are needed"
    return None


def _free_shared_memory() -> float:
    stats = os.statvfs(SHARED_MEMORY)
    return stats.f_frsize * stats.f_bavail / GIB


def _require_working_directory() -> None:
    """Ray's processes start in the working directory of this one."""
    try:
        os.getcwd()
    except OSError as error:
        raise UsageError(
            f"the working directory cannot be used ({error.strerror}): change to a folder that exists"
        ) from None


def _require_loopback() -> None:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
            server.settimeout(10)
            server.bind(("127.0.0.1", 0))
            server.listen(1)
            with socket.create_connection(server.getsockname(), timeout=10):
                return
    except OSError as error:
        raise UsageError(
            f"no connection to 127.0.0.1 is possible ({error}): Ray's processes talk to each other there. "
            "Bring up the loopback interface, such as with `ip link set lo up`"
        ) from None


def _require_limits(object_store_memory: float) -> None:
    try:
        import resource
    except ImportError:  # not on this platform
        return
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if files != resource.RLIM_INFINITY and files < MIN_OPEN_FILES:
        raise UsageError(
            f"this process may open {files:,} files at most: Ray needs {MIN_OPEN_FILES:,}. "
            "Raise the limit, such as with `ulimit -n 65536`"
        )
    largest = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if largest != resource.RLIM_INFINITY and largest < (object_store_memory + FILE_MARGIN) * GIB:
        raise UsageError(
            f"this process may write files of {largest / GIB:.3g} GiB: Ray's object store is one of "
            f"{object_store_memory:g} GiB. Remove the limit with `ulimit -f unlimited`"
        )
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    # Root has no such limit.
    if os.geteuid() and processes != resource.RLIM_INFINITY and processes < MIN_PROCESSES:
        raise UsageError(
            f"this user may have {processes:,} processes and threads: Ray needs {MIN_PROCESSES:,} and more. "
            "Raise the limit, such as with `ulimit -u 16384`"
        )
    in_container = _cgroup_processes()
    if in_container is not None and in_container < MIN_PROCESSES:
        raise UsageError(
            f"this container may have {in_container:,} processes and threads: Ray needs {MIN_PROCESSES:,} "
            "and more. Raise the limit, in Docker with --pids-limit"
        )
    size = resource.getrlimit(resource.RLIMIT_AS)[0]
    if size != resource.RLIM_INFINITY and size < MIN_ADDRESS_SPACE * GIB:
        raise UsageError(
            f"this process may use {size / GIB:.3g} GiB of addresses: Ray's processes need "
            f"{MIN_ADDRESS_SPACE:g} GiB, most of which is never used as memory. "
            "Remove the limit with `ulimit -v unlimited`, and limit memory with a cgroup instead"
        )


def _cgroup_processes(path: str = "/sys/fs/cgroup/pids.max") -> int | None:
    """How many processes and threads the cgroup of this process may have; None: any number, or unknown."""
    try:
        with open(path) as file:
            return int(file.read())
    except (OSError, ValueError):  # no cgroup here, or "max"
        return None


def _is_writable(folder: str, *, missing_ok: bool = False) -> bool:
    """Whether files can be created in a folder. The rights alone do not say so: the disk may be read-only."""
    if missing_ok and not os.path.exists(folder):
        return True
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
