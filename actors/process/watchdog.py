"""A time limit for calls that nobody can interrupt: a model call that hangs in C ends its process, and the pool replaces it."""

from __future__ import annotations

import faulthandler
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from actors.errors import FatalError, exit_process

_LEAST = 600.0  # seconds: a call may compile kernels first
_GPU, _CPU = 1.0, 10.0  # seconds on top for each second of audio; a GPU takes a thousandth, a slow CPU a few
_GRACE = 10.0  # seconds that the process may take for its last words
_STDERR = 2


_told: list[Callable[[], None]] = []


def before_call(tell: Callable[[], None]) -> None:
    """Have `tell` called whenever a limited call begins, as a sign of life; it replaces the one given before."""
    _told[:] = [tell]


def alive() -> None:
    """Give the same sign of life from inside a long call, in which something was finished."""
    for tell in _told:
        tell()


def call_limit(timeout: float | None, on_gpu: bool, duration: float) -> float:
    """Seconds that one model call may take.

    Args:
        timeout: the setting; None: from the amount of audio.
        on_gpu: where the model runs.
        duration: seconds of audio in the call.
    """
    return timeout if timeout is not None else _LEAST + (_GPU if on_gpu else _CPU) * duration


@contextmanager
def limited(seconds: float, what: str) -> Iterator[None]:
    """End this process, with a FatalError of code model_timeout as its last words, if the block takes longer than `seconds`."""
    alive()
    late = FatalError(f"{what} was not finished within its limit of {seconds:g} s", code="model_timeout")
    timer = threading.Timer(seconds, exit_process, [late])
    timer.daemon = True
    timer.start()
    # What hangs while it holds Python's lock stops every thread of Python, the timer's too. This one is C's; it can only end the process.
    faulthandler.dump_traceback_later(seconds + _GRACE, exit=True, file=_STDERR)
    try:
        yield
    finally:
        timer.cancel()
        faulthandler.cancel_dump_traceback_later()
