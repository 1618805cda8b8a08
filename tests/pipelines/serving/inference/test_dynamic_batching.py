"""Dynamic batching: which items share a call, in which order, and which items an error belongs to."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.serving.inference import dynamic_batching
from pipelines.serving.inference.dynamic_batching import DynamicBatcher, Priority, choose_batch

FINAL, PARTIAL, FILE = Priority.FINAL, Priority.PARTIAL, Priority.FILE
DURATIONS = st.lists(st.floats(0.1, 100), min_size=1, max_size=30)


@given(DURATIONS, st.data())
def test_a_batch_has_the_first_item_and_fits_the_budget(durations: list[float], data: st.DataObject) -> None:
    count = len(durations)
    priorities = data.draw(st.lists(st.sampled_from(Priority), min_size=count, max_size=count))
    chosen = choose_batch(durations, priorities, 200, 8)
    assert chosen == sorted(set(chosen)) and 1 <= len(chosen) <= 8
    assert priorities.index(min(priorities)) in chosen
    assert len(chosen) == 1 or max(durations[index] for index in chosen) * len(chosen) <= 200


def test_urgent_items_go_first_and_items_of_similar_duration_share_a_batch() -> None:
    assert choose_batch([1, 60, 61, 2], [FILE] * 4, 130, 8) == [0, 3]
    assert choose_batch([60, 60, 5, 5], [FILE, FILE, FINAL, FILE], 12, 8) == [2, 3]
    assert choose_batch([5, 5, 5], [FILE, PARTIAL, FINAL], 1000, 2) == [1, 2]
    assert choose_batch([], [], 10, 2) == []


class BlockedModel:
    """A model that records its batches; calls wait for `proceed`."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.proceed = asyncio.Event()

    async def __call__(self, items: list[Any]) -> list[Any]:
        self.batches.append(items)
        await asyncio.wait_for(self.proceed.wait(), 60)
        if any(item == "bad batch" for item in items):
            raise RuntimeError("the batch fails")
        return [ValueError("the item fails") if item == "bad" else f"{item}!" for item in items]


def batcher_for(model: BlockedModel) -> DynamicBatcher[Any, Any]:
    return DynamicBatcher(model, 1000, 64, 1e9)


async def until(check: Callable[[], Any]) -> None:
    """Let the event loop run until `check` holds."""
    async with asyncio.timeout(60):
        while not check():
            await asyncio.sleep(0)


def test_items_that_arrive_during_a_call_share_the_next_one() -> None:
    async def main() -> None:
        model = BlockedModel()
        batcher = batcher_for(model)
        first = asyncio.create_task(batcher("a", 1))
        await until(lambda: model.batches)
        rest = [asyncio.create_task(batcher(name, 1)) for name in ("b", "bad", "c")]
        cancelled = asyncio.create_task(batcher("cancelled", 1))
        await until(lambda: batcher.seconds_waiting == 4)
        cancelled.cancel()
        await until(lambda: batcher.seconds_waiting == 3)
        model.proceed.set()
        results = await asyncio.gather(first, *rest, return_exceptions=True)
        assert model.batches == [["a"], ["b", "bad", "c"]]
        assert [results[0], results[1], results[3]] == ["a!", "b!", "c!"]
        assert str(results[2]) == "the item fails"

    asyncio.run(main())


def test_a_failing_call_fails_its_batch_and_no_other() -> None:
    async def main() -> None:
        model = BlockedModel()
        model.proceed.set()
        batcher = batcher_for(model)
        results = await asyncio.gather(batcher("bad batch", 1), batcher("x", 1), return_exceptions=True)
        assert [str(result) for result in results] == ["the batch fails"] * 2
        assert await batcher("y", 1) == "y!"
        await asyncio.gather(batcher("x", 1), batcher("isolated", 1, isolated=True), batcher("z", 1))
        assert model.batches[-2:] == [["isolated"], ["x", "z"]]

    asyncio.run(main())


def test_items_may_be_arrays() -> None:
    async def main() -> None:
        async def call(items: list[Any]) -> list[Any]:
            return [len(item) for item in items]

        batcher: DynamicBatcher[Any, Any] = DynamicBatcher(call, 1000, 64, 1)
        sizes = (3, 5, 2, 9)
        assert await asyncio.gather(*(batcher(np.zeros(size), size) for size in sizes)) == [*sizes]

    asyncio.run(main())


def first_batch_size(priorities: list[Priority], speed: float, call_seconds: float) -> int:
    """The size of the first batch of one-second items, for a model of `speed` padded seconds per second."""
    sizes: list[int] = []

    async def call(items: list[Any]) -> list[Any]:
        sizes.append(len(items))
        return items

    async def main() -> None:
        batcher = DynamicBatcher(call, 1e9, 64, call_seconds)
        for priority in Priority:
            batcher._update_speed(priority, speed, 1)
        await asyncio.gather(*(batcher(number, 1.0, priority) for number, priority in enumerate(priorities)))

    asyncio.run(main())
    return sizes[0]


def test_batches_are_limited_by_the_speed_of_the_model_and_larger_without_streams() -> None:
    assert first_batch_size([FILE] * 16, 1, 0.001) == 1
    assert first_batch_size([FILE] * 16, 1, 1e9) == 16
    assert first_batch_size([FILE] * 16, 1, 2.0) == 8  # half of them, so that the next model has work as well
    assert first_batch_size([FILE] * 64, 1, 2.0) == 8  # four times as many as while there are streams
    assert first_batch_size([FINAL] + [FILE] * 16, 1, 2.0) == 2  # there is a stream
    assert first_batch_size([PARTIAL] * 16, 1, 8.0) == 4  # so that final items can start in between


def test_at_most_max_concurrent_calls_run_at_a_time() -> None:
    async def main() -> None:
        model = BlockedModel()
        batcher = DynamicBatcher[Any, Any](model, 1, 64, 1e9)  # one item per call
        tasks = [asyncio.create_task(batcher(number, 1)) for number in range(6)]
        await asyncio.sleep(0.01)
        assert len(model.batches) == 1
        batcher.max_concurrent_calls = 3
        tasks += [asyncio.create_task(batcher(number, 1)) for number in range(6, 9)]
        await asyncio.sleep(0.01)
        assert len(model.batches) == 3
        batcher.max_concurrent_calls = 1
        model.proceed.set()
        assert await asyncio.gather(*tasks) == [f"{number}!" for number in range(9)]
        assert [item for (item,) in model.batches] == list(range(9))
        assert await batcher("again", 1) == "again!"

    asyncio.run(main())


def test_final_items_go_first_but_do_not_starve_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamic_batching, "_MAX_FILE_WAIT", 0.0)

    async def main() -> None:
        model = BlockedModel()
        batcher = DynamicBatcher(model, 1000, 1, 1e9)  # one item per call
        first = asyncio.create_task(batcher("first", 1))
        await until(lambda: model.batches)
        finals = [f"final {number}" for number in range(6)]
        items = {"old file": FILE, "partial": PARTIAL, **dict.fromkeys(finals, FINAL), "new file": FILE}
        rest = [asyncio.create_task(batcher(name, 1, priority)) for name, priority in items.items()]
        await until(lambda: batcher.seconds_waiting == len(items))
        model.proceed.set()
        await asyncio.gather(first, *rest)
        order = [name for (name,) in model.batches]
        assert order == ["first", *finals[:3], "old file", *finals[3:], "new file", "partial"]

    asyncio.run(main())
