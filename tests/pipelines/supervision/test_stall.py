"""A pass that stalls is ended; one that shows signs of life is not."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import pytest

from actors.errors import FatalError
from pipelines.config import RunConfig
from pipelines.supervision import shutdown, stall
from pipelines.supervision.stall import Liveness


@pytest.fixture(autouse=True)
def short_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stall, "CHECK_INTERVAL", 0.01)


def run_pass(seconds: float, read: Callable[[], Liveness], timeout: float) -> None:
    with shutdown.handle_signals(), stall.stall_guard(read, timeout):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(0.01)


def test_a_pass_without_signs_of_life_is_ended() -> None:
    with pytest.raises(FatalError, match="no process began a model call"):
        run_pass(60, lambda: (3, None), 0.2)


def test_a_supervisor_that_does_not_answer_counts_as_a_stall() -> None:
    def read() -> Liveness:
        raise ConnectionError

    with pytest.raises(FatalError, match="no_progress_timeout"):
        run_pass(60, read, 0.2)


def test_a_pass_with_signs_of_life_is_not_ended() -> None:
    signs = itertools.count()
    run_pass(0.6, lambda: (next(signs), None), 0.2)


def test_a_pass_that_goes_on_after_the_stop_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stall, "STOP_LIMIT", 0.2)
    signs = itertools.count()
    with pytest.raises(FatalError, match="the model is broken"):
        run_pass(60, lambda: (next(signs), "the model is broken"), 1e6)


def test_a_stop_by_the_user_is_no_stall() -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        shutdown.handle_signals(),
        stall.stall_guard(lambda: (1, None), 1e6),
    ):
        shutdown.abort()
        time.sleep(10)


def test_the_timeout_is_longer_than_a_model_call() -> None:
    config = RunConfig()
    assert stall.stall_timeout(config, on_gpu=True) >= 600 + 0.1 * 15_360
    assert stall.stall_timeout(config, on_gpu=False) >= 600 + 10 * 960
    short = RunConfig.model_validate({"asr": {"timeout": 5}, "aligner": {"timeout": 5}})
    assert stall.stall_timeout(short, on_gpu=False) == short.cluster.no_progress_timeout
