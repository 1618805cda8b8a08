"""Which shard is blamed for a death, and what becomes of it and of its neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from actors.errors import FatalError
from pipelines.supervision import guarded_actor
from pipelines.supervision.supervisor import HOPELESS, LOADS, PassLosses, Supervisor

TRIES = 3


def test_a_calm_run_leaves_nothing() -> None:
    supervisor = Supervisor()
    assert supervisor.begin("recognise", ["a", "b"], "p1", TRIES).clear
    supervisor.end("recognise", ["a", "b"])
    assert supervisor.begin("recognise", ["c"], "p1", TRIES).clear
    supervisor.end("recognise", ["c"])
    assert (
        supervisor.losses() == (0, 0)
        and supervisor.suspicions() == {}
        and not supervisor.in_flight
        and not supervisor.suspects
    )


def test_what_a_dead_process_had_in_hand_is_done_one_at_a_time() -> None:
    supervisor = Supervisor()
    supervisor.begin("recognise", ["a", "b"], "p1", TRIES)
    verdict = supervisor.begin("recognise", ["a", "b"], "p2", TRIES)
    assert verdict.isolated and not verdict.dead and not verdict.proven and not supervisor.in_flight
    assert supervisor.begin("recognise", ["a"], "p2", TRIES).clear
    supervisor.end("recognise", ["a"])
    assert supervisor.begin("recognise", ["b"], "p2", TRIES).clear
    # p2 dies of b; a was finished since and may go with others again.
    assert supervisor.begin("recognise", ["a", "b"], "p3", TRIES).proven == {"a"}
    assert supervisor.begin("recognise", ["a"], "p3", TRIES).clear
    supervisor.end("recognise", ["a"])
    supervisor.begin("recognise", ["b"], "p3", TRIES)
    verdict = supervisor.begin("recognise", ["a", "b"], "p4", TRIES)
    code, message = verdict.dead["b"]
    assert (
        set(verdict.dead) == {"b"}
        and code == "worker_lost"
        and "died 3 times with this shard in hand, 2 of them with no other" in message
    )
    assert supervisor.losses() == (3, 4)  # a, b, a, b were taken in hand again


def test_no_shard_is_given_up_that_was_never_alone() -> None:
    supervisor = Supervisor()
    for number in range(TRIES + 1):
        supervisor.begin("recognise", ["a", "b"], f"p{number}", TRIES)
        supervisor.in_flight = {
            ("recognise", shard): (f"p{number}", False) for shard in ("a", "b")
        }  # a node went down under it, again and again
    assert not supervisor.begin("recognise", ["a", "b"], "last", TRIES).dead


def test_a_shard_beside_another_call_of_its_process_is_not_alone() -> None:
    """An engine that batches itself has two tables at a time."""
    supervisor = Supervisor()
    for number in range(TRIES):
        for shard in "ab":
            assert supervisor.begin("recognise", [shard], f"p{number}", TRIES).clear
        for shard in "ab":  # the process died
            supervisor.begin("recognise", [shard], f"q{number}", TRIES)
            supervisor.end("recognise", [shard]) if shard == "a" else supervisor.in_flight.clear()
    assert (
        supervisor.suspects["recognise", "b"].crashes and not supervisor.suspects["recognise", "b"].isolated
    )
    assert not supervisor.begin("recognise", ["b"], "last", TRIES).dead
    supervisor.begin("align", ["c"], "p", TRIES)
    supervisor.end("align", ["c"])
    supervisor.begin("align", ["d"], "p", TRIES)
    assert supervisor.in_flight["align", "d"] == ("p", True)


def test_last_words_are_kept() -> None:
    supervisor = Supervisor()
    supervisor.begin("align", ["a"], "p1", 1)
    supervisor.leave_words("p1", "model_timeout", "not finished within its limit of 2 s")
    code, message = supervisor.begin("align", ["a"], "p2", 1).dead["a"]
    assert (
        code == "model_timeout"
        and message.endswith("not finished within its limit of 2 s")
        and "stage `align`" in message
    )


def test_stages_are_told_apart() -> None:
    supervisor = Supervisor()
    supervisor.begin("recognise", ["a"], "p1", TRIES)
    assert supervisor.begin("align", ["a"], "q1", TRIES).clear
    assert supervisor.losses() == (0, 0)


def test_many_deaths_with_nothing_finished_end_the_run() -> None:
    supervisor = Supervisor()
    limit = HOPELESS + 2
    for number in range(limit):
        supervisor.begin("recognise", [f"s{number}"], f"p{number}", TRIES)
        assert not supervisor.begin("recognise", [f"s{number - 1}"], f"p{number}", TRIES).stop
    supervisor.leave_words(f"p{limit - 1}", "worker_lost", "CUDA error: no kernel image")
    stop = supervisor.begin("recognise", [f"s{limit - 1}"], "next", TRIES).stop
    assert stop and f"{limit} processes" in stop and "no kernel image" in stop


def test_many_deaths_among_finished_work_do_not() -> None:
    supervisor = Supervisor()
    for number in range(5 * HOPELESS):
        supervisor.begin("recognise", [f"s{number}"], f"p{number}", TRIES)
        assert not supervisor.begin("recognise", [f"s{number}"], f"p{number + 1}", TRIES).stop
        supervisor.end("recognise", [f"s{number}"])


def test_dead_letters_that_kill_again_do_not_end_the_run() -> None:
    """`retry` makes tables of nothing but shards that have killed before."""
    supervisor = Supervisor()
    for number in range(5 * HOPELESS):
        assert not supervisor.begin("recognise", ["s.2"], f"p{number}", 10**6).stop


def test_a_table_that_begins_with_shards_that_kill_does_not_end_the_run() -> None:
    supervisor, poison = _Handle(), {f"x{number}" for number in range(6)}
    done, _ = until_done(supervisor, rows(*sorted(poison), "a"), poison)
    assert supervisor.reason() is None and [row["shard_id"] for row in done if row.get("done")] == ["a"]


def test_suspicions_name_what_was_left_in_hand() -> None:
    supervisor = Supervisor()
    supervisor.begin("align", ["a"], "p1", TRIES)
    stage, code, message = supervisor.suspicions()["a"]
    assert (stage, code) == ("align", "worker_lost") and "died once" in message


def test_the_later_pass_knows_better() -> None:
    both = PassLosses(2, 5, {"a": ("recognise", "worker_lost", "x")}).and_then(
        PassLosses(1, 1, {"a": ("align", "model_timeout", "y")})
    )
    assert both == PassLosses(3, 6, {"a": ("align", "model_timeout", "y")})


class _Direct(guarded_actor.GuardedActor):
    """A Careful that asks a ledger in this process; what it does with the answers is the real thing."""

    def _ask(self, method: str, *arguments: Any) -> Any:
        return getattr(self.supervisor, method)(*arguments)


class _Method:
    def __init__(self, call: Any) -> None:
        self.remote = call


class _Handle(Supervisor):
    """A ledger whose `end` can be called as Ray's handles are."""

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        return _Method(value) if name in ("end", "beat") else value


