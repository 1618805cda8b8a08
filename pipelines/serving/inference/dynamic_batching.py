"""Dynamic batching: items of many callers share the batches of one model.

While all replicas of the model are busy, new items wait; the next batch is then chosen from all waiting
items. An idle model starts at once instead of waiting for a full batch, and batches grow with the load.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Priority(IntEnum):
    """Order of items; lower values go first."""

    FINAL = 0  # a finished utterance of a stream
    PARTIAL = 1  # an utterance that continues, and will be recognised again
    FILE = 2


# A file that has waited this many seconds goes first once every `_MAX_CALLS_BEFORE_FILE` calls, so that
# streams do not starve files.
_MAX_FILE_WAIT = 10.0
_MAX_CALLS_BEFORE_FILE = 3
# Seconds after the last item of a stream for which calls are still limited to `call_seconds`.
_STREAM_IDLE = 30.0
# Multiplies the duration of calls when there are no streams: larger batches cost less per item.
_FILES_ONLY_FACTOR = 4.0
_MIN_FILE_CALL = 0.5  # part of `call_seconds` that a call of files lasts at least, if enough items wait
# Part of `call_seconds` that a call of partial answers may last, so that final ones can start in between.
_MAX_PARTIAL_CALL = 0.5
_SPEED_WEIGHT = 0.2  # of the latest call in the running mean of the model's speed


def choose_batch(
    durations: Sequence[float], priorities: Sequence[int], max_seconds: float, max_size: int
) -> list[int]:
    """Choose the waiting items of the next batch.

    The oldest item of the most urgent priority is in it. Others follow, the most urgent and then the nearest
    in duration first, as long as the padded seconds (longest * items) stay within the budget.

    Args:
        durations: seconds of the waiting items, oldest first.
        priorities: of each item; lower values go first.
        max_seconds: padded seconds of a batch; a single item may be longer.
        max_size: items of a batch.

    Returns:
        Indices in ascending order; not empty if any item waits.
    """
    if not durations:
        return []
    first = min(range(len(priorities)), key=lambda index: (priorities[index], index))
    others = [index for index in range(len(durations)) if index != first]
    others.sort(key=lambda index: (priorities[index], abs(durations[index] - durations[first])))
    chosen, longest = [first], durations[first]
    for index in others:
        padded = max(longest, durations[index]) * (len(chosen) + 1)
        if len(chosen) < max_size and padded <= max_seconds:
            chosen.append(index)
            longest = max(longest, durations[index])
    return sorted(chosen)


@dataclass(eq=False)  # compared by identity: items may be arrays, which have no single truth value
class _Waiting(Generic[Item, Result]):
    item: Item
    seconds: float
    priority: Priority
    isolated: bool
    result: asyncio.Future[Result]
    since: float = field(default_factory=time.monotonic)


class DynamicBatcher(Generic[Item, Result]):
    """Puts items into the next batch that has space: `await batcher(item, seconds)`.

    All calls must come from one event loop.

    Args:
        call: processes a batch; an exception among its results belongs to one item. At most
            `max_concurrent_calls` run at a time.
        max_seconds: padded seconds of a batch.
        max_size: items of a batch.
        call_seconds: target duration of a call while there are streams. Batches are limited to it by the
            measured speed of the model.
    """

    def __init__(
        self,
        call: Callable[[list[Item]], Awaitable[Sequence[Result | Exception]]],
        max_seconds: float,
        max_size: int,
        call_seconds: float,
    ) -> None:
        self._call, self._call_seconds = call, call_seconds
        self._max_seconds, self._max_size = max_seconds, max_size
        self.max_concurrent_calls = 1
        self._waiting: list[_Waiting[Item, Result]] = []
        self._workers: set[asyncio.Task[None]] = set()  # asyncio keeps only weak references to tasks
        self._running = 0  # workers with a call
        # Padded seconds of audio per second, of batches whose first item had this priority.
        self._speeds: dict[Priority, float] = {}
        self._last_stream_item = -_STREAM_IDLE  # monotonic seconds
        self._calls_before_file = 0  # calls since the last one whose first item was a file

    async def __call__(
        self, item: Item, seconds: float, priority: Priority = Priority.FILE, isolated: bool = False
    ) -> Result:
        """The result for an item. A cancelled caller removes its item, unless its batch has begun.

        Args:
            item: to process.
            seconds: of audio in it.
            priority: of the item.
            isolated: give the item a batch of its own, because it may crash the process.

        Raises:
            Exception: raised by the call for this item or for its whole batch.
        """
        waiting = _Waiting(item, seconds, priority, isolated, asyncio.get_running_loop().create_future())
        if priority is not Priority.FILE:
            self._last_stream_item = waiting.since
        self._waiting.append(waiting)
        if self._running < self.max_concurrent_calls:
            self._running += 1
            worker = asyncio.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
        try:
            return await waiting.result
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    @property
    def seconds_waiting(self) -> float:
        """Seconds of audio in items that are in no batch yet."""
        return sum(waiting.seconds for waiting in self._waiting)

    async def _work(self) -> None:
        """One worker: calls as long as items wait."""
        try:
            await asyncio.sleep(0)  # items that arrive in the same turn of the loop share the first batch
            while self._waiting and self._running <= self.max_concurrent_calls:
                batch, priority = self._next_batch(time.monotonic())
                for waiting, result in zip(batch, await self._results(batch, priority), strict=True):
                    if waiting.result.done():  # its caller was cancelled
                        continue
                    if isinstance(result, Exception):
                        waiting.result.set_exception(result)
                    else:
                        waiting.result.set_result(result)
                await asyncio.sleep(0)  # callers that received results may add further items
        finally:
            self._running -= 1

    async def _results(
        self, batch: list[_Waiting[Item, Result]], priority: Priority
    ) -> Sequence[Result | Exception]:
        started = time.monotonic()
        try:
            results = await self._call([waiting.item for waiting in batch])
            if len(results) != len(batch):
                raise AssertionError(f"the model gave {len(results)} results for {len(batch)} items")
        except Exception as error:
            return [error] * len(batch)
        padded = max(waiting.seconds for waiting in batch) * len(batch)
        self._update_speed(priority, padded, time.monotonic() - started)
        return results

    def _next_batch(self, now: float) -> tuple[list[_Waiting[Item, Result]], Priority]:
        """Remove the next batch from the waiting items; also returns the priority of its first item."""
        first = next((waiting for waiting in self._waiting if waiting.isolated), None)
        if first is not None:
            self._waiting.remove(first)
            return [first], first.priority
        first = min(self._waiting, key=lambda waiting: waiting.priority)
        if first.priority is not Priority.FILE and self._calls_before_file >= _MAX_CALLS_BEFORE_FILE:
            overdue = (
                waiting
                for waiting in self._waiting
                if waiting.priority is Priority.FILE and now - waiting.since > _MAX_FILE_WAIT
            )
            first = next(overdue, first)
        self._calls_before_file = 0 if first.priority is Priority.FILE else self._calls_before_file + 1
        indices = choose_batch(
            [waiting.seconds for waiting in self._waiting],
            [-1 if waiting is first else waiting.priority for waiting in self._waiting],
            self._max_padded_seconds(first.priority, now),
            self._max_size,
        )
        batch, chosen = [self._waiting[index] for index in indices], set(indices)
        self._waiting = [waiting for index, waiting in enumerate(self._waiting) if index not in chosen]
        return batch, first.priority

    def _max_padded_seconds(self, priority: Priority, now: float) -> float:
        """Padded seconds of a batch whose first item has this priority."""
        speed = self._speeds.get(priority)
        if speed is None:
            return self._max_seconds
        seconds = self._call_seconds
        if priority is Priority.PARTIAL:
            seconds *= _MAX_PARTIAL_CALL
        elif now - self._last_stream_item >= _STREAM_IDLE:
            # At most half of the waiting items: the next model in the pipeline and the other replicas of this
            # one need work in the meantime.
            half = self.seconds_waiting / (2 * self.max_concurrent_calls)
            least = max(half, speed * seconds * _MIN_FILE_CALL)
            return min(self._max_seconds, speed * seconds * _FILES_ONLY_FACTOR, least)
        return min(self._max_seconds, speed * seconds)

    def _update_speed(self, priority: Priority, padded: float, duration: float) -> None:
        speed = padded / max(duration, 1e-3)
        mean = self._speeds.get(priority)
        self._speeds[priority] = speed if mean is None else (1 - _SPEED_WEIGHT) * mean + _SPEED_WEIGHT * speed
