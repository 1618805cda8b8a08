"""Slow tables are done in portions whose answers are kept; fast ones are done at once and keep nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from actors.answers.portions import PORTION_SECONDS, Portions


@dataclass(frozen=True)
class Request:
    name: str
    duration: float = 30.0


class Plain:
    def key(self, request: Request) -> str:
        return request.name

    def encode(self, result: str | Exception) -> str | None:
        return result if isinstance(result, str) else None

    def decode(self, value: Any, request: Request) -> str:
        return value


class Store:
    def __init__(self, left: Mapping[str, str] | None = None) -> None:
        self.left, self.kept, self.times = dict(left or {}), dict[str, dict[str, str]](), 0

    @property
    def is_empty(self) -> bool:
        return not self.left

    def find(self, key: str) -> str | None:
        return self.left.get(key)

    def keep(self, table: str, answers: Mapping[str, str]) -> None:
        self.kept[table], self.times = dict(answers), self.times + 1


class Engine:
    """Takes `cost` seconds for each second of audio."""

    def __init__(self, cost: float) -> None:
        self.cost, self.now, self.calls = cost, 0.0, list[list[str]]()

    def work(self, requests: Sequence[Request]) -> list[str | Exception]:
        self.calls.append([request.name for request in requests])
        self.now += self.cost * sum(request.duration for request in requests)
        return [ValueError() if request.name == "bad" else request.name.upper() for request in requests]

    def portions(self, store: Store, first: float | None = 32.0) -> Portions[Request, str | Exception]:
        return Portions(store, Plain(), first, lambda: self.now)

    @property
    def seconds(self) -> list[float]:
        """What each call took, of segments of 30 s."""
        return [30.0 * len(call) * self.cost for call in self.calls]


def requests(count: int) -> list[Request]:
    return [Request(f"r{number}") for number in range(count)]


def test_a_fast_engine_gets_all_but_a_first_portion_at_once_and_nothing_is_kept() -> None:
    engine, store = Engine(1 / 1000), Store()
    portions = engine.portions(store)
    assert portions.run("t", requests(16), engine.work) == [f"R{number}" for number in range(16)]
    portions.run("u", requests(70), engine.work)
    assert [len(call) for call in engine.calls] == [1, 15, 70]
    assert store.times == 0


def test_an_engine_that_is_known_to_be_fast_gets_its_first_table_whole() -> None:
    engine = Engine(1 / 300)
    engine.portions(Store(), first=None).run("t", requests(280), engine.work)
    assert len(engine.calls) == 1


@pytest.mark.parametrize("speed", [1, 2, 10, 40])
def test_no_portion_of_a_slow_engine_takes_longer_than_planned(speed: float) -> None:
    engine, store = Engine(1 / speed), Store()
    engine.portions(store).run("t", requests(200), engine.work)
    assert max(engine.seconds) <= 1.25 * PORTION_SECONDS
    # Not many small ones either.
    assert len(engine.calls) <= 2 + 1.6 * sum(engine.seconds) / PORTION_SECONDS
    assert len(store.kept["t"]) == 200


def test_a_speed_that_falls_makes_portions_smaller() -> None:
    engine = Engine(1 / 100)
    portions = engine.portions(Store())
    portions.run("t", requests(100), engine.work)
    engine.cost, engine.calls = 1 / 2, []
    portions.run("u", requests(200), engine.work)
    assert len(engine.calls[0]) > len(engine.calls[1])
    assert max(engine.seconds[1:]) <= 1.25 * PORTION_SECONDS


def test_what_is_kept_is_not_done_again() -> None:
    engine, store = Engine(1.0), Store({"r0": "before", "r5": "before"})
    portions = engine.portions(store)
    results = portions.run("t", requests(8), engine.work)
    assert results == ["before", "R1", "R2", "R3", "R4", "before", "R6", "R7"]
    assert not {"r0", "r5"} & {name for call in engine.calls for name in call}
    assert (portions.take_found_seconds(), portions.take_found_seconds()) == (60.0, 0.0)
    # The next kill must not lose them either.
    assert store.kept["t"]["r5"] == "before"


def test_errors_are_not_kept() -> None:
    engine, store = Engine(1.0), Store()
    engine.portions(store).run("t", [Request("bad"), Request("good")], engine.work)
    assert store.kept["t"] == {"good": "GOOD"}


class Watched(Store):
    """Knows when it was asked to keep answers last."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine, self.kept_at, self.worst = engine, 0.0, 0.0

    def keep(self, table: str, answers: Mapping[str, str]) -> None:
        super().keep(table, answers)
        self.kept_at = self.engine.now

    def work(self, some: Sequence[Request]) -> list[str | Exception]:
        results = self.engine.work(some)
        self.worst = max(self.worst, self.engine.now - self.kept_at)
        return results


@pytest.mark.parametrize("speed", [0.5, 1, 3, 20, 100])
def test_at_every_moment_at_most_a_minute_of_work_is_not_kept(speed: float) -> None:
    engine = Engine(1 / speed)
    store = Watched(engine)
    engine.portions(store).run("t", requests(400), store.work)
    assert store.worst <= 60.0
