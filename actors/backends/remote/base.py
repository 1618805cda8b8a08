"""What all recognisers on another machine have in common; each API is a subclass of `RemoteASR`.

All segments of a batch are requested at once, `concurrency` requests at a time. Four kinds of errors are told
apart:

- An error that may pass (no connection, 5xx, 429, an incomplete response) is retried.
- An error about one segment fails that segment.
- An error that every request would meet (key, address, model) ends the process.
- So does a server that is gone: the pool starts another process, which waits for the server before any
  segment is lost.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar

import numpy as np

from actors.backends.base import ASRBackend
from actors.backends.remote.http import RemoteServer
from actors.backends.remote.retry_policy import Call, RetryPolicy, TransientError
from actors.config import ASRConfig
from actors.errors import FatalError, RetryableError, RowError
from actors.process.watchdog import heartbeat
from actors.records import SAMPLING_RATE, Hypothesis, SegmentRequest

log = logging.getLogger(__name__)

_SILENCE = SegmentRequest(np.zeros(SAMPLING_RATE // 2, np.int16))
# Seconds at most for the last check of a server, at the end of a call that may have used up its time.
_LAST_CHECK_TIMEOUT = 30.0
_MAX_MODEL_NAMES = 20  # in a message
_ADVICE = "start the server, or set asr.remote.base_url"

T = TypeVar("T")


@dataclasses.dataclass
class Usage:
    """What a backend has asked of its server since it was ready.

    Requests and audio count as often as they were sent.
    """

    requests: int = 0
    repeated: int = 0  # of the requests
    audio_seconds: float = 0.0
    prompt_tokens: int = 0  # as far as the server says
    completion_tokens: int = 0

    def __str__(self) -> str:
        return (
            f"{self.requests:,} requests ({self.repeated:,} of them repeated), "
            f"{self.audio_seconds / 3600:.3f} h of audio sent, "
            f"{self.prompt_tokens:,} + {self.completion_tokens:,} tokens"
        )

    def count_request(self, duration: float, *, repeated: bool) -> None:
        """Count a request.

        Args:
            duration: seconds of its audio.
            repeated: the same segment was requested before.
        """
        self.requests += 1
        self.repeated += repeated
        self.audio_seconds += duration


class RemoteASR(ASRBackend):
    """A recogniser behind a network. May be called from any thread, also from several at once."""

    url_ending = "/v1"  # what `asr.remote.base_url` should end with

    def __init__(self, config: ASRConfig) -> None:
        """Find the server and check that it has the model.

        Raises:
            FatalError: no server, no access, or no such model; the message says what to do.
        """
        self.config, self.remote = config, config.remote
        self.model = config.model
        self.revision = config.revision or "remote"
        self.total_usage = Usage()
        self.server = RemoteServer(config.remote, config.model, self.url_ending)
        self._retries = RetryPolicy(self.remote, config.timeout)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="remote-asr", daemon=True)
        self._thread.start()
        try:
            self._run(self.server.open())
            self._run(self._check_server())
            # The requests of the check do not count.
            self.total_usage = Usage()
        except BaseException:
            self.close()
            raise

    def transcribe(self, requests: list[SegmentRequest]) -> list[Hypothesis | Exception]:
        """Recognise a batch; see `ASRBackend`.

        A segment that the server refuses, or fails at for good, gets its RowError or RetryableError in place
        of a result.

        Raises:
            FatalError: the server is gone, or refuses every request.
        """
        if not requests:
            return []
        results = self._run(self._recognise_all(requests))
        log.info("%s at %s, so far: %s", self.model, self.remote.base_url, self.total_usage)
        return results

    def usage(self) -> dict[str, float]:
        """See `ASRBackend`."""
        return dataclasses.asdict(self.total_usage)

    def close(self) -> None:
        """Cancel all requests and close all connections; the backend is unusable then.

        It may be called more than once.
        """
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._cancel_and_close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # What each API does in its own way.

    @abstractmethod
    def _attempts(self, request: SegmentRequest, call: Call) -> Callable[[int], Awaitable[Hypothesis]]:
        """A function that makes one attempt at a segment, given the number of attempts before it.

        It counts its requests.
        """

    @abstractmethod
    async def _list_models(self) -> set[str]:
        """Names of the server's models; empty where it does not list them.

        Raises:
            TransientError: the server does not respond.
            FatalError: the server refuses us.
        """

    async def _check_working(self, silence: SegmentRequest, call: Call) -> None:
        """Raise TransientError where the server does not show that it works on its requests."""
        await self._attempts(silence, call)(0)

    # What they have in common.

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop's thread and wait for it; an interrupt of this thread cancels it."""
        if self._loop.is_closed():
            work.close()
            raise FatalError("this recogniser was closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except CancelledError:
            raise FatalError("this recogniser was closed while it was asked") from None
        finally:
            future.cancel()

    async def _cancel_and_close(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self.server.close()

    async def _recognise_all(self, requests: list[SegmentRequest]) -> list[Hypothesis | Exception]:
        call = self._retries.start_call(sum(request.duration for request in requests))
        limit = asyncio.Semaphore(self.remote.concurrency)
        tasks = [asyncio.create_task(self._recognise(request, limit, call)) for request in requests]
        try:
            results: list[Hypothesis | Exception] = list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if any(isinstance(result, RetryableError) for result in results):
            # The server may have gone away within the batch. Without this check, the segments after that
            # would count as failed on their own, because those before succeeded.
            await self._check_server_is_there()
        return results

    async def _recognise(
        self, request: SegmentRequest, limit: asyncio.Semaphore, call: Call
    ) -> Hypothesis | Exception:
        async with limit:
            try:
                return await self._retries.run(self._attempts(request, call), call)
            except (RowError, RetryableError) as error:
                log.warning("a segment of %.1f s failed: %s", request.duration, error)
                return error
            finally:
                heartbeat()

    async def _check_server(self) -> None:
        """Raise FatalError where this server cannot be used.

        It also gets a moment of silence to recognise, because its list of models does not say enough: some
        servers list nothing, some not all, and where an account is empty, every listed model is refused.
        Here, that costs only this process. Later, the shards that the process holds would be blamed.
        """
        models: set[str] = set()
        try:
            models = await self._retries.run(lambda _: self._list_models(), self._retries.start_call(0))
            call = self._retries.start_call(_SILENCE.duration)
            await self._retries.run(self._attempts(_SILENCE, call), call)
        except RowError:
            log.info("%s refuses to recognise silence", self.remote.base_url)
        except FatalError as error:
            if not models or self.model in models:
                raise
            names = ", ".join(sorted(models)[:_MAX_MODEL_NAMES])
            raise FatalError(f"{error.message}; it offers {names}", error.code) from None
        except RetryableError as error:
            if self.model not in models:
                raise FatalError(f"{error.message}; {_ADVICE}", error.code) from None
            log.warning(
                "the check with silence failed: %s; the server has the model, so speech may succeed",
                error.message,
            )

    async def _check_server_is_there(self) -> None:
        """Raise FatalError where the server is gone or does not respond.

        A new process waits for it then, so that no segment is lost. The server gets silence to recognise,
        once: a proxy in front of an engine may list the models when the engine is long gone.
        """
        call = self._retries.start_call(_SILENCE.duration)
        timeout = min(self.remote.timeout, _LAST_CHECK_TIMEOUT)
        try:
            async with asyncio.timeout(timeout):
                await self._list_models()
                await self._check_working(_SILENCE, call)
        except RowError:
            return
        except (TransientError, RetryableError, TimeoutError) as error:
            why = str(error) or f"no result for silence within {timeout:g} s"
            message = f"the recognition server at {self.remote.base_url} no longer responds: {why}; {_ADVICE}"
            raise FatalError(message, "server_unavailable") from None
