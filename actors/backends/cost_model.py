"""What a model call costs on a device, fitted to measurements.

The cost of a call with `rows` segments padded to `longest` seconds is

    seconds = call_seconds * longest + padded_second * longest * rows

The first term is decoding: a step for each token of the longest segment, whatever the number of rows, as long
as the step is bound by kernel launches or by reading the weights. The second is all that grows with padding:
encoder, prompt, keys and values. Their ratio is what `actors.batching.pack` needs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from actors.batch_limits import GPU_CALL_COST

log = logging.getLogger(__name__)

MEASURING_SECONDS = 0.5
# Rows and seconds of the calls, cheapest first; the first two always run.
_PROBES = ((1, 4.0), (32, 4.0), (64, 8.0), (128, 8.0))


@dataclass(frozen=True)
class CostModel:
    """Fitted cost of calls on one device."""

    call_seconds: float  # of time, for each second of a call's longest segment
    padded_second: float  # seconds of time for each padded second of audio
    rows: int  # largest number of segments in a call that was measured
    device: str  # name of the GPU, or cpu

    @property
    def call_cost_segments(self) -> float:
        """Cost of a call in segments as long as its longest."""
        return self.call_seconds / self.padded_second if self.padded_second > 0 else GPU_CALL_COST

    def seconds(self, longest: float, rows: int) -> float:
        """Predicted time of a call in seconds."""
        return longest * (self.call_seconds + self.padded_second * rows)

    def as_record(self) -> dict[str, Any]:
        """Plain values for the record of a run."""
        return asdict(self)


def fit(points: Sequence[tuple[int, float, float]], device: str) -> CostModel:
    """Fit the cost of a call by least squares of the relative error, with no negative cost.

    Args:
        points: (rows, longest segment in seconds, measured time in seconds) of at least two calls with
            different rows.
        device: name of the device.

    Raises:
        ValueError: the points do not determine two costs.
    """
    if len({rows for rows, _, _ in points}) < 2 or any(took <= 0 for _, _, took in points):
        raise ValueError(f"{len(points)} measured calls do not determine the cost of a call and of a second")
    rows, longest, took = (np.array(column, dtype=float) for column in zip(*points, strict=True))
    terms = np.stack([longest, longest * rows], 1) / took[:, None]
    costs = np.linalg.lstsq(terms, np.ones(len(points)), rcond=None)[0]
    if costs.min() < 0:
        # One of the two costs is below what was measurable: the other explains everything.
        better = int(np.argmax(costs))
        only = terms[:, better]
        costs = np.zeros(2)
        costs[better] = only.sum() / (only @ only)
    return CostModel(float(costs[0]), float(costs[1]), int(rows.max()), device)


def measure(
    call: Callable[[int, float], float],
    device: str,
    budget: float = MEASURING_SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> CostModel | None:
    """Measure a model on its device with a few calls of growing size.

    Args:
        call: runs one call with so many rows of so many seconds and returns the seconds that it took, without
            warm-up.
        device: name of the device.
        budget: seconds after which no further call starts.
        clock: for tests.

    Returns:
        The fitted costs; None if fewer than two calls succeeded.
    """
    points: list[tuple[int, float, float]] = []
    try:
        # Libraries load their kernels in the first call.
        call(*_PROBES[0])
        began = clock()
        for rows, seconds in _PROBES:
            if len(points) > 1 and clock() - began + points[-1][2] > budget:
                break
            points.append((rows, seconds, call(rows, seconds)))
    except RuntimeError as error:
        # Most likely out of memory: the calls before it are enough. A broken device fails the next call too.
        log.warning("a call to measure the device failed: %s", error)
    return fit(points, device) if len(points) > 1 else None
