"""Ends what a driver leaves behind, killed or not: Ray's processes on this machine.

Most of them notice within a second that their parent is gone; some look for the dead cluster for another minute, with memory (a GPU's, perhaps)
that the next run needs, and on a busy machine an agent may outlive an orderly end as well. A process of ours waits for the end of the run and
then kills what carries the mark that all of them inherited.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MARK = "SCRIPTORIUM_SESSION"
# A process that changes its title, as Ray's do, writes zeros over the beginning of its environment, where others would look for the mark, unless
# it is told (setproctitle's own variable) to leave it alone.
KEPT = "SPT_NOENV"
PATIENCE = 3.0  # seconds in which they may end by themselves
QUIET = 5.0  # seconds without any of them, after which none is to come
LIMIT = 120.0  # seconds; what cannot be killed until then (a disk that does not answer) is not waited for


@contextmanager
def behind() -> Iterator[None]:
    """Mark all processes that are started inside a `with` block, and have them ended if this one dies in it."""
    if not sys.platform.startswith("linux"):
        yield
        return
    before, mark = {name: os.environ.get(name) for name in (MARK, KEPT)}, uuid.uuid4().hex
    root = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH")) if part)
    reaper = subprocess.Popen(
        [sys.executable, "-m", "pipelines.cluster.orphan_reaper", mark],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": paths},
        start_new_session=True,  # what is sent to the driver's group is not meant for it
    )
    os.environ.update({MARK: mark, KEPT: "1"})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        assert reaper.stdin is not None
        with suppress(OSError):
            reaper.stdin.close()  # as the end of this process would
        reaper.returncode = 0  # nobody waits for it: it has to wait for others


def marked(mark: str) -> list[int]:
    """Ids of the processes that were started with `mark` in their environment, without this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
    return found


def main(mark: str) -> None:
    """Wait until the run is over, or its driver gone, and end what it started and is still there a little later."""
    sys.stdin.buffer.read()
    deadline = time.monotonic() + PATIENCE
    while marked(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    # One that was being started when its driver died has the driver's environment, without the mark, until it runs its own program.
    last, deadline = time.monotonic(), time.monotonic() + LIMIT
    while last + QUIET > time.monotonic() < deadline:
        for process in marked(mark):
            last = time.monotonic()
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.25)


if __name__ == "__main__":
    main(sys.argv[1])
