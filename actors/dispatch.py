"""Many segments through a backend: packed into batches, failures kept to the segment that caused them, order restored."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Protocol, TypeVar

from actors.batching import pack, unpack
from actors.errors import FatalError
from actors.process.exit import exit_process
from actors.process.watchdog import limited

log = logging.getLogger(__name__)


class Sized(Protocol):
    """Anything with a length in seconds."""

    @property
    def duration(self) -> float:
        """Length in seconds."""
        ...


Request = TypeVar("Request", bound=Sized)
Result = TypeVar("Result")


def dispatch(
    requests: Sequence[Request],
    call: Callable[[list[Request]], Sequence[Result | Exception]],
    max_batch_seconds: float | None,
    max_batch_size: int | None,
    limit: Callable[[float], float] | None = None,
    prefetch: Callable[[list[Request]], None] | None = None,
) -> list[Result | Exception]:
    """Run a backend over all requests.

    A batch that fails is tried again request by request, so that one bad segment costs itself and not its neighbours.

    Args:
        requests: what to do.
        call: does a batch of them; in place of a result, the error of a request that it knows to fail alone.
        max_batch_seconds: padded seconds of one call; None: all in one call, the backend makes batches of its own.
        max_batch_size: requests of one call; None: likewise.
        limit: seconds that a call may take, from the seconds of audio in it; None: for ever.
        prefetch: told of each batch before its turn, while the one before it runs, the first one right before it.

    Returns:
        For each request, in order, its result, or the exception that it raised alone. A FatalError, and a call that takes longer than its
        limit, end the process instead.
    """
    if max_batch_seconds is None or max_batch_size is None:
        return _run(list(requests), call, limit) if requests else []
    batches = pack([request.duration for request in requests], max_batch_seconds, max_batch_size)
    groups = [[requests[index] for index in batch] for batch in batches]
    results = []
    for number, group in enumerate(groups):
        if prefetch is not None:
            for later in groups[number if number == 0 else number + 1 : number + 2]:
                prefetch(later)
        results.append(_run(group, call, limit))
    return unpack(batches, results)


def _run(
    batch: list[Request],
    call: Callable[[list[Request]], Sequence[Result | Exception]],
    limit: Callable[[float], float] | None,
) -> list[Result | Exception]:
    seconds = sum(request.duration for request in batch)
    try:
        with (
            nullcontext()
            if limit is None
            else limited(limit(seconds), f"a model call with {len(batch)} segments of {seconds:.1f} s in all")
        ):
            results = call(batch)
        if len(results) != len(batch):
            raise AssertionError(f"the backend gave {len(results)} results for {len(batch)} segments")
        return list(results)
    except FatalError as error:
        exit_process(error)
    except Exception as error:
        if len(batch) == 1:
            log.warning("a segment of %.1f s failed", batch[0].duration, exc_info=error)
            return [error]
        log.warning("a batch of %d segments failed, trying them one by one: %r", len(batch), error)
    return [result for request in batch for result in _run([request], call, limit)]
