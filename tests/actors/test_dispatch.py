"""One bad segment costs itself."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from actors import dispatch as dispatch_module
from actors.dispatch import dispatch
from actors.errors import FatalError


@dataclass(frozen=True)
class Clip:
    duration: float
    bad: bool = False


def double(clips: list[Clip]) -> list[float]:
    if any(clip.bad for clip in clips):
        raise ValueError("bad clip")
    return [2 * clip.duration for clip in clips]


def test_results_come_in_the_order_of_the_requests() -> None:
    clips = [Clip(duration) for duration in (3.0, 60.0, 1.0, 59.0, 2.0)]
    assert dispatch(clips, double, 120, 8) == [6.0, 120.0, 2.0, 118.0, 4.0]
    assert dispatch([], double, 120, 8) == []


def test_a_backend_that_makes_its_own_batches_gets_all_at_once() -> None:
    calls: list[int] = []

    def count(clips: list[Clip]) -> list[float]:
        calls.append(len(clips))
        return double(clips)

    clips = [Clip(duration) for duration in (3.0, 60.0, 1.0)]
    assert dispatch(clips, count, None, None) == [6.0, 120.0, 2.0]
    assert dispatch([], count, None, None) == [] and calls == [3]


def test_a_failure_stays_with_its_cause() -> None:
    clips = [Clip(1.0), Clip(2.0, bad=True), Clip(3.0), Clip(4.0), Clip(5.0, bad=True)]
    results = dispatch(clips, double, 120, 8)
    assert [result if isinstance(result, float) else type(result) for result in results] == [
        2.0,
        ValueError,
        6.0,
        8.0,
        ValueError,
    ]


def test_a_backend_that_loses_a_result_is_not_believed() -> None:
    results = dispatch([Clip(1.0), Clip(1.0)], lambda clips: double(clips)[: len(clips) // 2 or 1], 120, 8)
    assert results == [2.0, 2.0]  # the batch gave one result for two segments: each was asked again alone


def test_a_broken_engine_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(clips: list[Clip]) -> list[float]:
        raise FatalError("CUDA error")

    def exit_process(error: FatalError) -> None:
        raise SystemExit(str(error))

    monkeypatch.setattr(dispatch_module, "exit_process", exit_process)
    with pytest.raises(SystemExit, match="CUDA error"):
        dispatch([Clip(1.0), Clip(2.0)], broken, 120, 8)


def test_the_process_ends_without_clean_up() -> None:
    """What `exit_process` itself does: status 1 at once, whatever handlers and threads there are."""
    import subprocess
    import sys

    program = (
        "import threading, time, atexit; from actors.errors import FatalError; from actors.process.exit import exit_process; atexit.register(print, 'cleaned up');"
        "threading.Thread(target=time.sleep, args=(600,)).start(); exit_process(FatalError('the engine is broken'))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert finished.returncode == 1
    assert finished.stdout == "" and "the engine is broken" in finished.stderr


def test_a_batch_is_told_while_the_one_before_it_runs() -> None:
    events: list[tuple[str, float]] = []

    def call(clips: list[Clip]) -> list[float]:
        events.append(("call", clips[0].duration))
        return double(clips)

    clips = [Clip(1.0), Clip(30.0), Clip(20.0)]
    results = dispatch(clips, call, 30, 1, prefetch=lambda later: events.append(("begin", later[0].duration)))
    assert results == [2.0, 60.0, 40.0]
    assert events == [("begin", 30), ("begin", 20), ("call", 30), ("begin", 1), ("call", 20), ("call", 1)]
