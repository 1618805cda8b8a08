"""How long and how often a server is asked that others share: back-off, waits that it asks for, and when it is given up."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from actors.config import RemoteConfig
from actors.errors import FatalError, RetryableError, RowError
from actors.process.watchdog import call_limit, heartbeat
from actors.retries import FIRST_DELAY, LONGEST_DELAY

log = logging.getLogger(__name__)

_SIGN = 30.0  # seconds of a wait that the server asked for, between signs of life
_OF_CALL = 0.9  # of the time that a call may take, for one that waits for something else's end

T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """When a call began, and when the watchdog ends its process, in the loop's time."""

    begin: float
    end: float

    @property
    def last_moment(self) -> float:
        """When whatever is not finished is given up, so that the watchdog need not."""
        return self.begin + _OF_CALL * (self.end - self.begin)


class TransientError(Exception):
    """Another attempt may succeed; `busy`: the server asks to wait, `wait` seconds if it says so, which is no failure.

    `heard`: something good was heard in this attempt, so the failures before it do not count any more.
    """

    def __init__(self, reason: str, wait: float | None = None, busy: bool = False) -> None:
        super().__init__(reason)
        self.wait, self.busy, self.heard = wait, busy, False


class RetryPolicy:
    """That of one backend with its server; used in one event loop.

    Args:
        remote: retries, patience and address.
        timeout: the setting of how long a model call may take; None: from its amount of audio.
    """

    def __init__(self, remote: RemoteConfig, timeout: float | None) -> None:
        self.remote, self.timeout = remote, timeout
        self._last_good = 0.0  # time of the loop
        self._not_before = 0.0  # when the server wants to be asked again

    def call(self, duration: float) -> Call:
        """One that begins now, with so many seconds of audio; its limit is that of a model call on a CPU, as no GPU of ours is in it."""
        begin = _now()
        return Call(begin, begin + call_limit(self.timeout, False, duration))

    def renew(self) -> None:
        """The server gave a good answer."""
        self._last_good = _now()

    async def persist(self, attempt: Callable[[int], Awaitable[T]], call: Call) -> T:
        """Attempts until one succeeds, with exponential back-off and jitter, or as the server asks.

        Patience begins with the call, with each good answer, and with the end of a wait that the server asked for.

        Args:
            attempt: makes one, given how many there were before.
            call: that it belongs to.

        Raises:
            RetryableError: `retries` or the patience are used up.
            FatalError: the server asks to wait for longer than the call may take, so whatever else it is asked must wait, too.
        """
        failures = tries = 0
        while True:
            await self._wait_as_asked(call)
            if self._left(call) <= 0:
                raise self._given_up("it is not asked any more")
            try:
                answer = await attempt(tries)
                self.renew()
                return answer
            except RowError:
                self.renew()  # it is there, and answers
                raise
            except TransientError as error:
                tries += 1
                failures = (0 if error.heard else failures) + (not error.busy)
                delay = min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(tries - 1, 16)) * random.uniform(0.5, 1.0)
                if error.wait is not None:
                    delay *= 0.1  # the rest of it is what the server asks for
                    self._not_before = max(self._not_before, _now() + error.wait)
                if failures > self.remote.retries or delay > self._left(call):
                    raise self._given_up(f"after {tries} attempts, the last one: {error}") from None
                log.info(
                    "asking %s again in %.1f s: %s",
                    self.remote.base_url,
                    max(delay, error.wait or 0.0),
                    error,
                )
            await asyncio.sleep(delay)

    def _left(self, call: Call) -> float:
        """Seconds; what was waited because the server asked for it does not count."""
        return max(call.begin, self._last_good, self._not_before) + self.remote.patience - _now()

    async def _wait_as_asked(self, call: Call) -> None:
        """Until the server wants to be asked again, and a little longer, so that not all come at once; with signs of life."""
        await asyncio.sleep(0)
        while (asked := self._not_before - _now()) > 0:
            if self._not_before > call.last_moment:
                raise FatalError(
                    f"the recognition server at {self.remote.base_url} asks to wait for {asked:.0f} s, which goes beyond the "
                    f"{call.end - call.begin:.0f} s that a call may take (asr.timeout): start again when it is free",
                    "server_unavailable",
                )
            heartbeat()
            await asyncio.sleep(min(asked * random.uniform(1.0, 1.1), _SIGN))

    def _given_up(self, why: str) -> RetryableError:
        return RetryableError(
            f"the recognition server at {self.remote.base_url} gave no good answer: {why}",
            "server_unavailable",
        )


def _now() -> float:
    return asyncio.get_running_loop().time()
