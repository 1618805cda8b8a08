"""A readers-writer lock."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class SharedLock:
    """A readers-writer lock: `exclusive` waits for current holders and blocks new ones. Not reentrant."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._holders, self._reserved = 0, False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold the lock with other shared holders."""
        with self._changed:
            self._changed.wait_for(lambda: not self._reserved)
            self._holders += 1
        try:
            yield
        finally:
            with self._changed:
                self._holders -= 1
                self._changed.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the lock with no other holder."""
        with self._changed:
            self._changed.wait_for(lambda: not self._reserved)
            self._reserved = True
            self._changed.wait_for(lambda: not self._holders)
        try:
            yield
        finally:
            with self._changed:
                self._reserved = False
                self._changed.notify_all()
