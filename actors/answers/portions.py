"""Does the work of a table in portions of less than a minute, and keeps their answers until it is committed.

A table is committed as a whole. With a fast engine it takes seconds, and nothing here costs anything: the
table is one portion. With a slow one it takes minutes or hours, all of which a kill would lose. So such a
table is cut into portions by the speed that is measured, and the answers of each are stored beside the rows
of finished shards. Whoever does the table again, after a crash or in another run, finds them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

# Seconds of work of a portion. Less would cost batches their size: on a CPU a call costs as much as 0.75 more
# segments, so eight segments in a call are 9 % slower than any number.
PORTION_SECONDS = 40.0
# Answers are stored when so many seconds of work have gone into them.
KEEP_SECONDS = 10.0
# Seconds of audio of the first portion of a process, whose speed nobody knows.
FIRST_SECONDS = 32.0
# The first portion is cold and small. No portion is larger than the one before it by more than this.
GROWTH = 16.0


class Sized(Protocol):
    """Anything with a length in seconds."""

    @property
    def duration(self) -> float:
        """Length in seconds."""
        ...


Request = TypeVar("Request", bound=Sized)
Asked = TypeVar("Asked", bound=Sized, contravariant=True)
Result = TypeVar("Result")


class AnswerStore(Protocol):
    """Where answers are kept, as values that JSON can hold."""

    @property
    def is_empty(self) -> bool:
        """Whether an earlier process has left nothing."""
        ...

    def find(self, key: str) -> Any | None:
        """What an earlier process has left under a key; None: nothing."""
        ...

    def keep(self, table: str, answers: Mapping[str, Any]) -> None:
        """Store all answers of a table so far, by key, until the table is committed."""
        ...


class Codec(Protocol[Asked, Result]):
    """How requests and results of one kind of model become keys and values."""

    def key(self, request: Asked) -> str:
        """A digest of everything that the result depends on, beside the settings."""
        ...

    def encode(self, result: Result) -> Any | None:
        """The result as JSON can hold it; None: it is not worth keeping, such as an error."""
        ...

    def decode(self, value: Any, request: Asked) -> Result:
        """The result again."""
        ...


class Portions(Generic[Request, Result]):
    """Runs the model of one process in portions. Calls may overlap.

    Args:
        store: where answers are kept.
        codec: of requests and results.
        first_seconds: of audio in the first portion; None: everything, for an engine that is fast for sure.
        clock: seconds.
    """

    def __init__(
        self,
        store: AnswerStore,
        codec: Codec[Request, Result],
        first_seconds: float | None = FIRST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._codec, self._clock = store, codec, clock
        self._limit = first_seconds
        self._found_seconds = 0.0
        self._lock = threading.Lock()

    def run(
        self, table: str, requests: Sequence[Request], work: Callable[[list[Request]], Sequence[Result]]
    ) -> list[Result]:
        """The results of `work` for all requests, in their order.

        Args:
            table: id of one of the table's shards, which are committed together.
            requests: what to do.
            work: does some of them; returns as many results, in order.
        """
        results: dict[int, Result] = {}
        if not self._store.is_empty:
            results |= self._found(requests)
        left = [number for number in range(len(requests)) if number not in results]
        began = kept = self._clock()
        while left:
            portion = _first(left, requests, self._limit)
            left = left[len(portion) :]
            started = self._clock()
            results |= zip(portion, work([requests[number] for number in portion]), strict=True)
            now = self._clock()
            self._measured(sum(requests[number].duration for number in portion), now - started)
            # The last answers, too: they wait for the next stage.
            if now - kept >= KEEP_SECONDS or (not left and now - began >= KEEP_SECONDS):
                self._keep(table, requests, results)
                kept = self._clock()
        return [results[number] for number in range(len(requests))]

    def take_found_seconds(self) -> float:
        """Seconds of audio whose answers were found since the last call: the model did not hear them."""
        with self._lock:
            found, self._found_seconds = self._found_seconds, 0.0
        return found

    def _found(self, requests: Sequence[Request]) -> dict[int, Result]:
        found = {}
        for number, request in enumerate(requests):
            value = self._store.find(self._codec.key(request))
            if value is not None:
                found[number] = self._codec.decode(value, request)
        with self._lock:
            self._found_seconds += sum(requests[number].duration for number in found)
        return found

    def _keep(self, table: str, requests: Sequence[Request], results: Mapping[int, Result]) -> None:
        answers = {}
        for number, result in results.items():
            value = self._codec.encode(result)
            if value is not None:
                answers[self._codec.key(requests[number])] = value
        self._store.keep(table, answers)

    def _measured(self, audio_seconds: float, seconds: float) -> None:
        with self._lock:
            wanted = audio_seconds / max(seconds, 1e-6) * PORTION_SECONDS
            self._limit = min(wanted, GROWTH * max(audio_seconds, self._limit or audio_seconds))


def _first(left: Sequence[int], requests: Sequence[Sized], limit: float | None) -> list[int]:
    """The requests at the beginning that fit into `limit` seconds, at least one; all if nearly all fit."""
    if limit is None or sum(requests[number].duration for number in left) <= 1.25 * limit:
        return [*left]
    total, count = 0.0, 0
    for number in left:
        total += requests[number].duration
        if count and total > limit:
            break
        count += 1
    return [*left[:count]]
