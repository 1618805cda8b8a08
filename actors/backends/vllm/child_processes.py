"""The processes that an engine begins: how many threads they have, and that none of them outlives ours."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOOK = 0.1  # seconds between looks whether the engine has begun a process


@contextmanager
def threads_of_children(threads: int | None) -> Iterator[None]:
    """Processes that are started inside compute with so many threads."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(threads or os.cpu_count() or 1)
    try:
        yield
    finally:
        os.environ.pop("OMP_NUM_THREADS")
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before


class Reaper:
    """Has this process's children ended when it ends, however it does, from the moment that they are begun.

    vLLM's engine does not notice that its parent was killed, and would keep the GPU's memory for ever. A shell waits for the end of its
    standard input, which is the end of this process, and is told there whom to end.
    """

    def __init__(self) -> None:
        self._told: set[int] = set()
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", 'while read -r pid; do set -- "$@" "$pid"; done; kill -9 "$@"'],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={},
            start_new_session=True,
        )

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Tell the shell of children that are begun inside the block."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(_LOOK):
                self._tell()

        watcher = threading.Thread(target=watch, name="reaper", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
            self._tell()

    def call_off(self) -> None:
        """The children have ended."""
        self._shell.kill()
        self._shell.wait()

    def _tell(self) -> None:
        assert self._shell.stdin is not None
        for pid in {
            child.pid for child in multiprocessing.active_children() if child.pid is not None
        } - self._told:
            self._told.add(pid)
            self._shell.stdin.write(f"{pid}\n".encode())
            self._shell.stdin.flush()
