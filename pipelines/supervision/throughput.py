"""How fast a pass went over time: a few points for run.json, from what the supervisor is told anyway."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from pipelines.supervision.model_costs import Costs

MAX_POINTS = 200


class ThroughputRecorder:
    """Collects points of one pass. When there are too many, every other one goes.

    Args:
        started_at: time in UTC, ISO 8601.
        slots: calls that each stage can work on at once, by stage.
        gpus: cards that hold models.
        cores: CPU cores of the nodes.
        clock: seconds.
    """

    def __init__(
        self,
        started_at: str,
        slots: Mapping[str, int],
        gpus: int,
        cores: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._facts = {"started_at": started_at, "gpus": gpus, "cores": cores, "slots": dict(slots)}
        self._clock, self._started = clock, clock()
        self._lock = threading.Lock()
        self._points: list[dict[str, Any]] = []
        self._every, self._skipped = 1, 0

    def add(self, seconds: float, costs: Costs, last: bool = False) -> None:
        """Note how far the pass is.

        Args:
            seconds: of audio, finished in this pass.
            costs: of its stages so far.
            last: keep this point in any case.
        """
        with self._lock:
            self._skipped += 1
            if self._skipped < self._every and not last:
                return
            self._skipped = 0
            point = {"at": round(self._clock() - self._started, 1), "seconds": round(seconds, 1)}
            self._points.append({**point, "stages": {name: _sums(part) for name, part in costs.items()}})
            if len(self._points) > MAX_POINTS:
                # The last one stays: counted from the end.
                self._points = self._points[::-2][::-1]
                self._every *= 2

    def as_record(self) -> dict[str, Any]:
        """For run.json: `started_at`, `gpus`, `cores`, `slots` by stage and `points`.

        A point has `at` (seconds since the start of the pass), `seconds` of audio that were finished by then,
        and `stages`: by stage the seconds of audio that it had processed, and those that it had worked.
        """
        with self._lock:
            return {**self._facts, "points": [*self._points]}


def _sums(devices: Mapping[str, Mapping[str, Any]]) -> list[float]:
    return [
        round(sum(record.get(name, 0.0) for record in devices.values()), 1)
        for name in ("audio_seconds", "busy_seconds")
    ]
