"""Which shard is blamed for a death, and what becomes of it and of its neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from actors.errors import FatalError
from pipelines.supervision import guarded_actor as careful
from pipelines.supervision.supervisor import HOPELESS, LOADS, Ledger, Losses

TRIES = 3


def test_a_calm_run_leaves_nothing() -> None:
    ledger = Ledger()
    assert ledger.begin("recognise", ["a", "b"], "p1", TRIES).clear
    ledger.end("recognise", ["a", "b"])
    assert ledger.begin("recognise", ["c"], "p1", TRIES).clear
    ledger.end("recognise", ["c"])
    assert (
        ledger.losses() == (0, 0) and ledger.suspicions() == {} and not ledger.hands and not ledger.suspects
    )


def test_what_a_dead_process_had_in_hand_is_done_one_at_a_time() -> None:
    ledger = Ledger()
    ledger.begin("recognise", ["a", "b"], "p1", TRIES)
    verdict = ledger.begin("recognise", ["a", "b"], "p2", TRIES)
    assert verdict.alone and not verdict.dead and not verdict.proven and not ledger.hands
    assert ledger.begin("recognise", ["a"], "p2", TRIES).clear
    ledger.end("recognise", ["a"])
    assert ledger.begin("recognise", ["b"], "p2", TRIES).clear
    # p2 dies of b; a was finished since and may go with others again.
    assert ledger.begin("recognise", ["a", "b"], "p3", TRIES).proven == {"a"}
    assert ledger.begin("recognise", ["a"], "p3", TRIES).clear
    ledger.end("recognise", ["a"])
    ledger.begin("recognise", ["b"], "p3", TRIES)
    verdict = ledger.begin("recognise", ["a", "b"], "p4", TRIES)
    code, message = verdict.dead["b"]
    assert (
        set(verdict.dead) == {"b"}
        and code == "worker_lost"
        and "died 3 times with this shard in hand, 2 of them with no other" in message
    )
    assert ledger.losses() == (3, 4)  # a, b, a, b were taken in hand again


def test_no_shard_is_given_up_that_was_never_alone() -> None:
    ledger = Ledger()
    for number in range(TRIES + 1):
        ledger.begin("recognise", ["a", "b"], f"p{number}", TRIES)
        ledger.hands = {
            ("recognise", shard): (f"p{number}", False) for shard in ("a", "b")
        }  # a node went down under it, again and again
    assert not ledger.begin("recognise", ["a", "b"], "last", TRIES).dead


def test_a_shard_beside_another_call_of_its_process_is_not_alone() -> None:
    """An engine that batches itself has two tables at a time."""
    ledger = Ledger()
    for number in range(TRIES):
        for shard in "ab":
            assert ledger.begin("recognise", [shard], f"p{number}", TRIES).clear
        for shard in "ab":  # the process died
            ledger.begin("recognise", [shard], f"q{number}", TRIES)
            ledger.end("recognise", [shard]) if shard == "a" else ledger.hands.clear()
    assert ledger.suspects["recognise", "b"].deaths and not ledger.suspects["recognise", "b"].alone
    assert not ledger.begin("recognise", ["b"], "last", TRIES).dead
    ledger.begin("align", ["c"], "p", TRIES)
    ledger.end("align", ["c"])
    ledger.begin("align", ["d"], "p", TRIES)
    assert ledger.hands["align", "d"] == ("p", True)


def test_last_words_are_kept() -> None:
    ledger = Ledger()
    ledger.begin("align", ["a"], "p1", 1)
    ledger.leave_words("p1", "model_timeout", "not finished within its limit of 2 s")
    code, message = ledger.begin("align", ["a"], "p2", 1).dead["a"]
    assert (
        code == "model_timeout"
        and message.endswith("not finished within its limit of 2 s")
        and "stage `align`" in message
    )


def test_stages_are_told_apart() -> None:
    ledger = Ledger()
    ledger.begin("recognise", ["a"], "p1", TRIES)
    assert ledger.begin("align", ["a"], "q1", TRIES).clear
    assert ledger.losses() == (0, 0)


def test_many_deaths_with_nothing_finished_end_the_run() -> None:
    ledger = Ledger()
    limit = HOPELESS + 2
    for number in range(limit):
        ledger.begin("recognise", [f"s{number}"], f"p{number}", TRIES)
        assert not ledger.begin("recognise", [f"s{number - 1}"], f"p{number}", TRIES).stop
    ledger.leave_words(f"p{limit - 1}", "worker_lost", "CUDA error: no kernel image")
    stop = ledger.begin("recognise", [f"s{limit - 1}"], "next", TRIES).stop
    assert stop and f"{limit} processes" in stop and "no kernel image" in stop


def test_many_deaths_among_finished_work_do_not() -> None:
    ledger = Ledger()
    for number in range(5 * HOPELESS):
        ledger.begin("recognise", [f"s{number}"], f"p{number}", TRIES)
        assert not ledger.begin("recognise", [f"s{number}"], f"p{number + 1}", TRIES).stop
        ledger.end("recognise", [f"s{number}"])


def test_dead_letters_that_kill_again_do_not_end_the_run() -> None:
    """`retry` makes tables of nothing but shards that have killed before."""
    ledger = Ledger()
    for number in range(5 * HOPELESS):
        assert not ledger.begin("recognise", ["s.2"], f"p{number}", 10**6).stop


def test_a_table_that_begins_with_shards_that_kill_does_not_end_the_run() -> None:
    ledger, poison = _Handle(), {f"x{number}" for number in range(6)}
    done, _ = until_done(ledger, rows(*sorted(poison), "a"), poison)
    assert ledger.reason() is None and [row["shard_id"] for row in done if row.get("done")] == ["a"]


def test_suspicions_name_what_was_left_in_hand() -> None:
    ledger = Ledger()
    ledger.begin("align", ["a"], "p1", TRIES)
    stage, code, message = ledger.suspicions()["a"]
    assert (stage, code) == ("align", "worker_lost") and "died once" in message


def test_the_later_pass_knows_better() -> None:
    both = Losses(2, 5, {"a": ("recognise", "worker_lost", "x")}).and_then(
        Losses(1, 1, {"a": ("align", "model_timeout", "y")})
    )
    assert both == Losses(3, 6, {"a": ("align", "model_timeout", "y")})


class _Direct(careful.Careful):
    """A Careful that asks a ledger in this process; what it does with the answers is the real thing."""

    def _ask(self, method: str, *arguments: Any) -> Any:
        return getattr(self.ledger, method)(*arguments)


class _Method:
    def __init__(self, call: Any) -> None:
        self.remote = call


class _Handle(Ledger):
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
    ledger: Ledger, table: list[dict[str, Any]], poison: set[str]
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
            return _Direct("recognise", lambda: actor, ledger, TRIES)(table), calls
        except Died:
            continue
    raise AssertionError("it never ends")


def test_poison_costs_itself_in_a_bounded_number_of_deaths() -> None:
    ledger = _Handle()
    table = rows("a", "x", "quiet", "b", "y", "c")
    done, calls = until_done(ledger, table, {"x", "y"})
    assert [row["shard_id"] for row in done] == [row["shard_id"] for row in table]
    assert [row["shard_id"] for row in done if row.get("done")] == ["a", "quiet", "b", "c"]
    assert all(
        row["error_code"] == "worker_lost" and row["error_stage"] == "recognise"
        for row in done
        if not row.get("done")
    )
    assert ledger.losses()[0] == 1 + 2 * (TRIES - 1)  # once together, and then each the rest alone
    assert sum(call.count("a") for call in calls) <= 1 + 2 * TRIES


def test_a_model_that_cannot_be_loaded_late_ends_the_run() -> None:
    ledger = _Handle()

    def actor(batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        raise FatalError("asr.model cannot be loaded")

    first, second = (_Direct("recognise", lambda: actor, ledger, TRIES) for _ in range(2))
    with pytest.raises(FatalError):
        first(rows("a"))
    assert ledger.reason() == "asr.model cannot be loaded"
    with pytest.raises(FatalError, match="cannot be loaded"):
        second(rows("b"))


def test_a_model_that_cannot_be_loaded_is_tried_once() -> None:
    ledger, attempts = _Handle(), []

    def make() -> Any:
        attempts.append(1)
        raise FatalError("no such folder")

    for _ in range(3):
        with pytest.raises(FatalError, match="no such folder"):
            _Direct("align", make, ledger, TRIES)
    assert len(attempts) == 1


def test_a_load_that_fails_later_or_for_memory_ends_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which the pool then replaces, as it would not where an actor cannot be made."""
    monkeypatch.setattr(careful, "_LOAD_PAUSE", 0.0)

    def exit_process(error: FatalError) -> None:
        raise Died

    monkeypatch.setattr(careful, "exit_process", exit_process)

    def failing(error: FatalError) -> Callable[[], Any]:
        def make() -> Any:
            raise error

        return make

    no_room, no_network = (
        failing(FatalError("no room", code="device_out_of_memory")),
        failing(FatalError("no network")),
    )
    ledger = _Handle()
    _Direct("recognise", lambda: None, ledger, TRIES)
    for stage, make in (("align", no_room), ("recognise", no_network)):
        for _ in range(LOADS):
            with pytest.raises(Died):
                _Direct(stage, make, ledger, TRIES)
    assert ledger.reason() is None
    _Direct("align", lambda: None, ledger, TRIES)  # it had room again
    for _ in range(LOADS):
        with pytest.raises(Died):
            _Direct("align", no_network, ledger, TRIES)
    with pytest.raises(FatalError, match="no network"):
        _Direct("align", no_network, ledger, TRIES)
    assert ledger.reason() == "no network"


