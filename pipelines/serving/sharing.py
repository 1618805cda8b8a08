"""Items of many callers through one model, in batches that they share.

While the model works, what arrives waits; the next batch is then cut out of all that waits. So nobody waits for a batch to fill when the
model is idle, and batches grow by themselves when it is not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_PATIENCE = 10.0  # seconds after which what is not urgent becomes so: streams must not starve files
_SPEED = 0.2  # weight of the latest call in the running mean of the model's speed


def choose(durations: Sequence[float], urgent: Sequence[bool], max_seconds: float, max_size: int) -> list[int]:
    """Which of the waiting items make the next batch.

    The first urgent one is in it, or the first of all; then others, urgent ones first, the nearest in length first, as long as the padded
    seconds (longest * items) stay within the budget.

    Args:
        durations: of the waiting items in seconds, oldest first.
        urgent: of each, whether it goes before the others.
        max_seconds: padded seconds of a batch; one item alone may be longer.
        max_size: items of a batch.

    Returns:
        Indices in ascending order; never empty where something waits.
    """
    if not durations:
        return []
    first = next((index for index, hurry in enumerate(urgent) if hurry), 0)
    others = [index for index in range(len(durations)) if index != first]
    others.sort(key=lambda index: (not urgent[index], abs(durations[index] - durations[first])))
    chosen, longest = [first], durations[first]
    for index in others:
        padded = max(longest, durations[index]) * (len(chosen) + 1)
        if len(chosen) < max_size and padded <= max_seconds:
            chosen.append(index)
            longest = max(longest, durations[index])
    return sorted(chosen)


@dataclass(eq=False)  # one is itself only: items may be arrays, which cannot be compared as a whole
class _Waiting(Generic[Item, Result]):
    item: Item
    seconds: float
    urgent: bool
    alone: bool
    result: asyncio.Future[Result]
    since: float = field(default_factory=time.monotonic)


class SharedBatches(Generic[Item, Result]):
    """`await shared(item, seconds)` puts an item into the next batch that has room for it. All calls from one event loop.

    Args:
        call: does a batch; an exception among its results is that item's alone. It runs in a thread, one at a time.
        max_seconds: padded seconds of a batch.
        max_size: items of a batch.
        call_seconds: how long a call may last while others wait: batches are cut to it by the speed measured so far.
    """

    def __init__(
        self, call: Callable[[list[Item]], Sequence[Result | Exception]], max_seconds: float, max_size: int, call_seconds: float
    ) -> None:
        self._call, self._max_seconds, self._max_size, self._call_seconds = call, max_seconds, max_size, call_seconds
        self._waiting: list[_Waiting[Item, Result]] = []
        self._thread = ThreadPoolExecutor(1, "model")
        self._worker: asyncio.Task[None] | None = None
        self._speed: float | None = None  # padded seconds of audio a second

    async def __call__(self, item: Item, seconds: float, urgent: bool = False, alone: bool = False) -> Result:
        """The item's result. A caller who is cancelled frees the place, unless the model has begun.

        Args:
            item: what to do.
            seconds: of audio in it.
            urgent: goes before what is not.
            alone: shares its batch with nobody, because it may kill the process.

        Raises:
            Exception: what the call raised for this item, or for all of its batch.
        """
        waiting = _Waiting(item, seconds, urgent, alone, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        try:
            return await waiting.result
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    @property
    def seconds_waiting(self) -> float:
        """Audio that no call has begun with."""
        return sum(one.seconds for one in self._waiting)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)  # what arrives in the same turn of the loop shares the first batch
        while self._waiting:
            batch = self._next()
            started = time.monotonic()
            try:
                results = await loop.run_in_executor(self._thread, self._call, [one.item for one in batch])
            except Exception as error:
                results = [error] * len(batch)
            self._learn(max(one.seconds for one in batch) * len(batch), time.monotonic() - started)
            for one, result in zip(batch, results, strict=True):
                if one.result.done():  # its caller has gone
                    continue
                if isinstance(result, Exception):
                    one.result.set_exception(result)
                else:
                    one.result.set_result(result)

    def _next(self) -> list[_Waiting[Item, Result]]:
        now = time.monotonic()
        lone = next((one for one in self._waiting if one.alone), None)
        if lone is not None:
            self._waiting.remove(lone)
            return [lone]
        urgent = [one.urgent or now - one.since > _PATIENCE for one in self._waiting]
        budget = self._max_seconds if self._speed is None else min(self._max_seconds, self._speed * self._call_seconds)
        chosen = {id(self._waiting[index]) for index in choose([one.seconds for one in self._waiting], urgent, budget, self._max_size)}
        batch = [one for one in self._waiting if id(one) in chosen]
        self._waiting = [one for one in self._waiting if id(one) not in chosen]
        return batch

    def _learn(self, padded: float, took: float) -> None:
        speed = padded / max(took, 1e-3)
        self._speed = speed if self._speed is None else (1 - _SPEED) * self._speed + _SPEED * speed
