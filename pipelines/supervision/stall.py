"""Ends a pass in which nobody shows a sign of life any more, or that goes on although it was told to end.

Ray has a guard of its own, but it sees nothing but blocks: a model call that hangs is ended by its own time limit, and the shard that makes it
hang is given up after a few of them, all of which may take longer than a run should wait where really nothing happens. So the processes say
themselves that they are alive: when a model call begins, when a shard is decoded, when a table is finished (`pipelines.supervisor`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from actors.errors import FatalError
from actors.process.watchdog import call_limit
from pipelines.config import RunConfig
from pipelines.supervision import shutdown

LOOK_SECONDS = 5.0
LAST_SECONDS = 60.0  # that a pass may take to end by itself after a stage gave up
MARGIN = 120.0  # seconds, for a process that ended to be replaced


@dataclass
class Watch:
    """Looks for signs of life.

    Args:
        look: how many there were so far, and why the pass is to end, if it is; may raise where nobody answers.
        patience: seconds without a new one after which the pass is ended.
    """

    look: Callable[[], tuple[int, str | None]]
    patience: float
    reason: str | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Look until the pass is over; end it where it must be."""
        before, since, stop_since = -1, time.monotonic(), None
        while not self.ended.wait(LOOK_SECONDS):
            try:
                signs, stop = self.look()
            except Exception:  # it may be about to be replaced; if it never is, that is silence too
                signs, stop = before, None
            if signs != before:
                before, since = signs, time.monotonic()
            stop_since = (stop_since or time.monotonic()) if stop else None
            if stop_since is not None and time.monotonic() - stop_since > LAST_SECONDS:
                self.reason = stop
            elif time.monotonic() - since > self.patience:
                self.reason = (
                    f"for {self.patience:.0f} s no process began a model call, decoded or finished anything: see whether the cluster still has the "
                    "CPUs and GPUs that the run asks for (`ray status`), or raise cluster.no_progress_timeout"
                )
            if self.reason and not self.ended.is_set():
                shutdown.abort()
                return


@contextmanager
def ended(look: Callable[[], tuple[int, str | None]], patience: float) -> Iterator[None]:
    """Have the pass inside a `with` block ended once there are no signs of life any more; for `look` and `patience` see `Watch`.

    Raises:
        FatalError: it was ended; the message says why.
    """
    watch = Watch(look, patience)
    threading.Thread(target=watch.run, name="silence", daemon=True).start()
    try:
        yield
    except KeyboardInterrupt:
        if watch.reason:
            raise FatalError(watch.reason) from None
        raise
    finally:
        watch.ended.set()


def patience(config: RunConfig, on_gpu: bool) -> float:
    """Seconds of silence after which a pass is ended: the setting, but never less than one model call or one shard's decoding may take."""
    calls = [
        call_limit(stage.timeout, on_gpu, stage.max_batch_seconds) for stage in (config.asr, config.aligner)
    ]
    return max(config.cluster.no_progress_timeout, MARGIN + max(config.audio.timeout, *calls))
