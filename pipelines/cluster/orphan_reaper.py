"""Ends the Ray processes that a driver leaves behind on this machine, whether it was killed or not.

Most of them notice within a second that their parent is gone. Some look for the dead cluster for another
minute and hold memory (of a GPU, perhaps) that the next run needs, and on a busy machine an agent may outlive
a regular end as well. A reaper process waits for the end of the run and then kills every process that
inherited the run's mark.
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

from actors.process.import_path import child_command, child_environment

MARK = "SCRIPTORIUM_SESSION"
# A process that changes its title, as Ray's do, overwrites the beginning of its environment with zeros, and
# with it the mark. This variable of setproctitle's prevents that.
PRESERVE_ENVIRONMENT = "SPT_NOENV"
GRACE_SECONDS = 3.0  # in which the processes may end by themselves
QUIET_SECONDS = 5.0  # without any of them, after which no further one is expected
# Seconds; the reaper does not wait longer for a process that cannot be killed (a disk that hangs).
LIMIT = 120.0


@contextmanager
def reap_orphans() -> Iterator[None]:
    """Mark all processes started inside a `with` block; end them after it, or if this process dies in it."""
    if not sys.platform.startswith("linux"):
        yield
        return
    before, mark = {name: os.environ.get(name) for name in (MARK, PRESERVE_ENVIRONMENT)}, uuid.uuid4().hex
    reaper = subprocess.Popen(
        child_command("pipelines.cluster.orphan_reaper", mark),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=child_environment(),
        start_new_session=True,  # signals to the driver's process group must not reach it
    )
    os.environ.update({MARK: mark, PRESERVE_ENVIRONMENT: "1"})
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
        reaper.returncode = 0  # do not wait for the reaper: it has to wait for others


def marked(mark: str) -> list[int]:
    """Ids of the processes that were started with `mark` in their environment, except this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
    return found


def main(mark: str) -> None:
    """Wait until the run is over or its driver is gone, then end the marked processes that remain."""
    sys.stdin.buffer.read()
    deadline = time.monotonic() + GRACE_SECONDS
    while marked(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    # A process that was being started when its driver died has the driver's environment, without the mark,
    # until it runs its own program.
    last, deadline = time.monotonic(), time.monotonic() + LIMIT
    while last + QUIET_SECONDS > time.monotonic() < deadline:
        for process in marked(mark):
            last = time.monotonic()
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.25)


if __name__ == "__main__":
    main(sys.argv[1])