@pytest.mark.parametrize("code", ["device_out_of_memory", "storage_unavailable"])
def test_a_first_load_that_may_succeed_later_is_tried_again_so_often(code: str) -> None:
    ledger, attempts = Ledger(replicas=2), LOADS + 2
    for _ in range(attempts - 1):
        assert ledger.load("align") is None and ledger.cannot_load("align", code, "not now") is None
    assert ledger.load("align") is None and ledger.cannot_load("align", code, "not now") == "not now"
    assert Ledger().cannot_load("align", "internal_error", "never") == "never"


def test_loads_that_kill_their_process_end_the_run() -> None:
    ledger = _Handle(replicas=3)

    def make() -> Any:
        raise Died

    for _ in range(LOADS + 3):
        with pytest.raises(Died):
            _Direct("align", make, ledger, TRIES)
    with pytest.raises(FatalError, match="no process lived to tell"):
        _Direct("align", make, ledger, TRIES)


def test_a_defect_of_ours_costs_the_row_that_shows_it() -> None:
    ledger = _Handle()

    def actor(batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if any(row["shard_id"] == "odd" for row in batch):
            raise ValueError("not foreseen")
        return [{**row, "done": True} for row in batch]

    done = _Direct("align", lambda: actor, ledger, TRIES)(rows("a", "odd", "b"))
    assert [row.get("done") for row in done] == [True, None, True]
    assert (done[1]["status"], done[1]["error_stage"], done[1]["error_code"]) == (
        "error",
        "align",
        "internal_error",
    )
    assert "not foreseen" in done[1]["error_message"] and not ledger.suspicions()


def test_what_was_asked_of_servers_is_summed_over_processes_and_passes() -> None:
    ledger = Ledger()
    ledger.spend("p1", {"requests": 3, "audio_seconds": 1.5})
    ledger.spend("p1", {"requests": 5, "audio_seconds": 2.5})  # since it began: not added to the above
    ledger.spend("p2", {"requests": 1, "audio_seconds": 0.1})
    assert ledger.spent() == {"requests": 6, "audio_seconds": 2.6}
    together = Losses(spent=ledger.spent()).and_then(Losses(spent={"requests": 1, "prompt_tokens": 7}))
    assert together.spent == {"requests": 7, "audio_seconds": 2.6, "prompt_tokens": 7}
    assert Losses().and_then(Losses()).spent == {}
    known = Losses(reasons={"a": ("align", "worker_lost", "x")}, tasks=1)
    assert known.explain(["a", "b"]) and not known.explain(["a", "b", "c"])
    assert (
        Losses().explain([])
        and not Losses(spent={"requests": 1}).explain(["a"])
        and Losses(processes=2).explain(["a", "b"])
    )