class Died(BaseException):
    """Stands for the end of the process."""


def rows(*ids: str) -> list[dict[str, Any]]:
    return [
        {"shard_id": name, "segments": [] if name.startswith("quiet") else [{}], "status": "ok"}
        for name in ids
    ]


def until_done(
    supervisor: Supervisor, table: list[dict[str, Any]], poison: set[str]
) -> tuple[list[dict[str, Any]], list[list[str]]]:
    """Give a table to one process after the other, as Ray does, until one lives; its answer, and all calls of the actor."""
    calls: list[list[str]] = []

    def actor(batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        calls.append([row["shard_id"] for row in batch])
        if poison & set(calls[-1]):
            raise Died
        return [{**row, "done": True} for row in batch]

    for _ in range(100):
        try:
            return _Direct("recognise", lambda: actor, supervisor, TRIES)(table), calls
        except Died:
            continue
    raise AssertionError("it never ends")


def test_poison_costs_itself_in_a_bounded_number_of_deaths() -> None:
    supervisor = _Handle()
    table = rows("a", "x", "quiet", "b", "y", "c")
    done, calls = until_done(supervisor, table, {"x", "y"})
    assert [row["shard_id"] for row in done] == [row["shard_id"] for row in table]
    assert [row["shard_id"] for row in done if row.get("done")] == ["a", "quiet", "b", "c"]
    assert all(
        row["error_code"] == "worker_lost" and row["error_stage"] == "recognise"
        for row in done
        if not row.get("done")
    )
    assert supervisor.losses()[0] == 1 + 2 * (TRIES - 1)  # once together, and then each the rest alone
    assert sum(call.count("a") for call in calls) <= 1 + 2 * TRIES


def test_a_model_that_cannot_be_loaded_late_ends_the_run() -> None:
    supervisor = _Handle()

    def actor(batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        raise FatalError("asr.model cannot be loaded")

    first, second = (_Direct("recognise", lambda: actor, supervisor, TRIES) for _ in range(2))
    with pytest.raises(FatalError):
        first(rows("a"))
    assert supervisor.reason() == "asr.model cannot be loaded"
    with pytest.raises(FatalError, match="cannot be loaded"):
        second(rows("b"))


def test_a_model_that_cannot_be_loaded_is_tried_once() -> None:
    supervisor, attempts = _Handle(), []

    def make() -> Any:
        attempts.append(1)
        raise FatalError("no such folder")

    for _ in range(3):
        with pytest.raises(FatalError, match="no such folder"):
            _Direct("align", make, supervisor, TRIES)
    assert len(attempts) == 1


def test_a_load_that_fails_later_or_for_memory_ends_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which the pool then replaces, as it would not where an actor cannot be made."""
    monkeypatch.setattr(guarded_actor, "_LOAD_PAUSE", 0.0)

    def exit_process(error: FatalError) -> None:
        raise Died

    monkeypatch.setattr(guarded_actor, "exit_process", exit_process)

    def failing(error: FatalError) -> Callable[[], Any]:
        def make() -> Any:
            raise error

        return make

    no_room, no_network = (
        failing(FatalError("no room", code="device_out_of_memory")),
        failing(FatalError("no network")),
    )
    supervisor = _Handle()
    _Direct("recognise", lambda: None, supervisor, TRIES)
    for stage, make in (("align", no_room), ("recognise", no_network)):
        for _ in range(LOADS):
            with pytest.raises(Died):
                _Direct(stage, make, supervisor, TRIES)
    assert supervisor.reason() is None
    _Direct("align", lambda: None, supervisor, TRIES)  # it had room again
    for _ in range(LOADS):
        with pytest.raises(Died):
            _Direct("align", no_network, supervisor, TRIES)
    with pytest.raises(FatalError, match="no network"):
        _Direct("align", no_network, supervisor, TRIES)
    assert supervisor.reason() == "no network"


@pytest.mark.parametrize("code", ["device_out_of_memory", "storage_unavailable"])
def test_a_first_load_that_may_succeed_later_is_tried_again_so_often(code: str) -> None:
    supervisor, attempts = Supervisor(replicas=2), LOADS + 2
    for _ in range(attempts - 1):
        assert supervisor.load("align") is None and supervisor.cannot_load("align", code, "not now") is None
    assert supervisor.load("align") is None and supervisor.cannot_load("align", code, "not now") == "not now"
    assert Supervisor().cannot_load("align", "internal_error", "never") == "never"


def test_loads_that_kill_their_process_end_the_run() -> None:
    supervisor = _Handle(replicas=3)

    def make() -> Any:
        raise Died

    for _ in range(LOADS + 3):
        with pytest.raises(Died):
            _Direct("align", make, supervisor, TRIES)
    with pytest.raises(FatalError, match="no process lived to tell"):
        _Direct("align", make, supervisor, TRIES)


def test_a_defect_of_ours_costs_the_row_that_shows_it() -> None:
    supervisor = _Handle()

    def actor(batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if any(row["shard_id"] == "odd" for row in batch):
            raise ValueError("not foreseen")
        return [{**row, "done": True} for row in batch]

    done = _Direct("align", lambda: actor, supervisor, TRIES)(rows("a", "odd", "b"))
    assert [row.get("done") for row in done] == [True, None, True]
    assert (done[1]["status"], done[1]["error_stage"], done[1]["error_code"]) == (
        "error",
        "align",
        "internal_error",
    )
    assert "not foreseen" in done[1]["error_message"] and not supervisor.suspicions()


def test_what_was_asked_of_servers_is_summed_over_processes_and_passes() -> None:
    supervisor = Supervisor()
    supervisor.record_usage("p1", {"requests": 3, "audio_seconds": 1.5})
    supervisor.record_usage("p1", {"requests": 5, "audio_seconds": 2.5})  # since it began: not added to the above
    supervisor.record_usage("p2", {"requests": 1, "audio_seconds": 0.1})
    assert supervisor.usage() == {"requests": 6, "audio_seconds": 2.6}
    together = PassLosses(usage=supervisor.usage()).and_then(
        PassLosses(usage={"requests": 1, "prompt_tokens": 7})
    )
    assert together.usage == {"requests": 7, "audio_seconds": 2.6, "prompt_tokens": 7}
    assert PassLosses().and_then(PassLosses()).usage == {}
    known = PassLosses(reasons={"a": ("align", "worker_lost", "x")}, tasks=1)
    assert known.explain(["a", "b"]) and not known.explain(["a", "b", "c"])
    assert (
        PassLosses().explain([])
        and not PassLosses(usage={"requests": 1}).explain(["a"])
        and PassLosses(processes=2).explain(["a", "b"])
    )
