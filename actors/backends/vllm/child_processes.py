"""The processes that an engine starts: their number of threads, and their end with this process."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_POLL = 0.1  # seconds between checks for new processes of the engine


@contextmanager
def threads_of_children(threads: int | None) -> Iterator[None]:
    """Have processes that start inside the block compute with so many threads."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(threads or os.cpu_count() or 1)
    try:
        yield
    finally:
        os.environ.pop("OMP_NUM_THREADS")
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before


class Reaper:
    """Kills the children of this process when it ends, however it ends.

    vLLM's engine does not notice that its parent was killed, and would hold the GPU's memory for ever. A
    shell reads the ids of the children from its standard input, and kills them when the input ends, which is
    the end of this process.
    """

    def __init__(self) -> None:
        self._reported: set[int] = set()
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
        """Report children that start inside the block to the shell."""
        finished = threading.Event()

        def watch() -> None:
            while not finished.wait(_POLL):
                self._report()

        watcher = threading.Thread(target=watch, name="reaper", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            finished.set()
            watcher.join()
            self._report()

    def cancel(self) -> None:
        """Kill nothing: the children have ended."""
        self._shell.kill()
        self._shell.wait()

    def _report(self) -> None:
        assert self._shell.stdin is not None
        for pid in {
            child.pid for child in multiprocessing.active_children() if child.pid is not None
        } - self._reported:
            self._reported.add(pid)
            self._shell.stdin.write(f"{pid}\n".encode())
            self._shell.stdin.flush()
