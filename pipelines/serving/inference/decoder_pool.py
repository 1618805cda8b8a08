"""Decoding for the server: child processes that all requests share, and a budget for decoded audio."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from actors.config import AudioConfig, SegmenterConfig
from actors.decoder import Decoder
from actors.process.child_pool import ChildPool
from actors.records import Row

Result = TypeVar("Result")


class DecoderPool:
    """Child processes that probe files and decode shards. All calls must come from one event loop.

    Args:
        audio: settings of decoding.
        segmenter: settings of segmentation.
        count: number of child processes; None for one per core.
        probe_timeout: seconds for probing one file.
    """

    def __init__(
        self, audio: AudioConfig, segmenter: SegmenterConfig, count: int | None, probe_timeout: float
    ) -> None:
        self._pool = ChildPool(Decoder(audio, segmenter) for _ in range(count or os.cpu_count() or 1))
        self._probe_timeout = probe_timeout

    async def run(self, work: Callable[[Decoder], Result]) -> Result:
        """Run `work` with a decoder in a thread.

        A cancelled caller does not wait. Work that has begun runs to its end, and occupies its decoder until
        then.
        """
        return await asyncio.wrap_future(self._pool.submit(work))

    async def decode(self, row: Row) -> Row:
        """Decode a PLAN row to a DECODED row. A bad file does not raise; the row contains the error."""
        decoded = await self.run(lambda decoder: decoder([row])[0])
        # Copies can be sent to another process, and do not hold the rest of the shard in memory.
        decoded["segments"] = [
            {**segment, "samples": bytes(segment["samples"])} for segment in decoded["segments"]
        ]
        return decoded

    async def plan(self, make: Callable[[Callable[..., Any]], Result]) -> Result:
        """Call `make` with a probe function as `pipelines.planning.planner.plan_table` takes it."""
        return await self.run(
            lambda decoder: make(lambda uri, scan=False: decoder.probe(uri, scan, self._probe_timeout))
        )

    def close(self) -> None:
        """End the child processes."""
        self._pool.close()


class Reservation:
    """A part of a budget.

    Args:
        amount: reserved.
        change: adds to the reserved total of the budget.
    """

    def __init__(self, amount: float, change: Callable[[float], None]) -> None:
        self.amount, self._change = amount, change

    def correct(self, amount: float) -> None:
        """Replace an estimate by the actual amount, without waiting.

        The actual amount is in use already, so it is accepted even above the budget; later reservations wait.
        """
        self._change(amount - self.amount)
        self.amount = amount


class Budget:
    """A shared amount, reserved first come, first served.

    A reservation above the total is granted when nothing else is reserved.

    Args:
        amount: the total, in any unit.
    """

    def __init__(self, amount: float) -> None:
        self._amount, self._reserved = amount, 0.0
        self._queue: deque[tuple[float, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def reserve(self, amount: float) -> AsyncIterator[Reservation]:
        """Reserve an amount for the life of a `with` block; waits until it is available."""
        amount = min(amount, self._amount)
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (amount, granted)
        self._queue.append(entry)
        self._grant()
        try:
            await granted
        except BaseException:
            if entry in self._queue:
                self._queue.remove(entry)
            elif granted.done() and not granted.cancelled():
                self._reserved -= amount
            self._grant()
            raise
        reservation = Reservation(amount, self._change)
        try:
            yield reservation
        finally:
            self._change(-reservation.amount)

    def _change(self, difference: float) -> None:
        self._reserved += difference
        self._grant()

    def _grant(self) -> None:
        while self._queue and self._reserved + self._queue[0][0] <= self._amount + 1e-6:
            amount, granted = self._queue.popleft()
            if granted.cancelled():
                continue
            self._reserved += amount
            granted.set_result(None)
