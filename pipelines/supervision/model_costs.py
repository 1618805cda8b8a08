"""What the stages of a run cost: seconds of work and of audio by stage and device, for OUT/run.json.

Nothing is measured actively: each stage reports the calls that it makes anyway. A model that measured its
device when it was loaded (`actors.backends.cost_model`) adds what it found.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

# By stage and by the name of the device: see `summed`.
Costs = dict[str, dict[str, dict[str, Any]]]

DECODE, RECOGNISE, ALIGN = "decode", "recognise", "align"
RECOGNISE_AGAIN = "recognise_again"  # by the second model of the repair
SERVER = "server"  # the device of a recogniser behind HTTP
CPU = "cpu"
_SUMS = ("calls", "audio_seconds", "busy_seconds")


class BusyTimer:
    """Measures the time in which at least one call runs; calls may overlap."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._running, self._since, self._busy = 0, 0.0, 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """A call runs inside the `with` block."""
        self._change(1)
        try:
            yield
        finally:
            self._change(-1)

    def take(self) -> float:
        """Busy seconds since the last `take`."""
        with self._lock:
            self._advance()
            busy, self._busy = self._busy, 0.0
            return busy

    def _change(self, by: int) -> None:
        with self._lock:
            self._advance()
            self._running += by

    def _advance(self) -> None:
        now = self._clock()
        self._busy += now - self._since if self._running else 0.0
        self._since = now


@dataclass
class CostRecorder:
    """Sums up what the processes of all stages report; a part of the supervisor.

    Attributes:
        costs: by stage and device.
    """

    costs: Costs = field(default_factory=dict)

    def record_costs(self, stage: str, device: str, record: Mapping[str, Any]) -> None:
        """A process has made calls: `calls`, `audio_seconds`, `busy_seconds`, and facts that are no sums."""
        self.costs = summed(self.costs, {stage: {device: dict(record)}})

    def model_costs(self) -> Costs:
        """What was reported so far."""
        return self.costs


def summed(first: Costs, second: Costs) -> Costs:
    """Add up two sets of costs: `calls`, `audio_seconds`, `busy_seconds`; of other facts the later ones."""
    total = {stage: dict(devices) for stage, devices in first.items()}
    for stage, devices in second.items():
        for device, record in devices.items():
            before = total.setdefault(stage, {}).get(device, {})
            sums = {name: before.get(name, 0) + record.get(name, 0) for name in _SUMS}
            total[stage][device] = {**before, **record, **sums}
    return total


def with_replicas(costs: Costs, replicas_per_gpu: Mapping[str, float]) -> Costs:
    """Costs with the number of replicas on each GPU, for records of GPUs.

    Args:
        costs: of a pass.
        replicas_per_gpu: by stage; less than 1 where a replica has several GPUs.
    """
    return {
        stage: {
            device: record
            | (
                {"replicas_per_gpu": replicas_per_gpu[stage]}
                if is_gpu(device) and stage in replicas_per_gpu
                else {}
            )
            for device, record in devices.items()
        }
        for stage, devices in costs.items()
    }


def as_record(costs: Costs) -> Costs:
    """Costs for run.json: rounded, and with `rtfx`, the audio seconds per busy second of one replica."""
    return {
        stage: {
            device: record
            | {
                "audio_seconds": round(record["audio_seconds"], 1),
                "busy_seconds": round(record["busy_seconds"], 3),
                "rtfx": round(record["audio_seconds"] / record["busy_seconds"], 1),
            }
            for device, record in devices.items()
            if record["busy_seconds"] > 0
        }
        for stage, devices in costs.items()
    }


def is_gpu(device: str) -> bool:
    """Whether the name of a device is that of a GPU."""
    return device not in (CPU, SERVER)


def in_words(costs: Costs) -> str:
    """Costs of run.json in one line; empty where there are none."""
    return ", ".join(
        f"{stage} {record['rtfx']:,.0f}x on {device}"
        for stage, devices in costs.items()
        for device, record in devices.items()
    )
