"""A process isolates suspect shards, gives up shards, and loads or reloads its model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from actors.errors import FatalError
from actors.records import Row
from pipelines.supervision import guarded_actor
from pipelines.supervision.supervisor import MAX_LOADS, Supervisor

TRIES = 3


class DirectActor(guarded_actor.GuardedActor):
    """A GuardedActor that calls a supervisor in this process; everything else is the real class."""

    def _ask(self, method: str, *arguments: Any) -> Any:
        return getattr(self.supervisor, method)(*arguments)


class RemoteMethod:
    """Stands for a method of a Ray handle."""

    def __init__(self, call: Any) -> None:
        self.remote = call


class LocalSupervisor(Supervisor):
    """A supervisor whose `finish` and `beat` can be called like those of a Ray handle."""

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        return RemoteMethod(value) if name in ("finish", "beat") else value


class Crashed(BaseException):
    """Stands for the end of the process."""


def rows(*ids: str) -> list[Row]:
    return [
        {"shard_id": name, "segments": [] if name.startswith("quiet") else [{}], "status": "ok"}
        for name in ids
    ]


def run_until_done(
    supervisor: Supervisor, table: list[Row], poison: set[str]
) -> tuple[list[Row], list[list[str]]]:
    """Give a table to one process after the other, as Ray does, until one survives.

    Returns:
        The rows of that process, and the shards of every call of the actor.
    """
    calls: list[list[str]] = []

    def actor(batch: list[Row]) -> list[Row]:
        calls.append([row["shard_id"] for row in batch])
        if poison & set(calls[-1]):
            raise Crashed
        return [{**row, "done": True} for row in batch]

    for _ in range(100):
        try:
            return DirectActor("recognise", lambda: actor, supervisor, TRIES)(table), calls
        except Crashed:
            continue
    raise AssertionError("it never ends")


def test_shards_that_crash_are_given_up_after_a_bounded_number_of_crashes() -> None:
    supervisor = LocalSupervisor()
    table = rows("a", "x", "quiet", "b", "y", "c")
    done, calls = run_until_done(supervisor, table, {"x", "y"})
    assert [row["shard_id"] for row in done] == [row["shard_id"] for row in table]
    assert [row["shard_id"] for row in done if row.get("done")] == ["a", "quiet", "b", "c"]
    failed = [(row["error_code"], row["error_stage"]) for row in done if not row.get("done")]
    assert failed == [("worker_lost", "recognise")] * 2
    assert supervisor.losses()[0] == 1 + 2 * (TRIES - 1)  # once in one batch, then the other tries isolated
    assert sum(call.count("a") for call in calls) <= 1 + 2 * TRIES


def test_a_table_that_begins_with_shards_that_crash_does_not_end_the_run() -> None:
    supervisor, poison = LocalSupervisor(), {f"x{number}" for number in range(6)}
    done, _ = run_until_done(supervisor, rows(*sorted(poison), "a"), poison)
    assert supervisor.stop_reason() is None
    assert [row["shard_id"] for row in done if row.get("done")] == ["a"]


def test_a_model_that_is_loaded_late_and_cannot_be_ends_the_run() -> None:
    supervisor = LocalSupervisor()

    def actor(batch: list[Row]) -> list[Row]:
        raise FatalError("asr.model cannot be loaded")

    first, second = (DirectActor("recognise", lambda: actor, supervisor, TRIES) for _ in range(2))
    with pytest.raises(FatalError):
        first(rows("a"))
    assert supervisor.stop_reason() == "asr.model cannot be loaded"
    with pytest.raises(FatalError, match="cannot be loaded"):
        second(rows("b"))


def test_a_model_that_cannot_be_loaded_is_tried_once() -> None:
    supervisor, attempts = LocalSupervisor(), []

    def make() -> Any:
        attempts.append(1)
        raise FatalError("no such folder")

    for _ in range(3):
        with pytest.raises(FatalError, match="no such folder"):
            DirectActor("align", make, supervisor, TRIES)
    assert len(attempts) == 1


def test_a_failed_reload_or_a_full_device_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool replaces a process that ends, but not an actor whose constructor raises."""
    monkeypatch.setattr(guarded_actor, "_LOAD_PAUSE", 0.0)

    def exit_process(error: FatalError) -> None:
        raise Crashed

    monkeypatch.setattr(guarded_actor, "exit_process", exit_process)

    def failing(error: FatalError) -> Callable[[], Any]:
        def make() -> Any:
            raise error

        return make

    no_room = failing(FatalError("no room", code="device_out_of_memory"))
    no_network = failing(FatalError("no network"))
    supervisor = LocalSupervisor()
    DirectActor("recognise", lambda: None, supervisor, TRIES)
    for stage, make in (("align", no_room), ("recognise", no_network)):
        for _ in range(MAX_LOADS):
            with pytest.raises(Crashed):
                DirectActor(stage, make, supervisor, TRIES)
    assert supervisor.stop_reason() is None
    DirectActor("align", lambda: None, supervisor, TRIES)  # the device has room again
    for _ in range(MAX_LOADS):
        with pytest.raises(Crashed):
            DirectActor("align", no_network, supervisor, TRIES)
    with pytest.raises(FatalError, match="no network"):
        DirectActor("align", no_network, supervisor, TRIES)
    assert supervisor.stop_reason() == "no network"


def test_loads_that_crash_their_process_end_the_run() -> None:
    supervisor = LocalSupervisor(replicas=3)

    def make() -> Any:
        raise Crashed

    for _ in range(MAX_LOADS + 3):
        with pytest.raises(Crashed):
            DirectActor("align", make, supervisor, TRIES)
    with pytest.raises(FatalError, match="could not be loaded: all of 9 processes that tried crashed"):
        DirectActor("align", make, supervisor, TRIES)


def test_a_defect_of_the_program_costs_only_the_row_that_shows_it() -> None:
    supervisor = LocalSupervisor()

    def actor(batch: list[Row]) -> list[Row]:
        if any(row["shard_id"] == "odd" for row in batch):
            raise ValueError("not foreseen")
        return [{**row, "done": True} for row in batch]

    done = DirectActor("align", lambda: actor, supervisor, TRIES)(rows("a", "odd", "b"))
    assert [row.get("done") for row in done] == [True, None, True]
    columns = (done[1]["status"], done[1]["error_stage"], done[1]["error_code"])
    assert columns == ("error", "align", "internal_error")
    assert "not foreseen" in done[1]["error_message"]
    assert not supervisor.failure_reasons()
