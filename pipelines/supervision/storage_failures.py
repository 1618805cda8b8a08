"""Storage that fails under Ray's hands: the plan's files, the rows and the ids of finished shards are read and written by Ray Data.

Ray tolerates some lost tasks in a pass, whatever they were lost to. A process that died is what that is for; an output directory that
cannot be written is not: its shards are not to blame, and the run must stop and say so before it gives them up.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa

from actors.errors import StorageError
from actors.retries import LIBRARIES

_TOLERATED = "ray.data._internal.execution.streaming_executor_state"  # logs each error that it lets pass
# Where Ray reads and writes for us: an OSError of anything else is not the store's.
_PLACES = (
    "plan_write_op.py",
    "checkpoint_writer.py",
    "checkpoint_filter.py",
    "file_datasink.py",
    "parquet_datasink.py",
    "parquet_datasource.py",
)
_ADVICE = re.compile(
    r"\s*Failed to .{1,300} after \d+/\d+ attempts? ?\(?.*|\s*To change retry attempts", re.DOTALL
)


@contextmanager
def told(out: str, final: bool) -> Iterator[list[BaseException]]:
    """Name storage errors that Ray raises inside a `with` block; what it lets pass there is in the list.

    Args:
        out: the output directory, for the message.
        final: raise those too that Ray let pass, because nobody does the lost shards again after this.

    Raises:
        StorageError: reading or writing `out` failed, also after all retries.
    """
    tolerated = _Tolerated()
    logger = logging.getLogger(_TOLERATED)
    logger.addHandler(tolerated)
    try:
        yield tolerated.errors
    except Exception as error:
        if trouble := storage_trouble(error):
            raise StorageError(f"cannot read or write {out}: {trouble}") from error
        raise
    finally:
        logger.removeHandler(tolerated)
    found = [trouble for error in tolerated.errors if (trouble := storage_trouble(error))]
    if final and found:
        raise StorageError(
            f"cannot read or write {out}: {found[-1]} ({len(found)} tasks could not be stored)"
        )


def storage_trouble(error: BaseException) -> str | None:
    """What a store said to Ray Data when this error was raised; None where it was no store's."""
    if not any(place in _text(error) for place in _PLACES):
        return None
    current: BaseException | None = error
    seen: set[int] = set()
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        # A store's library may have errors of its own; of Python's, these two are also what a lost node looks like.
        of_library = type(current).__module__.split(".")[0] in LIBRARIES
        of_library = of_library or isinstance(
            current, pa.ArrowException
        )  # it would not write what it was given
        if of_library or (
            isinstance(current, OSError) and not isinstance(current, ConnectionError | TimeoutError)
        ):
            # Ray's errors are of two classes, and their text is the whole remote stack. Its last line is the cause, but for Ray's own advice.
            lines = [line.strip() for line in _ADVICE.split(str(current))[0].splitlines() if line.strip()]
            return lines[-1][:600] if lines else type(current).__name__
        current = getattr(current, "cause", None) or current.__cause__
    return None


def last_line(errors: Sequence[BaseException]) -> str:
    """What the last of some errors says in the end, in one line; nothing where there is none."""
    lines = (
        [line.strip() for line in _ADVICE.split(_text(errors[-1]))[0].splitlines() if line.strip()]
        if errors
        else []
    )
    return lines[-1][:300] if lines else ""


class _Tolerated(logging.Handler):
    """Keeps the exceptions of what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self.errors.append(record.exc_info[1])


def _text(error: BaseException) -> str:
    return f"{error} {getattr(error, 'traceback_str', '')}"
