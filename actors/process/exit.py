"""Exit of a worker process whose engine is broken, so that its pool replaces it."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from actors.errors import FatalError

_callbacks: list[Callable[[FatalError], None]] = []


def before_exit(callback: Callable[[FatalError], None]) -> None:
    """Have `exit_process` call `callback` with its reason, in any thread. Replaces the previous callback."""
    _callbacks[:] = [callback]


def exit_process(error: FatalError) -> NoReturn:
    """Exit this process with status 1 because its engine is broken or hangs; the pool starts another one.

    Not `raise`: Ray retries a failed call on the same actor, and after a sticky CUDA error every call there
    fails, so one broken replica would use up the retries of many rows. Not `sys.exit`: Ray then takes the
    actor's end as intended, and the pool waits for it for ever. Only a process that dies is replaced and its
    call repeated elsewhere. `os._exit` also does not wait for threads that hang in the driver.
    """
    logging.getLogger(__name__).critical("this process exits: %s", error)
    for callback in _callbacks:
        with contextlib.suppress(Exception):
            callback(error)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
