"""Decoding for the server: child processes shared by all requests, and a bound on the samples that wait for the models."""

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

Row = dict[str, Any]
Result = TypeVar("Result")


class Decoders:
    """Child processes that read headers and decode shards, each one thing at a time. All calls from one event loop.

    Args:
        audio: settings of decoding.
        segmenter: settings of cutting.
        count: of child processes; None: one a core.
        probe_timeout: seconds that a header may take.
    """

    def __init__(
        self, audio: AudioConfig, segmenter: SegmenterConfig, count: int | None, probe_timeout: float
    ) -> None:
        self._pool = ChildPool(Decoder(audio, segmenter) for _ in range(count or os.cpu_count() or 1))
        self._probe_timeout = probe_timeout

    async def run(self, work: Callable[[Decoder], Result]) -> Result:
        """Run `work` with a decoder, in a thread. A cancelled caller does not wait; running work is finished first."""
        return await asyncio.wrap_future(self._pool.submit(work))

    async def decode(self, row: Row) -> Row:
        """A PLAN row to a DECODED row; never raises for a bad file."""
        decoded = await self.run(lambda decoder: decoder([row])[0])
        # Bytes of their own can travel on to another process, and do not keep the rest of the shard in memory.
        decoded["segments"] = [
            {**segment, "samples": bytes(segment["samples"])} for segment in decoded["segments"]
        ]
        return decoded

    async def plan(self, make: Callable[[Callable[..., Any]], Result]) -> Result:
        """Call `make` with a function that probes a file, as `pipelines.planning.plan_table` takes one."""
        return await self.run(
            lambda decoder: make(lambda uri, scan=False: decoder.probe(uri, scan, self._probe_timeout))
        )

    def close(self) -> None:
        """End the child processes."""
        self._pool.close()


class Taken:
    """What one holds of a budget.

    Args:
        amount: as booked.
        change: books the difference when it turns out to be another one.
    """

    def __init__(self, amount: float, change: Callable[[float], None]) -> None:
        self.amount, self._change = amount, change

    def correct(self, amount: float) -> None:
        """It is that much in truth. Nobody waits: what is there already cannot be refused, so others wait until there is room again."""
        self._change(amount - self.amount)
        self.amount = amount


class Budget:
    """An amount that many share; who wants some waits for his turn. One who wants more than there is gets it when all else is back.

    Args:
        amount: all there is, in any unit.
    """

    def __init__(self, amount: float) -> None:
        self._amount, self._taken = amount, 0.0
        self._line: deque[tuple[float, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def take(self, amount: float) -> AsyncIterator[Taken]:
        """Hold some of it for the life of a `with` block."""
        amount = min(amount, self._amount)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (amount, turn)
        self._line.append(entry)
        self._serve()
        try:
            await turn
        except BaseException:
            if entry in self._line:
                self._line.remove(entry)
            elif turn.done() and not turn.cancelled():
                self._taken -= amount
            self._serve()
            raise
        taken = Taken(amount, self._book)
        try:
            yield taken
        finally:
            self._book(-taken.amount)

    def _book(self, more: float) -> None:
        self._taken += more
        self._serve()

    def _serve(self) -> None:
        while self._line and self._taken + self._line[0][0] <= self._amount + 1e-6:
            amount, turn = self._line.popleft()
            if turn.cancelled():
                continue
            self._taken += amount
            turn.set_result(None)
