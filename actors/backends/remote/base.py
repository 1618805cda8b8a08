"""A recogniser on somebody else's machine: what all of them have in common. `openai`, `dashscope_files` and `dashscope_realtime` say how they ask.

A batch is asked about all at once, `concurrency` requests at a time. What may pass (no connection, 5xx, 429, an answer cut short) is tried
again; what is about one segment costs that segment; what every request would be told (key, address, model) ends the process, as does a
server that is gone: the pool starts another, which waits for it before any segment is lost.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx2
import numpy as np

from actors.backends.remote import http, openai_protocol
from actors.backends.remote.cost import Cost
from actors.backends.remote.retry_policy import Call, RetryPolicy, TransientError
from actors.config import ASRConfig
from actors.errors import FatalError, RetryableError, RowError
from actors.process.watchdog import heartbeat
from actors.records import SAMPLING_RATE, Hypothesis, SegmentRequest

log = logging.getLogger(__name__)

MAX_ANSWER = 8 << 20  # bytes: a thousand times what a segment's answer has
_SILENCE = SegmentRequest(np.zeros(SAMPLING_RATE // 2, np.int16))
_LAST_LOOK = 30.0  # seconds at most, at the end of a call that may have used up its time
_SHOWN = 20  # model names in a message
_LONGEST = 300  # characters of what a server said
_START = "start the server, or set asr.remote.base_url"

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """Of an HTTP request; names of headers in any case."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class RemoteASR(ABC):
    """A recogniser behind a network. Satisfies `ASRBackend`; may be called from any thread, also from several at once."""

    address_ends = "/v1"  # what `asr.remote.base_url` should end with

    def __init__(self, config: ASRConfig) -> None:
        """Find the server and ask whether it has the model.

        Raises:
            FatalError: no server, no access, or no such model; the message says what to do.
        """
        self.config, self.remote = config, config.remote
        self.model = config.model
        self.revision = config.revision or "remote"
        self.cost = Cost()
        self._key = os.environ.get(self.remote.key_variable, "").strip()
        if not self._key.isascii() or not self._key.isprintable():
            raise FatalError(
                f"the key in the environment variable {self.remote.key_variable} has characters that no key has"
            )
        self._patience = RetryPolicy(self.remote, config.timeout)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="remote-asr", daemon=True)
        self._thread.start()
        try:
            self._client = self._run(self._connect())
            self._run(self._check())
            self.cost = Cost()  # of the segments
        except BaseException:
            self.close()
            raise

    def transcribe(self, requests: list[SegmentRequest]) -> list[Hypothesis | Exception]:
        """Recognise a batch; in the place of a segment that the server refuses, or fails at for good, stands its RowError or RetryableError.

        Raises:
            FatalError: the server is gone, or refuses all of us.
        """
        if not requests:
            return []
        results = self._run(self._all(requests))
        log.info("%s at %s, so far: %s", self.model, self.remote.base_url, self.cost)
        return results

    def usage(self) -> dict[str, float]:
        """The cost so far, by name."""
        return dataclasses.asdict(self.cost)

    def close(self) -> None:
        """End what is under way and close all connections; it may be called more than once, and nothing can be asked any more."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # What each of them does its own way.

    @abstractmethod
    def _attempts(self, request: SegmentRequest, call: Call) -> Callable[[int], Awaitable[Hypothesis]]:
        """How a segment is asked about: makes one attempt, given how many there were before; it counts what it sends."""

    @abstractmethod
    async def _offered(self) -> set[str]:
        """Names of the server's models; none where it does not list them.

        Raises:
            MayPass: it does not answer.
            FatalError: it does not let us in.
        """

    async def _shown(self, silence: SegmentRequest, call: Call) -> None:
        """Raise MayPass where the server does not show that it works on what it is asked."""
        await self._attempts(silence, call)(0)

    # What they have in common.

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in the loop's thread, from this one; it is cancelled if this one is interrupted meanwhile."""
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

    async def _connect(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            timeout=self.remote.timeout,
            # Without TLS no certificates have to be read; but answers of the files' API name further hosts.
            verify=self.remote.base_url.startswith("https:") or self.remote.endpoint == "dashscope-files",
            limits=httpx2.Limits(
                max_connections=self.remote.concurrency, max_keepalive_connections=self.remote.concurrency
            ),
        )

    async def _end(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if hasattr(self, "_client"):
            await self._client.aclose()

    async def _all(self, requests: list[SegmentRequest]) -> list[Hypothesis | Exception]:
        call = self._patience.call(sum(request.duration for request in requests))
        room = asyncio.Semaphore(self.remote.concurrency)
        tasks = [asyncio.create_task(self._one(request, room, call)) for request in requests]
        try:
            results: list[Hypothesis | Exception] = list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if any(isinstance(result, RetryableError) for result in results):
            await self._must_be_there()  # else the answers before it went would make the others' end theirs
        return results

    async def _one(
        self, request: SegmentRequest, room: asyncio.Semaphore, call: Call
    ) -> Hypothesis | Exception:
        async with room:
            try:
                return await self._patience.persist(self._attempts(request, call), call)
            except (RowError, RetryableError) as error:
                log.warning("a segment of %.1f s failed: %s", request.duration, error)
                return error
            finally:
                heartbeat()

    async def _check(self) -> None:
        """Raise FatalError where nothing can come of asking this server.

        It is asked about a moment of silence, too, for its list does not tell enough: some list nothing, some not all, and where an account
        is empty all that is listed is refused. Here, that costs the process alone; later, the shards that it has in hand are blamed.
        """
        offered: set[str] = set()
        try:
            offered = await self._patience.persist(lambda _: self._offered(), self._patience.call(0))
            call = self._patience.call(_SILENCE.duration)
            await self._patience.persist(self._attempts(_SILENCE, call), call)
        except RowError:
            log.info("%s does not like silence", self.remote.base_url)
        except FatalError as error:
            if not offered or self.model in offered:
                raise
            names = ", ".join(sorted(offered)[:_SHOWN])
            raise FatalError(f"{error.message}; it offers {names}", error.code) from None
        except RetryableError as error:
            if self.model not in offered:
                raise FatalError(f"{error.message}; {_START}", error.code) from None
            log.warning(
                "asked about silence, %s; it has the model, so speech may be another matter", error.message
            )

    async def _must_be_there(self) -> None:
        """Raise FatalError where the server is gone, or answers nobody: segments are not lost to that, a new process waits for it.

        It is asked about silence for this, once: what stands in front of an engine may list its models when that is long gone.
        """
        call = self._patience.call(_SILENCE.duration)
        try:
            async with asyncio.timeout(min(self.remote.timeout, _LAST_LOOK)):
                await self._offered()
                await self._shown(_SILENCE, call)
        except RowError:
            return
        except (TransientError, RetryableError, TimeoutError) as error:
            why = str(error) or f"nothing about silence within {min(self.remote.timeout, _LAST_LOOK):g} s"
            gone = (
                f"the recognition server at {self.remote.base_url} answers nothing any more: {why}; {_START}"
            )
            raise FatalError(gone, "server_unavailable") from None

    async def _send(
        self,
        method: str,
        url: str,
        *,
        known: bool = True,
        headers: Mapping[str, str] | None = None,
        **content: Any,
    ) -> Answer:
        """An HTTP request and its answer, whatever the status.

        Args:
            method: of the request.
            url: where to.
            known: this is the server of the settings, who may have the key.
            headers: further ones.
            content: as httpx takes it.

        Raises:
            MayPass: no answer, half of one, or one without end.
        """
        try:
            async with (
                asyncio.timeout(self.remote.timeout),
                self._client.stream(
                    method,
                    url,
                    headers={**(headers or {}), **(self._authorization() if known else {})},
                    **content,
                ) as response,
            ):
                data = bytearray()
                async for piece in response.aiter_bytes():
                    data += piece
                    if len(data) > MAX_ANSWER:
                        raise TransientError(f"the answer is longer than {MAX_ANSWER >> 20} MiB")
                return Answer(response.status_code, response.headers, bytes(data))
        except TimeoutError:
            raise TransientError(f"no complete answer within {self.remote.timeout:g} s") from None
        except httpx2.HTTPError as error:
            raise TransientError(f"{type(error).__name__}: {error}".rstrip(": ")) from None

    def _authorization(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._key}"} if self._key else {}

    def _must_be_fine(self, answer: Answer, about: str = "", hint: str = "") -> None:
        """Raise what an HTTP answer that is none means.

        Args:
            answer: to whatever.
            about: what of ours it may be about; nothing: whoever refuses this refuses all of us.
            hint: what to do where that is refused.

        Raises:
            FatalError, RowError, MayPass: by whose fault it is.
        """
        meaning, said = self._meaning(answer)
        if meaning == "fatal" or (meaning == "refused" and not about):
            raise FatalError(self._fatal(answer, said))
        if meaning == "refused":
            raise RowError(
                f"the recognition server refuses {about}: {self._safe(said)}{hint}", "model_failed"
            )
        if meaning != "fine":
            raise TransientError(
                self._safe(said),
                http.retry_after(answer.headers, datetime.now(UTC)),
                busy=meaning == "busy",
            )

    def _meaning(self, answer: Answer) -> tuple[http.Meaning, str]:
        return http.meaning_of(
            answer.status, answer.data, of_dashscope=self.remote.endpoint.startswith("dashscope")
        )

    def _parsed(self, answer: Answer) -> dict[str, Any]:
        try:
            return openai_protocol.parsed(answer.data)
        except openai_protocol.Malformed as error:
            raise TransientError(self._safe(str(error))) from None

    def _fatal(self, answer: Answer, said: str) -> str:
        """What is wrong for every request, and what to do."""
        if answer.status in (401, 402, 403):
            variable = self.remote.key_variable
            key = (
                f"the key in {variable} was sent"
                if self._key
                else f"no key was sent, as {variable} is not set in this process"
            )
            todo = f"{key}; asr.remote.key_variable names the variable, and on a cluster it must be set on its nodes"
        elif 300 <= answer.status < 400:
            place = answer.headers.get("location", "").partition("?")[0]
            todo = (
                f"it redirects to {place or 'nowhere'}: set asr.remote.base_url to where the server really is"
            )
        else:
            todo = f"is {self.model!r} its name of the model (asr.model), and is asr.remote.base_url right, with its {self.address_ends}?"
        return f"the recognition server at {self.remote.base_url} refuses every request: {self._safe(said)}; {todo}"

    def _safe(self, text: str) -> str:
        """What a server said, which may be long and repeat the key."""
        return (text.replace(self._key, "***") if self._key else text)[:_LONGEST]
