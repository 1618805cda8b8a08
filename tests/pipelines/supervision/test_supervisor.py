"""Which shard is blamed for a crash, when the run is stopped, and what losses add up to."""

from __future__ import annotations

import pytest

from pipelines.supervision.losses import PassLosses
from pipelines.supervision.supervisor import MAX_CRASHES_IN_A_ROW, MAX_LOADS, Supervisor

TRIES = 3


def test_a_run_without_crashes_leaves_no_suspects() -> None:
    supervisor = Supervisor()
    assert supervisor.begin("recognise", ["a", "b"], "p1", TRIES).clear
    supervisor.finish("recognise", ["a", "b"])
    assert supervisor.begin("recognise", ["c"], "p1", TRIES).clear
    supervisor.finish("recognise", ["c"])
    assert supervisor.losses() == (0, 0)
    assert supervisor.failure_reasons() == {}
    assert not supervisor.in_flight
    assert not supervisor.suspects


def test_shards_of_a_crashed_process_are_done_one_at_a_time() -> None:
    supervisor = Supervisor()
    supervisor.begin("recognise", ["a", "b"], "p1", TRIES)
    verdict = supervisor.begin("recognise", ["a", "b"], "p2", TRIES)
    assert verdict.isolated
    assert not verdict.given_up
    assert not verdict.cleared
    assert not supervisor.in_flight
    assert supervisor.begin("recognise", ["a"], "p2", TRIES).clear
    supervisor.finish("recognise", ["a"])
    assert supervisor.begin("recognise", ["b"], "p2", TRIES).clear
    # p2 crashes on b; a was finished since and may be batched with others again.
    assert supervisor.begin("recognise", ["a", "b"], "p3", TRIES).cleared == {"a"}
    assert supervisor.begin("recognise", ["a"], "p3", TRIES).clear
    supervisor.finish("recognise", ["a"])
    supervisor.begin("recognise", ["b"], "p3", TRIES)
    verdict = supervisor.begin("recognise", ["a", "b"], "p4", TRIES)
    assert set(verdict.given_up) == {"b"}
    code, message = verdict.given_up["b"]
    assert code == "worker_lost"
    assert "crashed 3 times while it held this shard, 2 of them with no other shard" in message
    assert supervisor.losses() == (3, 4)  # a, b, a, b were registered again


def test_a_shard_that_was_never_isolated_is_not_given_up() -> None:
    supervisor = Supervisor()
    for number in range(TRIES + 1):
        supervisor.begin("recognise", ["a", "b"], f"p{number}", TRIES)
        # The node went down, again and again.
        supervisor.in_flight = {("recognise", shard): (f"p{number}", False) for shard in ("a", "b")}
    assert not supervisor.begin("recognise", ["a", "b"], "last", TRIES).given_up


def test_a_shard_beside_another_call_of_its_process_is_not_isolated() -> None:
    """An engine that batches by itself has two tables at a time."""
    supervisor = Supervisor()
    for number in range(TRIES):
        for shard in "ab":
            assert supervisor.begin("recognise", [shard], f"p{number}", TRIES).clear
        for shard in "ab":  # the process crashed
            supervisor.begin("recognise", [shard], f"q{number}", TRIES)
            supervisor.finish("recognise", [shard]) if shard == "a" else supervisor.in_flight.clear()
    assert supervisor.suspects["recognise", "b"].crashes
    assert not supervisor.suspects["recognise", "b"].isolated
    assert not supervisor.begin("recognise", ["b"], "last", TRIES).given_up
    supervisor.begin("align", ["c"], "p", TRIES)
    supervisor.finish("align", ["c"])
    supervisor.begin("align", ["d"], "p", TRIES)
    assert supervisor.in_flight["align", "d"] == ("p", True)


def test_the_exit_reason_of_a_process_is_in_the_message() -> None:
    supervisor = Supervisor()
    supervisor.begin("align", ["a"], "p1", 1)
    supervisor.record_exit_reason("p1", "model_timeout", "not finished within its limit of 2 s")
    code, message = supervisor.begin("align", ["a"], "p2", 1).given_up["a"]
    assert code == "model_timeout"
    assert message.endswith("not finished within its limit of 2 s")
    assert "stage `align`" in message


