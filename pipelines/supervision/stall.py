"""Ends a pass in which no process shows a sign of life, or that goes on although it must stop.

Ray has a guard of its own, but it sees only blocks. A model call that hangs is ended by its own time limit,
and the shard that makes it hang is given up after a few of them; all of that may take longer than a run
should wait when really nothing happens. So the processes report themselves that they are alive: when a model
call begins, when a shard is decoded, when a table is finished (`pipelines.supervision.supervisor`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from actors.batch_limits import largest_limits
from actors.errors import FatalError
from actors.process.watchdog import call_limit
from pipelines.config import RunConfig
from pipelines.supervision import shutdown

CHECK_INTERVAL = 5.0  # seconds
STOP_LIMIT = 60.0  # seconds that a pass may take to end by itself after the supervisor has stopped the run
RESTART_MARGIN = 120.0  # seconds for a process that ended to be replaced

Liveness = tuple[int, str | None]  # signs of life so far, and why the pass must end, if it must


@dataclass
class StallWatch:
    """Watches for signs of life.

    Args:
        read: returns the liveness; may raise if there is no answer.
        timeout: seconds without a new sign of life after which the pass is ended.
    """

    read: Callable[[], Liveness]
    timeout: float
    reason: str | None = None
    pass_over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Watch until the pass is over; end it if it must end."""
        before, since, stop_since = -1, time.monotonic(), None
        while not self.pass_over.wait(CHECK_INTERVAL):
            try:
                signs, stop = self.read()
            except (
                Exception
            ):  # the supervisor may be about to be replaced; if it never is, that is a stall too
                signs, stop = before, None
            if signs != before:
                before, since = signs, time.monotonic()
            stop_since = (stop_since or time.monotonic()) if stop else None
            if stop_since is not None and time.monotonic() - stop_since > STOP_LIMIT:
                self.reason = stop
            elif time.monotonic() - since > self.timeout:
                self.reason = (
                    f"for {self.timeout:.0f} s no process began a model call, decoded or finished anything: "
                    "check whether the cluster still has the CPUs and GPUs that the run asks for (`ray "
                    "status`), or raise cluster.no_progress_timeout"
                )
            if self.reason and not self.pass_over.is_set():
                shutdown.abort()
                return


@contextmanager
def stall_guard(read: Callable[[], Liveness], timeout: float) -> Iterator[None]:
    """End the pass inside a `with` block once it stalls; for the arguments see `StallWatch`.

    Raises:
        FatalError: the pass was ended; the message says why.
    """
    watch = StallWatch(read, timeout)
    threading.Thread(target=watch.run, name="stall-watch", daemon=True).start()
    try:
        yield
    except KeyboardInterrupt:
        if watch.reason:
            raise FatalError(watch.reason) from None
        raise
    finally:
        watch.pass_over.set()


def stall_timeout(config: RunConfig, on_gpu: bool) -> float:
    """Seconds without a sign of life after which a pass is ended.

    The setting, but never less than one model call or the decoding of one shard may take.
    """
    calls = [
        call_limit(stage.timeout, on_gpu, largest_limits(stage, on_gpu).max_seconds)
        for stage in (config.asr, config.aligner)
    ]
    return max(config.cluster.no_progress_timeout, RESTART_MARGIN + max(config.audio.timeout, *calls))
