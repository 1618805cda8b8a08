"""A pass in which nothing happens is ended; one that shows signs of life is left alone."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import pytest

from actors.errors import FatalError
from pipelines.config import RunConfig
from pipelines.supervision import shutdown, stall


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stall, "LOOK_SECONDS", 0.01)


def pass_of(seconds: float, look: Callable[[], tuple[int, str | None]], patience: float) -> None:
    with shutdown.handled(), stall.ended(look, patience):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(0.01)


def test_silence_ends_the_pass() -> None:
    with pytest.raises(FatalError, match="no process began a model call"):
        pass_of(60, lambda: (3, None), 0.2)


def test_nobody_answering_is_silence_too() -> None:
    def look() -> tuple[int, str | None]:
        raise ConnectionError

    with pytest.raises(FatalError, match="no_progress_timeout"):
        pass_of(60, look, 0.2)


def test_signs_of_life_are_enough() -> None:
    signs = itertools.count()
    pass_of(0.6, lambda: (next(signs), None), 0.2)


def test_a_pass_that_was_told_to_end_and_does_not_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stall, "LAST_SECONDS", 0.2)
    signs = itertools.count()
    with pytest.raises(FatalError, match="the model is broken"):
        pass_of(60, lambda: (next(signs), "the model is broken"), 1e6)


def test_a_person_who_stops_the_run_is_not_taken_for_silence() -> None:
    with pytest.raises(KeyboardInterrupt), shutdown.handled(), stall.ended(lambda: (1, None), 1e6):
        shutdown.abort()
        time.sleep(10)


def test_patience_outlasts_a_model_call() -> None:
    config = RunConfig()
    assert stall.patience(config, on_gpu=True) >= 600 + 0.1 * 15_360
    assert stall.patience(config, on_gpu=False) >= 600 + 10 * 960
    short = RunConfig.model_validate({"asr": {"timeout": 5}, "aligner": {"timeout": 5}})
    assert stall.patience(short, on_gpu=False) == short.cluster.no_progress_timeout
