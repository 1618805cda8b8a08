"""What a command costs: core-seconds of everything that it starts, wall seconds, peak memory, what it leaves.

Where this process may make a control group (as root; version 1 or 2), the kernel adds up the CPU of all
processes in it. Elsewhere this process adopts the orphans of the command and waits for them. That misses
processes whose parents ignore the end of their children, so figures of the two ways are not compared.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

CGROUPS = (Path("/sys/fs/cgroup/cpuacct"), Path("/sys/fs/cgroup"))
POLL = 0.5  # seconds between two looks at the memory
LINGER = 15.0  # seconds that what a command leaves behind may take to end
# For all contestants alike: no reports to anybody, no hub.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "DO_NOT_TRACK": "1",
    "DAFT_ANALYTICS_ENABLED": "0",
    "HF_HUB_OFFLINE": "1",
}
_PR_SET_CHILD_SUBREAPER = 36


@dataclass
class Usage:
    """What one command cost.

    Attributes:
        code: its exit code; negative: the signal that ended it.
        wall: seconds until it ended.
        cpu: core-seconds, user and system, of all processes.
        peak_mib: of memory: the largest sum of their proportional set sizes, looked at every POLL seconds.
        left: names of processes that were still there LINGER seconds after its end, and were killed.
        killed: whether it was killed on purpose.
        timed_out: whether it was killed because it took too long.
    """

    code: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    peak_mib: float = 0.0
    left: list[str] = field(default_factory=list)
    killed: bool = False
    timed_out: bool = False


class Processes(Protocol):
    """The processes of one command."""

    def enter(self) -> None:
        """Called by the new process before it becomes the command."""
        ...

    def pids(self) -> list[int]:
        """Living processes."""
        ...

    def end(self) -> float:
        """Kill what is left; returns the core-seconds of all processes."""
        ...


class ControlGroup:
    """Processes in a control group of their own, in the folder `parent` of a hierarchy."""

    def __init__(self, parent: Path) -> None:
        self._folder = parent / f"bench-peers-{os.getpid()}-{time.monotonic_ns()}"
        self._folder.mkdir()
        if not any((self._folder / name).exists() for name in ("cpuacct.usage", "cpu.stat")):
            self._folder.rmdir()
            raise FileNotFoundError(f"{parent} does not count CPU time")

    def enter(self) -> None:
        """See `Processes`."""
        (self._folder / "cgroup.procs").write_text(str(os.getpid()))

    def pids(self) -> list[int]:
        """See `Processes`."""
        return [int(pid) for pid in (self._folder / "cgroup.procs").read_text().split()]

    def end(self) -> float:
        """See `Processes`."""
        _kill_all(self.pids)
        usage, stat = self._folder / "cpuacct.usage", self._folder / "cpu.stat"
        if usage.exists():
            seconds = int(usage.read_text()) / 1e9
        else:
            facts = dict(line.split() for line in stat.read_text().splitlines())
            seconds = int(facts["usage_usec"]) / 1e6
        with contextlib.suppress(OSError):
            self._folder.rmdir()
        return seconds


class Descendants:
    """Processes that this process has started, and orphans of theirs that it adopts."""

    def __init__(self) -> None:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._before = _children_cpu()

    def enter(self) -> None:
        """See `Processes`."""

    def pids(self) -> list[int]:
        """See `Processes`."""
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    if fields[0] not in "ZX":
                        children.setdefault(int(fields[1]), []).append(int(entry.name))
        found, waiting = [], [os.getpid()]
        while waiting:
            below = children.get(waiting.pop(), [])
            found += below
            waiting += below
        return found

    def end(self) -> float:
        """See `Processes`."""
        _kill_all(self.pids)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        return _children_cpu() - self._before


def processes() -> Processes:
    """The best way to follow a command here."""
    for parent in CGROUPS:
        with contextlib.suppress(OSError):
            return ControlGroup(parent)
    return Descendants()


def measure(
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    timeout: float = 600,
    kill_after: float | None = None,
    cwd: Path | None = None,
) -> Usage:
    """Run a command and measure it, with its output in the file `log`.

    Args:
        command: what to run.
        log: where its output goes.
        environment: variables beside those of this process and QUIET.
        timeout: seconds after which it is killed.
        kill_after: seconds after which it is killed with SIGKILL on purpose: it alone, not its children.
        cwd: its working directory.
    """
    all_of_it = processes()
    usage, started = Usage(), time.perf_counter()
    with open(log, "w") as sink:
        process = subprocess.Popen(
            command,
            stdout=sink,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **QUIET, **(environment or {})},
            cwd=cwd,
            start_new_session=True,
            preexec_fn=all_of_it.enter,
        )
    try:
        for elapsed in _until_end(process, started, timeout if kill_after is None else kill_after):
            usage.peak_mib = max(usage.peak_mib, sum(map(_pss_kib, all_of_it.pids())) / 1024)
            usage.wall = elapsed
        if process.poll() is None:
            usage.killed, usage.timed_out = kill_after is not None, kill_after is None
            process.kill()
        usage.code = process.wait()
        usage.wall = time.perf_counter() - started
        usage.left = _names_left(all_of_it)
    finally:
        process.kill()
        process.wait()
        usage.cpu = all_of_it.end()
    return usage


def _until_end(process: subprocess.Popen[bytes], started: float, limit: float) -> Iterator[float]:
    """Seconds since the start, every POLL seconds, until the process ends or `limit` seconds are over."""
    while process.poll() is None and (elapsed := time.perf_counter() - started) < limit:
        yield elapsed
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.01, min(POLL, limit - elapsed)))


def _names_left(all_of_it: Processes) -> list[str]:
    """Names of the processes that do not end by themselves."""
    until = time.perf_counter() + LINGER
    while (pids := all_of_it.pids()) and time.perf_counter() < until:
        time.sleep(0.1)
    names = []
    for pid in pids:
        with contextlib.suppress(OSError):
            names.append(Path(f"/proc/{pid}/comm").read_text().strip())
    return sorted(names)


def _kill_all(pids: object) -> None:
    for _ in range(50):
        alive = pids()  # type: ignore[operator]
        if not alive:
            return
        for pid in alive:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def _pss_kib(pid: int) -> int:
    """Proportional set size: shared memory counts once in the sum over all processes that share it."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
