"""Shows how far a run is, in recordings and audio hours: what is committed, and what is under way.

A terminal gets a live line, any other stream a plain line every ten seconds. What is under way has been
recognised but is not stored yet: it is done again if the run is killed.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from pipelines.commits.counter import NOTHING, Committed
from pipelines.plurals import counted

PLAIN_INTERVAL = 10.0  # seconds between plain lines
LIVE_INTERVAL = 0.5  # seconds between updates of a live line
# The expected speed weighs as much as so many seconds of a run at that speed. It decides the first minute, in
# which models are loaded and few tables come back; after ten minutes it hardly counts.
EXPECTED_SECONDS = 60.0


@dataclass(frozen=True)
class Totals:
    """What there is to do in total and what earlier runs have done of it, in recordings and seconds."""

    recordings: int
    seconds: float
    done_recordings: int = 0
    done_seconds: float = 0.0


@dataclass(frozen=True)
class Snapshot:
    """The progress of a run at one moment.

    Attributes:
        totals: what there is to do.
        recordings: that have left the last model in this run, committed or not.
        failed: those of them with a failed shard.
        seconds: of their audio.
        elapsed: wall seconds since the start.
        expected: audio seconds per wall second by earlier measurements; None: nothing is known.
        committed: what this run has stored for good.
    """

    totals: Totals
    recordings: int
    failed: int
    seconds: float
    elapsed: float
    expected: float | None = None
    committed: Committed = NOTHING

    @property
    def rtfx(self) -> float:
        """Audio seconds per wall second in this run."""
        return self.seconds / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds until all is committed, at the speed of this run blended with the expected one.

        None if neither is known. What is under way counts as not done.
        """
        left = max(0.0, self.totals.seconds - self.totals.done_seconds - self.committed.seconds)
        if self.expected is None:
            return left / self.rtfx if self.rtfx > 0 else None
        speed = (self.seconds + EXPECTED_SECONDS * self.expected) / (self.elapsed + EXPECTED_SECONDS)
        return left / speed if speed > 0 else None

    @property
    def under_way(self) -> Committed:
        """What has left the last model and is not stored yet."""
        return Committed(
            max(0, self.recordings - self.committed.recordings),
            max(0.0, self.seconds - self.committed.seconds),
        )

    def line(self) -> str:
        """The progress in one line."""
        totals, under_way = self.totals, self.under_way
        recordings = min(totals.recordings, totals.done_recordings + self.committed.recordings)
        seconds = min(totals.seconds, totals.done_seconds + self.committed.seconds)
        eta = "unknown" if self.eta is None else clock(self.eta)
        parts = [
            f"committed {recordings:,} of {totals.recordings:,} recordings",
            f"{seconds / 3600:.2f} of {totals.seconds / 3600:.2f} audio hours",
            f"{self.rtfx:.0f}x real time",
            f"ETA {eta}",
            f"{self.failed:,} failed",
        ]
        # Half of the last digit that is shown.
        if under_way.recordings or under_way.seconds >= 18:
            count = counted(under_way.recordings, "recording")
            parts.insert(2, f"under way {count}, {under_way.seconds / 3600:.2f} hours")
        return " · ".join(parts)


class ProgressDisplay:
    """Shows the counter while a `with` block runs.

    Args:
        totals: what there is to do.
        read: returns (recordings, failed, seconds) so far, committed or not.
        committed: returns what is committed; it is called with True for the last snapshot.
        store: called with a snapshot at the plain interval, for `status` to find.
        stream: where to show the progress; a terminal gets a live line.
        expected: returns the expected speed, see `Snapshot`; asked until it is known.
    """

    def __init__(
        self,
        totals: Totals,
        read: Callable[[], tuple[int, int, float]],
        committed: Callable[[bool], Committed],
        store: Callable[[Snapshot], None] | None = None,
        stream: Any = None,
        expected: Callable[[], float | None] = lambda: None,
    ) -> None:
        self.totals = totals
        self._read, self._committed = read, committed
        self._store = store
        self._stream = stream or sys.stderr
        self._expected = expected
        self._speed: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._started = time.monotonic()
        self.last = Snapshot(totals, 0, 0, 0.0, 0.0)

    def __enter__(self) -> ProgressDisplay:
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
            print(self._update().line(), file=self._stream, flush=True)
        print(self._update(last=True).line(), file=self._stream, flush=True)

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
                live.update(Text(self._update(due, stopping).line()), refresh=True)
                stored = time.monotonic() if due else stored

    def _update(self, store: bool = True, last: bool = False) -> Snapshot:
        # Neither a supervisor nor a store that does not answer may end the run: what it said last is shown
        # again.
        before = self.last
        counts, committed = (before.recordings, before.failed, before.seconds), before.committed
        # First what is committed: what is under way is then rather too much than too little.
        with suppress(Exception):
            committed = self._committed(last)
        with suppress(Exception):
            counts = self._read()
        if self._speed is None:
            with suppress(Exception):
                self._speed = self._expected()
        elapsed = time.monotonic() - self._started
        self.last = Snapshot(self.totals, *counts, elapsed, self._speed, committed)
        if store and self._store is not None:
            with suppress(Exception):
                self._store(self.last)
        return self.last


def clock(seconds: float) -> str:
    """A duration in seconds as `h:mm:ss`."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
