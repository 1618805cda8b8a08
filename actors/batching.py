"""Batches for model calls: similar lengths together, failures isolated, results in the order of the requests.

A batch is padded to its longest segment, and its decoding lasts as long as that segment talks. The cost of a
call is therefore `longest * (segments + call_cost_segments)`: one padded second for each second of each
segment, plus the call itself, which costs as much as `call_cost_segments` more segments. On a CPU that is
less than one segment. On a GPU that is bound by kernel launches it is about a hundred, so a GPU wants few
large batches and a CPU wants little padding.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np

from actors.batch_limits import CPU_CALL_COST, BatchSettings, batch_limits
from actors.errors import FatalError
from actors.process.exit import exit_process
from actors.process.watchdog import call_limit, limited

log = logging.getLogger(__name__)

T = TypeVar("T")


class Sized(Protocol):
    """Anything with a length in seconds."""

    @property
    def duration(self) -> float:
        """Length in seconds."""
        ...


Request = TypeVar("Request", bound=Sized)
Result = TypeVar("Result")


def pack(
    durations: Sequence[float],
    max_batch_seconds: float,
    max_batch_size: int,
    call_cost_segments: float = CPU_CALL_COST,
) -> list[list[int]]:
    """Cut segments into the cheapest batches within the limits.

    Greedy filling is not enough: it puts the one 60 s segment together with dozens of short ones.

    Args:
        durations: length of each segment in seconds, in any order.
        max_batch_seconds: most padded seconds (longest * segments) of a batch; a longer segment is a batch of
            its own.
        max_batch_size: most segments of a batch.
        call_cost_segments: what a call costs, in segments as long as its longest.

    Returns:
        Lists of indices into `durations`; every index once. The longest come first, so that a batch that does
        not fit the device is found at once; equal durations keep their order.
    """
    if max_batch_seconds <= 0 or max_batch_size < 1:
        raise ValueError(
            f"max_batch_seconds {max_batch_seconds} and max_batch_size {max_batch_size} must be positive"
        )
    order = sorted(range(len(durations)), key=lambda index: -durations[index])
    descending = [durations[index] for index in order]
    batches = []
    start = 0
    for end in _cuts(descending, max_batch_seconds, max_batch_size, call_cost_segments):
        batches.append(order[start:end])
        start = end
    return batches


def unpack(batches: Iterable[Sequence[int]], results: Iterable[Sequence[T]]) -> list[T]:
    """Put the results of packed batches back into the original order.

    Raises:
        ValueError: a batch and its results differ in length, or an index is missing or doubled. Without this
            check one segment's text could end up under another segment's audio.
    """
    ordered: dict[int, T] = {}
    total = 0
    for indices, values in zip(batches, results, strict=True):
        ordered.update(zip(indices, values, strict=True))
        total += len(indices)
    if len(ordered) != total or set(ordered) != set(range(total)):
        raise ValueError(
            f"{total} results cover only {len(ordered)} of the segments, or not 0 to {total - 1}"
        )
    return [ordered[index] for index in range(total)]


def fill(durations: Sequence[float], batches: Iterable[Sequence[int]]) -> float:
    """Real seconds per padded second, 0 to 1; 1 where there is nothing."""
    padded = sum(max(durations[index] for index in batch) * len(batch) for batch in batches)
    return sum(durations) / padded if padded else 1.0


def dispatch(
    requests: Sequence[Request],
    call: Callable[[list[Request]], Sequence[Result | Exception]],
    max_batch_seconds: float | None,
    max_batch_size: int | None,
    limit: Callable[[float], float] | None = None,
    prefetch: Callable[[list[Request]], None] | None = None,
    call_cost_segments: float = CPU_CALL_COST,
) -> list[Result | Exception]:
    """Send all requests through a backend in batches.

    A batch that fails is tried again request by request, so that a bad segment fails alone.

    Args:
        requests: what to do.
        call: processes a batch. May return an exception in place of the result of a request that fails alone.
        max_batch_seconds: padded seconds of one call; None: all requests in one call, for a backend that
            makes batches itself.
        max_batch_size: requests of one call; None: likewise.
        limit: seconds that a call may take, as a function of the seconds of audio in it; None: no limit.
        prefetch: receives each batch before its turn, while the one before it runs; the first one right
            before its call.
        call_cost_segments: see `pack`.

    Returns:
        For each request, in order, its result, or the exception that it raised on its own. A FatalError, and
        a call that exceeds its limit, end the process instead.
    """
    if max_batch_seconds is None or max_batch_size is None:
        return _run(list(requests), call, limit) if requests else []
    durations = [request.duration for request in requests]
    batches = pack(durations, max_batch_seconds, max_batch_size, call_cost_segments)
    groups = [[requests[index] for index in batch] for batch in batches]
    results = []
    for number, group in enumerate(groups):
        if prefetch is not None:
            for later in groups[number if number == 0 else number + 1 : number + 2]:
                prefetch(later)
        results.append(_run(group, call, limit))
    return unpack(batches, results)


class BatchedBackend(Protocol):
    """What `dispatch_to` must know of a backend; see `actors.backends.base`."""

    batches_itself: bool
    gpu_memory: float | None

    @property
    def call_cost_segments(self) -> float | None:
        """Measured cost of a call; see `pack`."""
        ...

    @property
    def on_gpu(self) -> bool:
        """Whether the model runs on a GPU."""
        ...

    def prefetch(self, requests: Any) -> None:
        """Prepare the batch whose call comes next."""
        ...


class CallSettings(BatchSettings, Protocol):
    """The settings of a model call; see `actors.config.ModelConfig`."""

    @property
    def timeout(self) -> float | None:
        """Seconds that one call may take; None: from the seconds of audio in it."""
        ...


def dispatch_to(
    backend: BatchedBackend,
    call: Callable[[list[Request]], Sequence[Result | Exception]],
    settings: CallSettings,
    requests: Sequence[Request],
) -> list[Result | Exception]:
    """Send requests through a backend with `dispatch`, in batches by the settings or the backend's own.

    Args:
        backend: the backend.
        call: its method that processes a batch.
        settings: those of its model.
        requests: what to do.

    Returns:
        See `dispatch`.
    """
    if backend.batches_itself:
        return dispatch(requests, call, None, None)
    limit = partial(call_limit, settings.timeout, backend.on_gpu)
    limits = batch_limits(settings, backend.gpu_memory, backend.call_cost_segments)
    batches = limits.max_seconds, limits.max_size
    return dispatch(requests, call, *batches, limit, backend.prefetch, limits.call_cost_segments)


def _run(
    batch: list[Request],
    call: Callable[[list[Request]], Sequence[Result | Exception]],
    limit: Callable[[float], float] | None,
) -> list[Result | Exception]:
    seconds = sum(request.duration for request in batch)
    what = f"a model call with {len(batch)} segments of {seconds:.1f} s in all"
    try:
        with nullcontext() if limit is None else limited(limit(seconds), what):
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


def _cuts(
    descending: list[float], max_batch_seconds: float, max_batch_size: int, call_cost: float
) -> list[int]:
    """Ends of the batches of a descending list: a shortest path, `best[i]` is the least cost from `i` on."""
    total = len(descending)
    best = np.zeros(total + 1)
    choice = [0] * total
    for start in range(total - 1, -1, -1):
        longest = descending[start]
        most = min(max_batch_size, total - start)
        if longest * most > max_batch_seconds:
            most = max(1, int(max_batch_seconds / longest))
        sizes = np.arange(1, most + 1)
        costs = longest * (sizes + call_cost) + best[start + 1 : start + most + 1]
        # Of equal costs the largest batch: fewer calls.
        size = most - int(np.argmin(costs[::-1]))
        best[start] = costs[size - 1]
        choice[start] = size
    ends = []
    position = 0
    while position < total:
        position += choice[position]
        ends.append(position)
    return ends
