"""How far a run is, in recordings and audio hours: a live line in a terminal, a plain line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

PLAIN_INTERVAL = 10.0  # seconds between lines where nobody watches
LIVE_INTERVAL = 0.5


@dataclass
class Counter:
    """Counts shards as they come out of the last stage. Runs as a Ray actor, because stages run in many processes."""

    recordings: int = 0
    failed: int = 0
    seconds: float = 0.0
    open: dict[str, list[Any]] = field(
        default_factory=dict
    )  # recordings with shards still to come: [shards done, any failed?]

    def add(self, shards: Sequence[tuple[str, int, float, bool]]) -> None:
        """Count `(recording_id, shard_count, seconds, failed)` of finished shards."""
        for recording_id, shard_count, seconds, failed in shards:
            self.seconds += seconds
            state = self.open.setdefault(recording_id, [0, False])
            state[0], state[1] = state[0] + 1, state[1] or failed
            if state[0] >= shard_count:
                del self.open[recording_id]
                self.recordings += 1
                self.failed += state[1]

    def read(self) -> tuple[int, int, float]:
        """Recordings finished, those of them that failed somewhere, audio seconds finished."""
        return self.recordings, self.failed, self.seconds


@dataclass(frozen=True)
class Totals:
    """What there is to do in all, and what earlier runs had done already."""

    recordings: int
    seconds: float
    done_recordings: int = 0
    done_seconds: float = 0.0


@dataclass(frozen=True)
class Snapshot:
    """The state of a run at one moment."""

    totals: Totals
    recordings: int
    failed: int
    seconds: float
    elapsed: float

    @property
    def rtfx(self) -> float:
        """Audio seconds per wall second in this run."""
        return self.seconds / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds to go at this speed; None before anything is known."""
        left = self.totals.seconds - self.totals.done_seconds - self.seconds
        return max(0.0, left) / self.rtfx if self.rtfx > 0 else None

    def line(self) -> str:
        """One line for people."""
        totals = self.totals
        eta = "unknown" if self.eta is None else clock(self.eta)
        return (
            f"{min(totals.recordings, totals.done_recordings + self.recordings):,} of {totals.recordings:,} recordings · "
            f"{min(totals.seconds, totals.done_seconds + self.seconds) / 3600:.2f} of {totals.seconds / 3600:.2f} audio hours · "
            f"{self.rtfx:.0f}x real time · ETA {eta} · {self.failed:,} failed"
        )


class Progress:
    """Shows the counter while a `with` block runs.

    Args:
        totals: what there is to do.
        read: returns (recordings, failed, seconds) so far.
        store: is given every snapshot at the plain interval, for `status` to find.
        stream: where to show it; a terminal gets a live line.
    """

    def __init__(
        self,
        totals: Totals,
        read: Callable[[], tuple[int, int, float]],
        store: Callable[[Snapshot], None] | None = None,
        stream: Any = None,
    ) -> None:
        self.totals = totals
        self._read = read
        self._store = store
        self._stream = stream or sys.stderr
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._started = time.monotonic()
        self.last = Snapshot(totals, 0, 0, 0.0, 0.0)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        if self._stream.isatty():
            self._run_live()
        else:
            self._run_plain()

    def _run_plain(self) -> None:
        while not self._stop.wait(PLAIN_INTERVAL):
            print(self._look().line(), file=self._stream, flush=True)
        print(self._look().line(), file=self._stream, flush=True)

    def _run_live(self) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        stored = 0.0
        with Live(Text("starting"), console=Console(file=self._stream), auto_refresh=False) as live:
            stopping = False
            while not stopping:
                stopping = self._stop.wait(LIVE_INTERVAL)
                due = stopping or time.monotonic() - stored > PLAIN_INTERVAL
                live.update(Text(self._look(due).line()), refresh=True)
                stored = time.monotonic() if due else stored

    def _look(self, store: bool = True) -> Snapshot:
        # A counter that does not answer (Ray is going down) must not take the run with it: the last state is shown again.
        try:
            recordings, failed, seconds = self._read()
            self.last = Snapshot(self.totals, recordings, failed, seconds, time.monotonic() - self._started)
            if store and self._store is not None:
                self._store(self.last)
        except Exception:
            return self.last
        return self.last


def clock(seconds: float) -> str:
    """`h:mm:ss` of a duration in seconds."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
