"""Callers share a fixed number of child processes; none is lost, and none outlives the pool."""

from __future__ import annotations

import threading
from concurrent.futures import wait

import pytest

from actors.process.child_pool import ChildPool
from actors.process.isolation import Child, ChildClosed


def test_calls_share_the_children_and_run_one_at_a_time_on_each() -> None:
    pool = ChildPool([Child(max_memory=1), Child(max_memory=1)])
    futures = [pool.submit(lambda child: child.call("os:getpid", timeout=60)) for _ in range(6)]
    pids = {future.result(120) for future in futures}
    pool.close()
    assert len(pids) == 2


def test_work_that_fails_or_is_cancelled_returns_its_child() -> None:
    pool = ChildPool([Child(max_memory=1)])
    block = threading.Event()
    running = pool.submit(lambda child: block.wait(60))
    cancelled = pool.submit(lambda child: None)
    failing = pool.submit(lambda child: child.call("operator:truediv", 1, 0, timeout=60))
    assert cancelled.cancel()
    block.set()
    with pytest.raises(ZeroDivisionError):
        failing.result(120)
    assert running.result(60)
    assert pool.submit(lambda child: child.call("operator:add", 1, 1, timeout=60)).result(60) == 2
    pool.close()


def test_close_ends_running_calls_and_cancels_waiting_ones() -> None:
    pool = ChildPool([Child(max_memory=1)])
    started = threading.Event()

    def sleep(child: Child) -> None:
        child.call("os:getpid", timeout=60)
        started.set()
        child.call("time:sleep", 3600, timeout=3600)

    running, waiting = pool.submit(sleep), pool.submit(sleep)
    assert started.wait(60)
    pool.close()
    assert wait([running], 60).done
    assert isinstance(running.exception(), ChildClosed)
    assert waiting.cancelled()
