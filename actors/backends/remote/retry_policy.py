"""When a shared recognition server is asked again: back-off, waits that it asks for, and giving up."""

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

# Seconds between two signs of life while a wait lasts that the server asked for.
_HEARTBEAT_INTERVAL = 30.0
# Part of the time limit of a call after which unfinished work is given up.
_USABLE_PART = 0.9

T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """A model call: when it began and when the watchdog ends its process, in the event loop's time."""

    begin: float
    end: float

    @property
    def deadline(self) -> float:
        """When unfinished work is given up, so that the watchdog does not have to end the process."""
        return self.begin + _USABLE_PART * (self.end - self.begin)


class TransientError(Exception):
    """An error after which another attempt may succeed.

    Args:
        reason: what went wrong.
        wait: seconds that the server asks to wait; None: it does not say.
        busy: the server asks to come later, which is not counted as a failure.
    """

    def __init__(self, reason: str, wait: float | None = None, busy: bool = False) -> None:
        super().__init__(reason)
        self.wait, self.busy = wait, busy
        # This attempt had a good response before it failed, so the failures before it no longer count.
        self.had_progress = False


class RetryPolicy:
    """Retries of all requests to one server; to be used in one event loop.

    Args:
        remote: settings of the server: retries, patience and address.
        timeout: the setting for the time of a model call in seconds; None: it follows from the amount of
            audio.
    """

    def __init__(self, remote: RemoteConfig, timeout: float | None) -> None:
        self.remote, self.timeout = remote, timeout
        # Both in the event loop's time: the last good response, and when the server wants to be asked again.
        self._last_success = 0.0
        self._not_before = 0.0

    def start_call(self, duration: float) -> Call:
        """A call that begins now.

        Args:
            duration: seconds of audio in it. Its time limit is that of a CPU, as it uses no GPU of ours.
        """
        begin = _now()
        return Call(begin, begin + call_limit(self.timeout, False, duration))

    def record_success(self) -> None:
        """The server gave a good response: the patience begins again."""
        self._last_success = _now()

    async def run(self, attempt: Callable[[int], Awaitable[T]], call: Call) -> T:
        """Make attempts until one succeeds, with exponential back-off and jitter, or as the server asks.

        The patience begins with the call, with each good response, and with the end of a wait that the server
        asked for.

        Args:
            attempt: makes one attempt; receives the number of attempts before it.
            call: the model call that it belongs to.

        Raises:
            RetryableError: the retries or the patience are used up.
            FatalError: the server asks to wait for longer than the call may take, so all other requests must
                wait, too.
        """
        failures = tries = 0
        while True:
            await self._wait_as_asked(call)
            if self._remaining_patience(call) <= 0:
                raise self._gave_up("asr.remote.patience is used up")
            try:
                result = await attempt(tries)
                self.record_success()
                return result
            except RowError:
                # The server is there and responds.
                self.record_success()
                raise
            except TransientError as error:
                tries += 1
                failures = (0 if error.had_progress else failures) + (not error.busy)
                delay = min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(tries - 1, 16)) * random.uniform(0.5, 1.0)
                if error.wait is not None:
                    # The rest of the delay is what the server asks for.
                    delay *= 0.1
                    self._not_before = max(self._not_before, _now() + error.wait)
                if failures > self.remote.retries or delay > self._remaining_patience(call):
                    raise self._gave_up(f"after {tries} attempts, the last one: {error}") from None
                pause = max(delay, error.wait or 0.0)
                log.info("retrying %s in %.1f s: %s", self.remote.base_url, pause, error)
            await asyncio.sleep(delay)

    def _remaining_patience(self, call: Call) -> float:
        """Seconds; a wait that the server asked for does not count."""
        return max(call.begin, self._last_success, self._not_before) + self.remote.patience - _now()

    async def _wait_as_asked(self, call: Call) -> None:
        """Wait as long as the server asks, and a little longer, so that not all requests come at once."""
        await asyncio.sleep(0)
        while (wait := self._not_before - _now()) > 0:
            if self._not_before > call.deadline:
                raise FatalError(
                    f"the recognition server at {self.remote.base_url} asks to wait for {wait:.0f} s, which "
                    f"goes beyond the {call.end - call.begin:.0f} s that a call may take (asr.timeout): "
                    "start again later",
                    "server_unavailable",
                )
            heartbeat()
            await asyncio.sleep(min(wait * random.uniform(1.0, 1.1), _HEARTBEAT_INTERVAL))

    def _gave_up(self, why: str) -> RetryableError:
        return RetryableError(
            f"the recognition server at {self.remote.base_url} gave no successful response: {why}",
            "server_unavailable",
        )


def _now() -> float:
    return asyncio.get_running_loop().time()
