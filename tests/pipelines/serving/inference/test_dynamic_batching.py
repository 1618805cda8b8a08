"""Which items share a model call, and whose failure is whose."""

import asyncio
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
def test_a_batch_has_the_first_one_and_fits_the_budget(durations: list[float], data: st.DataObject) -> None:
    priorities = data.draw(
        st.lists(st.sampled_from(Priority), min_size=len(durations), max_size=len(durations))
    )
    chosen = choose_batch(durations, priorities, 200, 8)
    assert chosen == sorted(set(chosen)) and 1 <= len(chosen) <= 8
    assert priorities.index(min(priorities)) in chosen
    assert len(chosen) == 1 or max(durations[i] for i in chosen) * len(chosen) <= 200


def test_low_ranks_go_first_and_neighbours_in_length_share() -> None:
    assert choose_batch([1, 60, 61, 2], [FILE] * 4, 130, 8) == [0, 3]
    assert choose_batch([60, 60, 5, 5], [FILE, FILE, FINAL, FILE], 12, 8) == [2, 3]
    assert choose_batch([5, 5, 5], [FILE, PARTIAL, FINAL], 1000, 2) == [1, 2]
    assert choose_batch([], [], 10, 2) == []


class Recorder:
    """Notes the batches; calls wait for `go`."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.go = asyncio.Event()

    async def __call__(self, items: list[Any]) -> list[Any]:
        self.batches.append(items)
        await asyncio.wait_for(self.go.wait(), 20)
        if any(item == "boom" for item in items):
            raise RuntimeError("all of it")
        return [ValueError("mine") if item == "bad" else f"{item}!" for item in items]


def shared(call: Recorder) -> DynamicBatcher[Any, Any]:
    return DynamicBatcher(call, 1000, 64, 1e9)


def test_what_arrives_while_the_model_works_shares_the_next_call() -> None:
    async def main() -> None:
        call = Recorder()
        share = shared(call)
        first = asyncio.create_task(share("a", 1))
        while not call.batches:
            await asyncio.sleep(0.01)
        rest = [asyncio.create_task(share(name, 1)) for name in ("b", "bad", "c")]
        gone = asyncio.create_task(share("gone", 1))
        await asyncio.sleep(0.01)
        assert share.seconds_waiting == 4
        gone.cancel()
        await asyncio.sleep(0.01)
        assert share.seconds_waiting == 3
        call.go.set()
        results = await asyncio.gather(first, *rest, return_exceptions=True)
        assert call.batches == [["a"], ["b", "bad", "c"]]
        assert [results[0], results[1], results[3]] == ["a!", "b!", "c!"] and str(results[2]) == "mine"

    asyncio.run(main())


def test_a_call_that_fails_fails_its_batch_and_no_other() -> None:
    async def main() -> None:
        call = Recorder()
        call.go.set()
        share = shared(call)
        results = await asyncio.gather(share("boom", 1), share("x", 1), return_exceptions=True)
        assert [str(result) for result in results] == ["all of it", "all of it"]
        assert await share("y", 1) == "y!"
        await asyncio.gather(share("x", 1), share("alone", 1, isolated=True), share("z", 1))
        assert call.batches[-2:] == [["alone"], ["x", "z"]]

    asyncio.run(main())


def test_arrays_are_told_apart_without_being_compared() -> None:
    async def main() -> None:
        async def call(items: list[Any]) -> list[Any]:
            return [len(item) for item in items]

        share: DynamicBatcher[Any, Any] = DynamicBatcher(call, 1000, 64, 1)
        assert await asyncio.gather(*(share(np.zeros(size), size) for size in (3, 5, 2, 9))) == [3, 5, 2, 9]

    asyncio.run(main())


def sizes_of(priorities: list[Priority], speed: float, call_seconds: float) -> list[int]:
    """Sizes of the calls that an item of a second for each rank ends up in, with a model of so many padded seconds a second."""
    sizes: list[int] = []

    async def call(items: list[Any]) -> list[Any]:
        sizes.append(len(items))
        return items

    async def main() -> None:
        share = DynamicBatcher(call, 1e9, 64, call_seconds)
        for priority in Priority:
            share._update_speed(priority, speed, 1)
        await asyncio.gather(*(share(number, 1.0, priority) for number, priority in enumerate(priorities)))

    asyncio.run(main())
    return sizes


def test_a_slow_model_gets_smaller_batches_and_larger_ones_while_there_are_no_streams() -> None:
    assert sizes_of([FILE] * 16, 1, 0.001)[0] == 1
    assert sizes_of([FILE] * 16, 1, 1e9)[0] == 16
    assert sizes_of([FILE] * 16, 1, 2.0)[0] == 8  # half of them: the model behind this one is to have work
    assert sizes_of([FILE] * 64, 1, 2.0)[0] == 8  # four times as long as while there are streams
    assert sizes_of([FINAL] + [FILE] * 16, 1, 2.0)[0] == 2  # a stream has asked
    assert sizes_of([PARTIAL] * 16, 1, 8.0)[0] == 4  # what is over must be able to come in between


def test_as_many_calls_at_a_time_as_there_are_lanes() -> None:
    async def main() -> None:
        call = Recorder()
        share = DynamicBatcher[Any, Any](call, 1, 64, 1e9)  # one item a call
        tasks = [asyncio.create_task(share(number, 1)) for number in range(6)]
        await asyncio.sleep(0.01)
        assert len(call.batches) == 1
        share.max_concurrent_calls = 3
        tasks += [asyncio.create_task(share(number, 1)) for number in range(6, 9)]
        await asyncio.sleep(0.01)
        assert len(call.batches) == 3
        share.max_concurrent_calls = 1
        call.go.set()
        assert await asyncio.gather(*tasks) == [f"{number}!" for number in range(9)]
        assert [item for (item,) in call.batches] == list(range(9))
        assert await share("again", 1) == "again!"

    asyncio.run(main())


def test_what_is_over_goes_first_and_old_files_are_not_passed_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dynamic_batching, "_PATIENCE", 0.0)

    async def main() -> None:
        call = Recorder()
        share = DynamicBatcher(call, 1000, 1, 1e9)  # one at a time
        first = asyncio.create_task(share("first", 1))
        while not call.batches:
            await asyncio.sleep(0.01)
        names = {
            "file": FILE,
            "partial": PARTIAL,
            **{f"final {number}": FINAL for number in range(6)},
            "young file": FILE,
        }
        rest = [asyncio.create_task(share(name, 1, priority)) for name, priority in names.items()]
        await asyncio.sleep(0.01)
        call.go.set()
        await asyncio.gather(first, *rest)
        finals = [f"final {number}" for number in range(6)]
        order = [name for (name,) in call.batches]
        assert order == ["first", *finals[:3], "file", *finals[3:], "young file", "partial"]

    asyncio.run(main())
