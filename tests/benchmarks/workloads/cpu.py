"""CPU seconds of a command and of all processes it starts, including Ray's daemons, by role."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_MARK = "SCRIPTORIUM_BENCHMARK"
# Seconds between samples: CPU time between the last sample of a process and its end is not seen.
_POLL = 0.2
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Usage:
    """CPU use of one command: user and system seconds by role, wall seconds, exit code and output."""

    wall: float = 0.0
    code: int = 0
    output: str = ""
    roles: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    moments: dict[str, float] = field(
        default_factory=dict
        # Role -> seconds after the start at which it was first seen.
    )

    @property
    def total(self) -> float:
        """Core-seconds of all processes."""
        return sum(self.roles.values())


def measure(
    command: Sequence[str], environment: Mapping[str, str] | None = None, timeout: float = 600
) -> Usage:
    """Run a command to its end, and until everything that it started is gone.

    Raises:
        subprocess.TimeoutExpired: it took longer than `timeout`; it is killed then.
    """
    mark = uuid.uuid4().hex
    usage = Usage()
    started = time.monotonic()
    environment = {**os.environ, **(environment or {}), _MARK: mark}
    said = tempfile.TemporaryFile()  # noqa: SIM115 - read at the end
    process = subprocess.Popen(command, env=environment, stdout=said, stderr=subprocess.STDOUT)
    seen: dict[tuple[int, str], float] = {}
    mine: dict[int, bool] = {}
    while True:
        over = process.poll() is not None
        alive = _look(mark.encode(), process.pid, seen, usage, mine, time.monotonic() - started)
        if over and not usage.wall:
            usage.wall = time.monotonic() - started
        if over and (alive == 0 or time.monotonic() - started > usage.wall + 10):
            break
        if time.monotonic() - started > timeout:
            process.kill()
            raise subprocess.TimeoutExpired(command, timeout)
        time.sleep(_POLL)
    said.seek(0)
    usage.code, usage.output = process.returncode, said.read().decode("utf-8", "replace")
    return usage


def _look(
    mark: bytes,
    first: int,
    seen: dict[tuple[int, str], float],
    usage: Usage,
    mine: dict[int, bool],
    now: float,
) -> int:
    """Add the marked processes' CPU time since the last sample to their roles; returns their number."""
    alive = 0
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        pid = int(entry.name)
        try:
            if pid not in mine or not mine[pid]:
                # Until it executes a program, a new process has its parent's environment, or none yet.
                mine[pid] = mark in Path(entry.path, "environ").read_bytes()
            if not mine[pid]:
                continue
            stat = Path(entry.path, "stat").read_text()
            title = Path(entry.path, "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        fields = stat.rpartition(")")[2].split()
        if fields[0] in "ZX":
            continue
        alive += 1
        cpu_seconds = (int(fields[11]) + int(fields[12])) / _TICK
        key = pid, fields[19]
        role = _role(title, pid == first, int(fields[1]) == first)
        usage.roles[role] += max(0.0, cpu_seconds - seen.get(key, 0.0))
        usage.moments.setdefault(role, now)
        seen[key] = cpu_seconds
    return alive


def _role(title: str, is_first: bool, is_child: bool) -> str:
    """The role of a process, from its command line."""
    if is_first:
        return "driver"
    if "actors.process.isolation" in title:
        return "headers" if is_child else "decode, segment"
    if title.startswith("ray::"):
        name = title[len("ray::") :].strip()
        if name.startswith("IDLE"):
            return "Ray: workers' start and idling"
        if "decode" in name:
            return "transport out of decoding"
        for word, role in (
            ("Recognise", "recognise"),
            ("Align", "align"),
            ("Write", "write"),
            ("stitch", "stitch"),
            ("Supervisor", "supervisor"),
        ):
            if word in name:
                return role
        return "Ray: " + re.split(r"[^A-Za-z]", name)[0]
    return "Ray: daemons and workers' start"


def measured_child(command: Sequence[str]) -> float:
    """Core-seconds of a command without children of its own, exact.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    before = children()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return children() - before


def children() -> float:
    """Core-seconds of all children of this process that have ended."""
    times = os.times()
    return times.children_user + times.children_system
