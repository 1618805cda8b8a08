"""Storage errors inside Ray Data, which reads the plan and writes the rows and the ids of finished shards.

Ray tolerates a few failed tasks per pass. That allowance is for crashed workers, not for storage errors: if
the output directory cannot be written, its shards are not to blame, and the run must stop and say so before
it gives them up.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa

from actors.errors import StorageError
from actors.retries import STORE_LIBRARIES

_ADVICE = re.compile(
    r"\s*Failed to .{1,300} after \d+/\d+ attempts? ?\(?.*|\s*To change retry attempts", re.DOTALL
)


@contextmanager
def raise_storage_failures(out: str, final: bool) -> Iterator[list[BaseException]]:
    """Raise Ray's storage errors inside a `with` block as StorageError; yields the errors that it tolerates.

    Args:
        out: the output directory, for the message.
        final: also raise the errors that Ray tolerated, because no later pass does the lost shards.

    Raises:
        StorageError: reading or writing `out` failed, also after all retries.
    """
    from pipelines.supervision.ray_internals import TOLERATED_ERRORS_LOGGER

    tolerated = _ToleratedErrors()
    logger = logging.getLogger(TOLERATED_ERRORS_LOGGER)
    logger.addHandler(tolerated)
    try:
        yield tolerated.errors
    except Exception as error:
        if message := storage_error_message(error):
            raise StorageError(f"cannot read or write {out}: {message}") from error
        raise
    finally:
        logger.removeHandler(tolerated)
    messages = [message for error in tolerated.errors if (message := storage_error_message(error))]
    if final and messages:
        lost = "1 task" if len(messages) == 1 else f"{len(messages):,} tasks"
        raise StorageError(f"cannot read or write {out}: {messages[-1]} ({lost} could not be stored)")


def storage_error_message(error: BaseException) -> str | None:
    """The store's own message in an error that Ray Data raised; None if it is no storage error."""
    from pipelines.supervision.ray_internals import STORAGE_MODULES

    # An OSError from any other module is not the store's.
    if not any(module in _text(error) for module in STORAGE_MODULES):
        return None
    current: BaseException | None = error
    seen: set[int] = set()
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if _is_storage_error(current):
            # Ray's errors have two base classes, and their text is the whole remote stack. The last line is
            # the cause, apart from advice that Ray adds.
            return _last_line(str(current))[:600] or type(current).__name__
        current = getattr(current, "cause", None) or current.__cause__
    return None


def last_error_line(errors: Sequence[BaseException]) -> str:
    """The last line of the last of some errors, which is its cause; empty if there is none."""
    return _last_line(_text(errors[-1]))[:300] if errors else ""


class _ToleratedErrors(logging.Handler):
    """Collects the exceptions of log records."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self.errors.append(record.exc_info[1])


def _is_storage_error(error: BaseException) -> bool:
    # A store's library may have errors of its own. An ArrowException means that the store refused what it was
    # given.
    if type(error).__module__.split(".")[0] in STORE_LIBRARIES or isinstance(error, pa.ArrowException):
        return True
    # These two of Python's errors are also what a lost node looks like.
    return isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in _ADVICE.split(text)[0].splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _text(error: BaseException) -> str:
    return f"{error} {getattr(error, 'traceback_str', '')}"
