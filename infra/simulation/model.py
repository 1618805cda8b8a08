"""A run as a queueing model: decoding cores, GPUs, and the one process that leads the job.

Time passes from event to event. A task is decoded on a core and yields blocks. The driver hands each block to
a GPU, where it is recognised and aligned, and then lets it be written. The driver does one thing at a time,
as Ray Data's loop does. Decoding may only be ahead of the GPUs by a bounded amount, because Ray's object
store is bounded. Planning, starting and stitching add their seconds.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Blocks that a GPU holds at a time: one in work, one waiting.
IN_FLIGHT = 2


@dataclass(frozen=True)
class Machine:
    """The hardware of a run: GPUs, decoding cores, audio seconds that one GPU recognises and aligns per
    second, and blocks that fit the object store.
    """

    gpus: int
    cores: int
    speed: float
    room: int


@dataclass(frozen=True)
class Prices:
    """Prices in seconds: of a core per audio second; of the driver per block through all stages; of the
    driver per second in any case (a share).
    """

    core: float
    block: float
    idle: float = 0.0


@dataclass(frozen=True)
class Flow:
    """The outcome: seconds from the first task to the last write, and each server's busy share of them."""

    seconds: float
    gpu: float
    cores: float
    driver: float
    blocks: int
    audio: float

    @property
    def limit(self) -> str:
        """The busiest server."""
        return max(
            ("GPUs", self.gpu), ("decoding", self.cores), ("driver", self.driver), key=lambda pair: pair[1]
        )[0]


def simulate(tasks: Sequence[Sequence[float]], machine: Machine, prices: Prices) -> Flow:
    """Run tasks in order, each given as the audio seconds of the blocks that it yields.

    Each block costs the driver `prices.block`: a quarter when its decoding starts or goes on, a half when it
    is handed to a GPU and taken back, and a quarter when it is written.
    """
    events: list[tuple[float, int, Callable[[], None]]] = []
    now, number = 0.0, 0
    waiting = deque(tasks)
    ready: deque[float] = deque()
    cores, under_way = machine.cores, 0
    # Blocks of each GPU.
    load = [0] * machine.gpus
    card_free = [0.0] * machine.gpus
    # (blocks, GPU); stale entries are skipped.
    idle_cards = [(0, card) for card in range(machine.gpus)]
    driver_free = 0.0
    busy = {"gpu": 0.0, "cores": 0.0, "driver": 0.0}
    done = [0, 0.0]
    slow = 1.0 / max(1e-9, 1.0 - prices.idle)

    def later(when: float, what: Callable[[], None]) -> None:
        nonlocal number
        number += 1
        heapq.heappush(events, (when, number, what))

    def by_driver(part: float, what: Callable[[], None]) -> None:
        nonlocal driver_free
        cost_seconds = part * prices.block * slow
        driver_free = max(driver_free, now) + cost_seconds
        busy["driver"] += cost_seconds
        later(driver_free, what)

    def start_tasks() -> None:
        nonlocal cores, under_way
        while waiting and cores and under_way < machine.room:
            blocks = waiting.popleft()
            cores -= 1
            under_way += 1
            by_driver(0.25 * len(blocks), lambda blocks=blocks: decode(blocks, 0))  # type: ignore[misc]

    def decode(blocks: Sequence[float], place: int) -> None:
        cost_seconds = blocks[place] * prices.core
        busy["cores"] += cost_seconds

        def decoded() -> None:
            nonlocal cores, under_way
            ready.append(blocks[place])
            hand_out()
            if place + 1 < len(blocks):
                # A task that has started goes on.
                under_way += 1
                decode(blocks, place + 1)
            else:
                cores += 1
                start_tasks()

        later(now + cost_seconds, decoded)

    def hand_out() -> None:
        while ready and idle_cards:
            blocks, card = heapq.heappop(idle_cards)
            if blocks != load[card]:
                continue
            load[card] += 1
            if load[card] < IN_FLIGHT:
                heapq.heappush(idle_cards, (load[card], card))
            seconds = ready.popleft()
            by_driver(0.5, lambda seconds=seconds, card=card: recognise(seconds, card))  # type: ignore[misc]

    def recognise(seconds: float, card: int) -> None:
        cost_seconds = seconds / machine.speed
        busy["gpu"] += cost_seconds
        card_free[card] = max(card_free[card], now) + cost_seconds
        later(card_free[card], lambda: recognised(seconds, card))

    def recognised(seconds: float, card: int) -> None:
        nonlocal under_way
        load[card] -= 1
        under_way -= 1
        heapq.heappush(idle_cards, (load[card], card))
        by_driver(0.25, lambda: written(seconds))
        hand_out()
        start_tasks()

    def written(seconds: float) -> None:
        done[0] += 1
        done[1] += seconds

    start_tasks()
    while events:
        now, _, what = heapq.heappop(events)
        what()
    total = now or 1.0
    shares = busy["gpu"] / total / machine.gpus, busy["cores"] / total / machine.cores, busy["driver"] / total
    return Flow(now, *shares, blocks=int(done[0]), audio=done[1])


def tasks_of(
    shards: Sequence[float], task_seconds: float, block_seconds: float, most: int = 256
) -> list[list[float]]:
    """Shards in plan order as tasks, and each task's blocks, cut as by `pipelines.output.plans` and Ray.

    Args:
        shards: audio seconds of each.
        task_seconds: of one task, unless a shard is longer.
        block_seconds: a block is closed by the shard that fills it.
        most: shards of one task.
    """
    tasks: list[list[float]] = []
    rows, total = math.inf, math.inf
    filled = True
    for seconds in shards:
        if rows >= most or total + seconds > task_seconds:
            tasks.append([])
            rows, total, filled = 0, 0.0, True
        if filled:
            tasks[-1].append(0.0)
        tasks[-1][-1] += seconds
        rows, total, filled = rows + 1, total + seconds, tasks[-1][-1] >= block_seconds
    return tasks
