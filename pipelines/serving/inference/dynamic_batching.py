"""Items of many callers through one model, in batches that they share.

While all processes of the model work, what arrives waits; the next batch is then cut out of all that waits. So nobody waits for a batch to fill
when the model is idle, and batches grow by themselves when it is not.
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


class Rank(IntEnum):
    """Whose turn it is; lower ones go first."""

    FINAL = 0  # of a stream: an utterance that is over
    PARTIAL = 1  # of a stream: one that goes on, of which more will be asked anyway
    FILE = 2


_PATIENCE = 10.0  # seconds after which a file does not let all others pass any longer ...
_TURNS = 3  # ... but only so many calls: streams must not starve files
_STREAMS_GONE = 30.0  # seconds after the last item of a stream in which calls are still kept short
_UNWATCHED = 4.0  # times as long a call may last when there are no streams: larger batches cost less
_LEAST = 0.5  # part of the time of a call that one of files lasts at least, if there is as much to do
_PARTIAL = (
    0.5  # part of the time of a call that one of partial answers may take: what is over comes in between
)
_SPEED = 0.2  # weight of the latest call in the running mean of the model's speed


def choose(durations: Sequence[float], ranks: Sequence[int], max_seconds: float, max_size: int) -> list[int]:
    """Which of the waiting items make the next batch.

    The first one of the lowest rank is in it; then others, those of low rank first, the nearest in length first, as long as the padded
    seconds (longest * items) stay within the budget.

    Args:
        durations: of the waiting items in seconds, oldest first.
        ranks: of each; lower ones go first.
        max_seconds: padded seconds of a batch; one item alone may be longer.
        max_size: items of a batch.

    Returns:
        Indices in ascending order; never empty where something waits.
    """
    if not durations:
        return []
    first = min(range(len(ranks)), key=lambda index: (ranks[index], index))
    others = [index for index in range(len(durations)) if index != first]
    others.sort(key=lambda index: (ranks[index], abs(durations[index] - durations[first])))
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
    rank: Rank
    alone: bool
    result: asyncio.Future[Result]
    since: float = field(default_factory=time.monotonic)


class DynamicBatcher(Generic[Item, Result]):
    """`await shared(item, seconds)` puts an item into the next batch that has room for it. All calls from one event loop.

    Args:
        call: does a batch; an exception among its results is that item's alone. `max_concurrent_calls` of them at a time.
        max_seconds: padded seconds of a batch.
        max_size: items of a batch.
        call_seconds: how long a call may last while streams are served: batches are cut to it by the speed measured so far.
    """

    def __init__(
        self,
        call: Callable[[list[Item]], Awaitable[Sequence[Result | Exception]]],
        max_seconds: float,
        max_size: int,
        call_seconds: float,
    ) -> None:
        self._call, self._max_seconds, self._max_size, self._call_seconds = (
            call,
            max_seconds,
            max_size,
            call_seconds,
        )
        self.max_concurrent_calls = 1
        self._waiting: list[_Waiting[Item, Result]] = []
        self._workers: set[asyncio.Task[None]] = set()  # asyncio itself does not hold on to tasks
        self._running = 0  # lanes with a call
        self._speeds: dict[
            Rank, float
        ] = {}  # padded seconds of audio a second, of batches that began with this rank
        self._stream_seen = -_STREAMS_GONE
        self._passed = 0  # calls since the last one that began with a file

    async def __call__(
        self, item: Item, seconds: float, rank: Rank = Rank.FILE, alone: bool = False
    ) -> Result:
        """The item's result. A caller who is cancelled frees the place, unless the model has begun.

        Args:
            item: what to do.
            seconds: of audio in it.
            rank: whose turn it is.
            alone: shares its batch with nobody, because it may kill the process.

        Raises:
            Exception: what the call raised for this item, or for all of its batch.
        """
        waiting = _Waiting(item, seconds, rank, alone, asyncio.get_running_loop().create_future())
        if rank is not Rank.FILE:
            self._stream_seen = waiting.since
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
        """Audio that no call has begun with."""
        return sum(one.seconds for one in self._waiting)

    async def _work(self) -> None:
        """One lane: calls, as long as something waits."""
        try:
            await asyncio.sleep(0)  # what arrives in the same turn of the loop shares the first batch
            while self._waiting and self._running <= self.max_concurrent_calls:
                batch, rank = self._next(time.monotonic())
                for one, result in zip(batch, await self._results(batch, rank), strict=True):
                    if one.result.done():  # its caller has gone
                        continue
                    if isinstance(result, Exception):
                        one.result.set_exception(result)
                    else:
                        one.result.set_result(result)
                await asyncio.sleep(0)  # who waited for these may have more to ask
        finally:
            self._running -= 1

    async def _results(self, batch: list[_Waiting[Item, Result]], rank: Rank) -> Sequence[Result | Exception]:
        started = time.monotonic()
        try:
            results = await self._call([one.item for one in batch])
            if len(results) != len(batch):
                raise AssertionError(f"the model gave {len(results)} results for {len(batch)} items")
        except Exception as error:
            return [error] * len(batch)
        self._learn(rank, max(one.seconds for one in batch) * len(batch), time.monotonic() - started)
        return results

    def _next(self, now: float) -> tuple[list[_Waiting[Item, Result]], Rank]:
        """Take the next batch out of what waits; and the rank of the one that it was made for."""
        first = next((one for one in self._waiting if one.alone), None)
        if first is not None:
            self._waiting.remove(first)
            return [first], first.rank
        first = min(self._waiting, key=lambda one: one.rank)
        if first.rank is not Rank.FILE and self._passed >= _TURNS:
            first = next(
                (one for one in self._waiting if one.rank is Rank.FILE and now - one.since > _PATIENCE), first
            )
        self._passed = 0 if first.rank is Rank.FILE else self._passed + 1
        ranks = [-1 if one is first else one.rank for one in self._waiting]
        chosen = choose(
            [one.seconds for one in self._waiting], ranks, self._budget(first.rank, now), self._max_size
        )
        batch = [self._waiting[index] for index in chosen]
        taken = set(chosen)
        self._waiting = [one for index, one in enumerate(self._waiting) if index not in taken]
        return batch, first.rank

    def _budget(self, rank: Rank, now: float) -> float:
        """Padded seconds of a batch that begins with this rank."""
        speed = self._speeds.get(rank)
        if speed is None:
            return self._max_seconds
        seconds = self._call_seconds
        if rank is Rank.PARTIAL:
            seconds *= _PARTIAL
        elif now - self._stream_seen >= _STREAMS_GONE:
            # Not all that waits at once: the model behind this one is to have work meanwhile, and so are other processes of this one.
            half = self.seconds_waiting / (2 * self.max_concurrent_calls)
            return min(self._max_seconds, speed * seconds * _UNWATCHED, max(half, speed * seconds * _LEAST))
        return min(self._max_seconds, speed * seconds)

    def _learn(self, rank: Rank, padded: float, took: float) -> None:
        speed = padded / max(took, 1e-3)
        known = self._speeds.get(rank)
        self._speeds[rank] = speed if known is None else (1 - _SPEED) * known + _SPEED * speed
