"""The total memory of a job's processes, sampled while it runs."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from tests.faults.harness import checker


class MemoryWatch:
    """Samples the memory of all processes with `mark` in their environment.

    `peak` is the largest sum in bytes, `samples` the number of samples. Shared pages count once (PSS),
    because every worker maps Ray's object store.
    """

    def __init__(self, mark: str, interval: float = 2.0) -> None:
        self.peak, self.samples, self._mark, self._interval = 0, 0, mark, interval
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(self._interval):
            self.peak = max(self.peak, sum(map(proportional_bytes, checker.marked(self._mark))))
            self.samples += 1


def proportional_bytes(pid: int) -> int:
    """The process's proportional set size in bytes; 0 if the process is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
