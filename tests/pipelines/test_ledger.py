"""Which shard is blamed for a death, and what becomes of it and of its neighbours."""

from __future__ import annotations

from typing import Any

import pytest

from actors.errors import FatalError
from pipelines import stages
from pipelines.ledger import HOPELESS, Ledger, Losses

TRIES = 3


def test_a_calm_run_leaves_nothing() -> None:
    ledger = Ledger()
    assert ledger.begin("recognise", ["a", "b"], "p1", TRIES).clear
    ledger.end("recognise", ["a", "b"])
    assert ledger.begin("recognise", ["c"], "p1", TRIES).clear
    ledger.end("recognise", ["c"])
    assert ledger.losses() == (0, 0) and ledger.suspicions() == {} and not ledger.hands and not ledger.suspects


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
        set(verdict.dead) == {"b"} and code == "worker_lost" and "died 3 times with this shard in hand, 2 of them with no other" in message
    )
    assert ledger.losses() == (3, 4)  # a, b, a, b were taken in hand again


def test_no_shard_is_given_up_that_was_never_alone() -> None:
    ledger = Ledger()
    for number in range(TRIES + 1):
        ledger.begin("recognise", ["a", "b"], f"p{number}", TRIES)
        ledger.hands = {("recognise", shard): (f"p{number}", False) for shard in ("a", "b")}  # a node went down under it, again and again
    assert not ledger.begin("recognise", ["a", "b"], "last", TRIES).dead


def test_last_words_are_kept() -> None:
    ledger = Ledger()
    ledger.begin("align", ["a"], "p1", 1)
    ledger.leave_words("p1", "model_timeout", "not finished within its limit of 2 s")
    code, message = ledger.begin("align", ["a"], "p2", 1).dead["a"]
    assert code == "model_timeout" and message.endswith("not finished within its limit of 2 s") and "stage `align`" in message


def test_stages_are_told_apart() -> None:
    ledger = Ledger()
    ledger.begin("recognise", ["a"], "p1", TRIES)
    assert ledger.begin("align", ["a"], "q1", TRIES).clear
    assert ledger.losses() == (0, 0)


def test_many_deaths_with_nothing_finished_end_the_run() -> None:
    ledger = Ledger()
    for number in range(HOPELESS):
        ledger.begin("recognise", [f"s{number}"], f"p{number}", TRIES)
        assert not ledger.begin("recognise", [f"s{number - 1}"], f"p{number}", TRIES).stop
    ledger.leave_words(f"p{HOPELESS - 1}", "worker_lost", "CUDA error: no kernel image")
    stop = ledger.begin("recognise", [f"s{HOPELESS - 1}"], "next", TRIES).stop
    assert stop and f"{HOPELESS} processes" in stop and "no kernel image" in stop


def test_many_deaths_among_finished_work_do_not() -> None:
    ledger = Ledger()
    for number in range(5 * HOPELESS):
        ledger.begin("recognise", [f"s{number}"], f"p{number}", TRIES)
        assert not ledger.begin("recognise", [f"s{number}"], f"p{number + 1}", TRIES).stop
        ledger.end("recognise", [f"s{number}"])


def test_suspicions_name_what_was_left_in_hand() -> None:
    ledger = Ledger()
    ledger.begin("align", ["a"], "p1", TRIES)
    stage, code, message = ledger.suspicions()["a"]
    assert (stage, code) == ("align", "worker_lost") and "died once" in message


def test_the_later_pass_knows_better() -> None:
    both = Losses(2, 5, {"a": ("recognise", "worker_lost", "x")}).and_then(Losses(1, 1, {"a": ("align", "model_timeout", "y")}))
    assert both == Losses(3, 6, {"a": ("align", "model_timeout", "y")})


class _Direct(stages.Careful):
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
        return _Method(value) if name == "end" else value


class Died(BaseException):
    """Stands for the end of the process."""


def rows(*ids: str) -> list[dict[str, Any]]:
    return [{"shard_id": name, "segments": [] if name.startswith("quiet") else [{}], "status": "ok"} for name in ids]


def until_done(ledger: Ledger, table: list[dict[str, Any]], poison: set[str]) -> tuple[list[dict[str, Any]], list[list[str]]]:
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
    assert all(row["error_code"] == "worker_lost" and row["error_stage"] == "recognise" for row in done if not row.get("done"))
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


def test_a_load_that_fails_later_or_for_memory_is_tried_again() -> None:
    ledger = Ledger()
    ledger.cannot_load("align", "device_out_of_memory", "no room")
    ledger.loaded("recognise")
    ledger.cannot_load("recognise", "internal_error", "no network")
    assert ledger.reason() is None
