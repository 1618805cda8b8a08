"""Ctrl-C, SIGTERM (a spot machine is reclaimed, `ray job stop`) and SIGHUP end the run.

What is finished is stored first. Nothing new is started after the first signal. `ray job stop` and most
schedulers kill a process three seconds after they asked it to end, so all of this must fit in there: a model
call under way gets `GRACE_SECONDS`, and what it did not finish is done again by the next run. A second signal
ends the run at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

GRACE_SECONDS = 2.0
UNINTERRUPTED_SECONDS = 20.0  # in which Ray and what runs on it are stopped without regard to signals
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

stop_requested = threading.Event()
"""Set once a stop was requested: see `pipelines.supervision.draining`."""

drain_checks: list[Callable[[], bool]] = []
"""Of the pass under way: each returns whether everything that was finished has been stored."""

_aborted = threading.Event()


def interrupt(signum: int, frame: FrameType | None) -> None:
    """Handle a signal: wait until finished work is committed, then raise KeyboardInterrupt."""
    if not stop_requested.is_set() and not _aborted.is_set() and drain_checks:
        stop_requested.set()
        print(
            "scriptorium: stopping; what is finished is stored first, once more to stop at once",
            file=sys.stderr,
            flush=True,
        )
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline and not drain_checks[-1]():
            time.sleep(0.02)
    raise KeyboardInterrupt


def abort() -> None:
    """End the run from another thread, at once and without storing anything more.

    Used when the lease on the output directory is lost and when the pass stalls.
    """
    _aborted.set()
    # Jobs in the background ignore SIGINT, those under nohup ignore SIGHUP: take a signal that is handled.
    effective = {interrupt, signal.default_int_handler}
    number = next((number for number, handler in _handlers().items() if handler in effective), None)
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
    """Whether something may still be stored after a KeyboardInterrupt.

    That is so after a regular stop; after `abort` the output directory may belong to another run.
    """
    return stop_requested.is_set() and not _aborted.is_set()


@contextmanager
def handle_signals() -> Iterator[None]:
    """Handle signals with `interrupt` inside a `with` block; only the main thread can, others do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stop_requested.clear()
    _aborted.clear()
    with handled_by(interrupt):
        yield


@contextmanager
def preserve_handlers() -> Iterator[None]:
    """Restore the handlers after code that sets its own: `ray.init` takes SIGTERM for itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = _handlers()
    try:
        yield
    finally:
        _restore(before)


@contextmanager
def handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Call `handler` for each signal inside a `with` block; only the main thread can, others do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = _handlers()
    _set_handlers(handler)
    try:
        yield
    finally:
        _restore(before)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Finish a `with` block though signals arrive, such as a second Ctrl-C while Ray is being stopped.

    An interrupted stop would leave processes behind, whose messages end on the terminal. Where it takes
    longer than UNINTERRUPTED_SECONDS, a signal ends this process at once.
    """
    began = time.monotonic()

    def handle(signum: int, frame: FrameType | None) -> None:
        if time.monotonic() - began > UNINTERRUPTED_SECONDS:
            print("scriptorium: Ray does not stop; this process ends", file=sys.stderr, flush=True)
            os._exit(1)

    with handled_by(handle):
        yield


def leave(code: int) -> None:
    """The command is over: from now on a signal ends this process at once, with the command's exit code."""

    def end(signum: int, frame: FrameType | None) -> None:
        with suppress(Exception):
            sys.stdout.flush()
        os._exit(code)

    _set_handlers(end)


def ignore_signals() -> None:
    """Ignore signals while the interpreter ends, which has no handlers by then.

    Registered with `atexit`: otherwise a late Ctrl-C would turn a successful end into exit code 130.
    """
    _set_handlers(signal.SIG_IGN)


def _set_handlers(handler: Any) -> None:
    """Set the handler of all signals but those that are ignored: `nohup` ignores SIGHUP on purpose."""
    for number, current in _handlers().items():
        if current is not signal.SIG_IGN:
            signal.signal(number, handler)


def _handlers() -> dict[signal.Signals, Any]:
    return {number: signal.getsignal(number) for number in SIGNALS}


def _restore(handlers: dict[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        if handler is not None:  # None: the handler was not set from Python
            signal.signal(number, handler)