def test_a_shard_is_no_suspect_in_another_stage() -> None:
    supervisor = Supervisor()
    supervisor.begin("recognise", ["a"], "p1", TRIES)
    assert supervisor.begin("align", ["a"], "q1", TRIES).clear
    assert supervisor.losses() == (0, 0)


def test_many_crashes_with_nothing_finished_end_the_run() -> None:
    supervisor = Supervisor()
    limit = MAX_CRASHES_IN_A_ROW + 2
    for number in range(limit):
        supervisor.begin("recognise", [f"s{number}"], f"p{number}", TRIES)
        assert not supervisor.begin("recognise", [f"s{number - 1}"], f"p{number}", TRIES).stop
    supervisor.record_exit_reason(f"p{limit - 1}", "worker_lost", "CUDA error: no kernel image")
    stop = supervisor.begin("recognise", [f"s{limit - 1}"], "next", TRIES).stop
    assert stop
    assert f"{limit} processes" in stop
    assert "no kernel image" in stop


def test_many_crashes_among_finished_shards_do_not_end_the_run() -> None:
    supervisor = Supervisor()
    for number in range(5 * MAX_CRASHES_IN_A_ROW):
        supervisor.begin("recognise", [f"s{number}"], f"p{number}", TRIES)
        assert not supervisor.begin("recognise", [f"s{number}"], f"p{number + 1}", TRIES).stop
        supervisor.finish("recognise", [f"s{number}"])


def test_retried_dead_letters_that_crash_again_do_not_end_the_run() -> None:
    """`retry` makes tables that contain only shards that have crashed their process before."""
    supervisor = Supervisor()
    for number in range(5 * MAX_CRASHES_IN_A_ROW):
        assert not supervisor.begin("recognise", ["s.2"], f"p{number}", 10**6).stop


def test_failure_reasons_include_shards_still_in_flight() -> None:
    supervisor = Supervisor()
    supervisor.begin("align", ["a"], "p1", TRIES)
    stage, code, message = supervisor.failure_reasons()["a"]
    assert (stage, code) == ("align", "worker_lost")
    assert "crashed once" in message


@pytest.mark.parametrize("code", ["device_out_of_memory", "storage_unavailable"])
def test_a_load_with_a_transient_error_is_retried_up_to_a_limit(code: str) -> None:
    supervisor, attempts = Supervisor(replicas=2), MAX_LOADS + 2
    for _ in range(attempts - 1):
        assert supervisor.begin_load("align") is None
        assert supervisor.fail_load("align", code, "not now") is None
    assert supervisor.begin_load("align") is None
    assert supervisor.fail_load("align", code, "not now") == "not now"
    assert Supervisor().fail_load("align", "internal_error", "never") == "never"


def test_the_reason_of_the_later_pass_counts() -> None:
    both = PassLosses(2, 5, {"a": ("recognise", "worker_lost", "x")}).and_then(
        PassLosses(1, 1, {"a": ("align", "model_timeout", "y")})
    )
    assert both == PassLosses(3, 6, {"a": ("align", "model_timeout", "y")})


def test_usage_of_servers_is_summed_over_processes_and_passes() -> None:
    supervisor = Supervisor()
    supervisor.record_usage("p1", {"requests": 3, "audio_seconds": 1.5})
    # A process reports its usage since it began: this replaces the line above.
    supervisor.record_usage("p1", {"requests": 5, "audio_seconds": 2.5})
    supervisor.record_usage("p2", {"requests": 1, "audio_seconds": 0.1})
    assert supervisor.usage() == {"requests": 6, "audio_seconds": 2.6}
    both = PassLosses(usage=supervisor.usage()).and_then(
        PassLosses(usage={"requests": 1, "prompt_tokens": 7})
    )
    assert both.usage == {"requests": 7, "audio_seconds": 2.6, "prompt_tokens": 7}
    assert PassLosses().and_then(PassLosses()).usage == {}
    known = PassLosses(reasons={"a": ("align", "worker_lost", "x")}, failed_tasks=1)
    assert known.explain(["a", "b"])
    assert not known.explain(["a", "b", "c"])
    assert PassLosses().explain([])
    assert not PassLosses(usage={"requests": 1}).explain(["a"])
    assert PassLosses(crashed_processes=2).explain(["a", "b"])
