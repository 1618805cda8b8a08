"""Shows how far a run is, in recordings and audio hours.

A terminal gets a live line, any other stream a plain line every ten seconds.
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
        recordings: finished in this run.
        failed: those of them with a failed shard.
        seconds: of audio, finished in this run.
        elapsed: wall seconds since the start.
        expected: audio seconds per wall second by earlier measurements; None: nothing is known.
    """

    totals: Totals
    recordings: int
    failed: int
    seconds: float
    elapsed: float
    expected: float | None = None

    @property
    def rtfx(self) -> float:
        """Audio seconds per wall second in this run."""
        return self.seconds / self.elapsed if self.elapsed > 0 else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds left at the speed of this run, blended with the expected one; None if neither is known."""
        left = max(0.0, self.totals.seconds - self.totals.done_seconds - self.seconds)
        if self.expected is None:
            return left / self.rtfx if self.rtfx > 0 else None
        speed = (self.seconds + EXPECTED_SECONDS * self.expected) / (self.elapsed + EXPECTED_SECONDS)
        return left / speed if speed > 0 else None

    def line(self) -> str:
        """The progress in one line."""
        totals = self.totals
        recordings = min(totals.recordings, totals.done_recordings + self.recordings)
        seconds = min(totals.seconds, totals.done_seconds + self.seconds)
        eta = "unknown" if self.eta is None else clock(self.eta)
        return (
            f"{recordings:,} of {totals.recordings:,} recordings · "
            f"{seconds / 3600:.2f} of {totals.seconds / 3600:.2f} audio hours · "
            f"{self.rtfx:.0f}x real time · ETA {eta} · {self.failed:,} failed"
        )


class ProgressDisplay:
    """Shows the counter while a `with` block runs.

    Args:
        totals: what there is to do.
        read: returns (recordings, failed, seconds) so far.
        store: called with a snapshot at the plain interval, for `status` to find.
        stream: where to show the progress; a terminal gets a live line.
        expected: returns the expected speed, see `Snapshot`; asked until it is known.
    """

    def __init__(
        self,
        totals: Totals,
        read: Callable[[], tuple[int, int, float]],
        store: Callable[[Snapshot], None] | None = None,
        stream: Any = None,
        expected: Callable[[], float | None] = lambda: None,
    ) -> None:
        self.totals = totals
        self._read = read
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
        print(self._update().line(), file=self._stream, flush=True)

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
                live.update(Text(self._update(due).line()), refresh=True)
                stored = time.monotonic() if due else stored

    def _update(self, store: bool = True) -> Snapshot:
        # A counter that does not answer (Ray is going down) must not end the run: the last snapshot is shown
        # again.
        try:
            recordings, failed, seconds = self._read()
            if self._speed is None:
                with suppress(Exception):
                    self._speed = self._expected()
            elapsed = time.monotonic() - self._started
            self.last = Snapshot(self.totals, recordings, failed, seconds, elapsed, self._speed)
            if store and self._store is not None:
                self._store(self.last)
        except Exception:
            return self.last
        return self.last


def clock(seconds: float) -> str:
    """A duration in seconds as `h:mm:ss`."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
