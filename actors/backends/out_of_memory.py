"""Batches that do not fit the device: halve them, and remember the size that was too large."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from actors.backends.devices import classify_error
from actors.batching import Sized
from actors.errors import FatalError, RowError

log = logging.getLogger(__name__)


Item = TypeVar("Item", bound=Sized)
Result = TypeVar("Result")


class MemoryGuard:
    """Runs batches on a device whose memory is not known beforehand.

    `max_seconds` is the learned limit: a batch of twice that many padded seconds (longest * items) did not
    fit, so later batches are cut to it before they are tried. It only falls, for the life of the process. An
    item that does not fit even alone does not lower it.
    """

    def __init__(self) -> None:
        self.max_seconds: float | None = None

    def run(self, items: Sequence[Item], call: Callable[[Sequence[Item]], list[Result]]) -> list[Result]:
        """Call `call` on all items, in as many pieces as the device needs; results in the order of the items.

        Raises:
            RowError: an item does not fit even alone (code device_out_of_memory).
            FatalError: the device is broken.
            Exception: any other exception of `call`: the items caused it, not the device.
        """
        before = self.max_seconds
        try:
            return self._run(items, call)
        except RowError as error:
            if error.code == "device_out_of_memory":
                # The batches that held the item failed because of it: their sizes may be right.
                self.max_seconds = before
            raise

    def _run(self, items: Sequence[Item], call: Callable[[Sequence[Item]], list[Result]]) -> list[Result]:
        if self.max_seconds is not None and len(items) > 1 and _padded(items) > self.max_seconds:
            return self._halve(items, call)
        try:
            return call(items)
        except Exception as error:
            cause = classify_error(error)
            if cause == "broken":
                raise FatalError(f"the device is broken: {error}") from error
            if cause == "other":
                raise
            reason = str(error).split("\n")[0]
        # Outside the except block: its traceback would keep the tensors of the failed call alive while the
        # halves run.
        _release()
        if len(items) == 1:
            message = (
                f"a segment of {items[0].duration:.1f} s does not fit the device ({reason}); "
                "lower segmenter.max_duration"
            )
            raise RowError(message, code="device_out_of_memory")
        self.max_seconds = min(_padded(items) / 2, self.max_seconds or float("inf"))
        log.warning(
            "out of memory at %d segments; batches of %.0f padded seconds from now on",
            len(items),
            self.max_seconds,
        )
        return self._halve(items, call)

    def _halve(self, items: Sequence[Item], call: Callable[[Sequence[Item]], list[Result]]) -> list[Result]:
        middle = len(items) // 2
        return self._run(items[:middle], call) + self._run(items[middle:], call)


def _padded(items: Sequence[Item]) -> float:
    return max(item.duration for item in items) * len(items)


def _release() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
