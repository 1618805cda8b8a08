"""Ctrl-C, SIGTERM (a spot machine is reclaimed, `ray job stop`) and SIGHUP: nothing new is started, what is finished is stored, the run ends.

`ray job stop` and most schedulers kill a process three seconds after they asked it to end, so all of this must fit in there: a model call under way
gets `GRACE_SECONDS`, what it did not finish is done again by the next run. A second signal ends the run at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

GRACE_SECONDS = 2.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

asked = threading.Event()
"""Set once a stop was asked for: see `pipelines.supervision.draining`."""

drained: list[Callable[[], bool]] = []
"""Of the pass under way: whether all that was finished has been stored."""

_urgent = threading.Event()


def interrupt(signum: int, frame: FrameType | None) -> None:
    """The signal handler: waits for finished work to be committed, where there is some, then raises KeyboardInterrupt."""
    if not asked.is_set() and not _urgent.is_set() and drained:
        asked.set()
        print(
            "scriptorium: stopping; what is finished is stored first, once more to stop at once",
            file=sys.stderr,
            flush=True,
        )
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline and not drained[-1]():
            time.sleep(0.02)
    raise KeyboardInterrupt


def abort() -> None:
    """End the run from another thread, at once and without storing anything more: the output directory is not ours any longer."""
    _urgent.set()
    heard = {
        interrupt,
        signal.default_int_handler,
    }  # jobs in the background ignore SIGINT, those under nohup SIGHUP
    number = next((number for number, handler in _handlers().items() if handler in heard), None)
    if number is not None:
        os.kill(os.getpid(), number)  # the main thread may be waiting in C, which only a real signal ends
        return
    print(
        "scriptorium: the lease is lost and no signal can stop this run: its process ends",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)


def may_store() -> bool:
    """Whether, after a KeyboardInterrupt, a word may still be stored: the stop was asked for in order, and the output directory is ours."""
    return asked.is_set() and not _urgent.is_set()


@contextmanager
def handled() -> Iterator[None]:
    """Answer signals with `interrupt` while a `with` block runs; only the main thread can, elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked.clear()
    _urgent.clear()
    before = _handlers()
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # `nohup` means it
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        _restore(before)


@contextmanager
def kept() -> Iterator[None]:
    """Keep the handlers as they are over code that sets its own: `ray.init` takes SIGTERM for itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = _handlers()
    try:
        yield
    finally:
        _restore(before)


def _handlers() -> dict[signal.Signals, Any]:
    return {number: signal.getsignal(number) for number in SIGNALS}


def _restore(handlers: dict[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        if handler is not None:  # one that was not set from Python
            signal.signal(number, handler)
