"""A time limit for model calls that nothing can interrupt.

A call that hangs in C ends its process, and the pool starts another one.
"""

from __future__ import annotations

import faulthandler
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from actors.errors import FatalError
from actors.process.exit import exit_process

# Seconds that any call may take: it may have to compile kernels first.
_MIN_LIMIT = 600.0
# Additional seconds for each second of audio. A GPU needs 0.0003 to 0.01, a slow CPU a few. A call of a large
# GPU holds up to 15,360 s of audio.
_PER_AUDIO_SECOND_ON_GPU, _PER_AUDIO_SECOND_ON_CPU = 0.1, 10.0
# Seconds that `exit_process` may take for its callbacks.
_GRACE = 10.0
_STDERR = 2


_callbacks: list[Callable[[], None]] = []


def before_call(callback: Callable[[], None]) -> None:
    """Call `callback` as a heartbeat whenever a limited call begins. Replaces the previous callback."""
    _callbacks[:] = [callback]


def heartbeat() -> None:
    """Call the callback of `before_call`, from inside a long call that makes progress."""
    for callback in _callbacks:
        callback()


def call_limit(timeout: float | None, on_gpu: bool, duration: float) -> float:
    """Seconds that one model call may take.

    Args:
        timeout: the setting; None derives the limit from the amount of audio.
        on_gpu: whether the model runs on a GPU.
        duration: seconds of audio in the call.
    """
    if timeout is not None:
        return timeout
    return _MIN_LIMIT + (_PER_AUDIO_SECOND_ON_GPU if on_gpu else _PER_AUDIO_SECOND_ON_CPU) * duration


@contextmanager
def limited_table(timeout: float | None, durations: Sequence[float], what: str) -> Iterator[None]:
    """`limited` for a call on a GPU with a whole table, by the seconds of audio in it.

    Args:
        timeout: see `call_limit`.
        durations: seconds of each segment.
        what: names the call in the message.
    """
    seconds = sum(durations)
    whole = f"{what} with {len(durations)} segments of {seconds:.1f} s in all"
    with limited(call_limit(timeout, True, seconds), whole):
        yield


@contextmanager
def limited(seconds: float, what: str) -> Iterator[None]:
    """Exit this process with a FatalError of code model_timeout if the block takes longer than `seconds`.

    Args:
        seconds: the limit.
        what: names the block in the message.
    """
    heartbeat()
    error = FatalError(f"{what} was not finished within its limit of {seconds:g} s", code="model_timeout")
    timer = threading.Timer(seconds, exit_process, [error])
    timer.daemon = True
    timer.start()
    # A call that hangs while it holds Python's lock also stops the timer's thread. faulthandler's thread runs
    # in C and needs no lock, but all it can do is print the stacks and exit.
    faulthandler.dump_traceback_later(seconds + _GRACE, exit=True, file=_STDERR)
    try:
        yield
    finally:
        timer.cancel()
        faulthandler.cancel_dump_traceback_later()
