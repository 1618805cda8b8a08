"""Any server with OpenAI's API as the recogniser: vLLM, SGLang, our own, DashScope's compatible mode. See `openai_wire` for what is said.

A batch is asked about all at once, `concurrency` requests at a time. What may pass (no connection, 5xx, 429, an answer cut short) is tried
again; what is about one segment costs that segment; what every request would be told (key, address, model) ends the process, as does a
server that is gone: the pool starts another, which waits for it before any segment is lost.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
import os
import random
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpx2
import numpy as np

from actors.backends import openai_wire as wire
from actors.config import ASRConfig
from actors.errors import FatalError, RetryableError, RowError
from actors.results import SAMPLING_RATE, Hypothesis, SegmentRequest
from actors.retries import FIRST_DELAY, LONGEST_DELAY
from actors.watchdog import alive, call_limit

log = logging.getLogger(__name__)

MAX_ANSWER = 8 << 20  # bytes: a thousand times what a segment's answer has
_PROBE = SAMPLING_RATE // 2  # samples of silence
_SHOWN = 20  # model names in a message
_LONGEST = 300  # characters of what a server said
_SIGN = 30.0  # seconds of a wait that the server asked for, between signs of life
_START = "start the server, or set asr.openai.base_url"

T = TypeVar("T")


@dataclass
class Cost:
    """What a backend has asked for since it was ready; requests and audio count as often as they were sent."""

    requests: int = 0
    repeated: int = 0  # of the requests
    audio_seconds: float = 0.0
    prompt_tokens: int = 0  # as far as the server tells
    completion_tokens: int = 0

    def __str__(self) -> str:
        return (
            f"{self.requests:,} requests ({self.repeated:,} of them repeated), {self.audio_seconds / 3600:.3f} h of audio sent, "
            f"{self.prompt_tokens:,} + {self.completion_tokens:,} tokens"
        )


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: httpx2.Headers
    data: bytes


@dataclass(frozen=True)
class _Call:
    """When a call began, and when the watchdog ends its process, in the loop's time."""

    begin: float
    end: float


class _MayPass(Exception):
    """Another attempt may succeed; `busy`: the server asks to wait, which is no failure."""

    def __init__(self, reason: str, wait: float | None = None, busy: bool = False) -> None:
        super().__init__(reason)
        self.wait, self.busy = wait, busy


class OpenAIASR:
    """A recogniser behind HTTP. Satisfies `ASRBackend`; may be called from any thread, also from several at once."""

    def __init__(self, config: ASRConfig) -> None:
        """Find the server and ask whether it has the model.

        Raises:
            FatalError: no server, no access, or no such model; the message says what to do.
        """
        self.config, self.remote = config, config.openai
        self.model = config.model
        self.revision = config.revision or "remote"
        self.cost = Cost()
        self._key = os.environ.get(self.remote.key_variable, "").strip()
        if not self._key.isascii() or not self._key.isprintable():
            raise FatalError(f"the key in the environment variable {self.remote.key_variable} has characters that no key has")
        self._verbose = True  # transcriptions: until the server refuses
        self._last_good = 0.0  # time of the loop
        self._not_before = 0.0  # when the server wants to be asked again
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openai-asr", daemon=True)
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

    def spent(self) -> dict[str, float]:
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
            headers={"authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=self.remote.timeout,
            verify=self.remote.base_url.startswith("https:"),  # without TLS no certificates have to be read
            limits=httpx2.Limits(max_connections=self.remote.concurrency, max_keepalive_connections=self.remote.concurrency),
        )

    async def _end(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if hasattr(self, "_client"):
            await self._client.aclose()

    async def _all(self, requests: list[SegmentRequest]) -> list[Hypothesis | Exception]:
        call = self._call(sum(request.duration for request in requests))
        room = asyncio.Semaphore(self.remote.concurrency)
        tasks = [asyncio.create_task(self._one(request, room, call)) for request in requests]
        try:
            results: list[Hypothesis | Exception] = list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if all(isinstance(result, RetryableError) for result in results):
            await self._must_be_there()
        return results

    def _call(self, duration: float) -> _Call:
        """One that begins now, with so many seconds of audio; its limit is that of a model call on a CPU, as no GPU of ours is in it."""
        begin = self._loop.time()
        return _Call(begin, begin + call_limit(self.config.timeout, False, duration))

    async def _one(self, request: SegmentRequest, room: asyncio.Semaphore, call: _Call) -> Hypothesis | Exception:
        async with room:
            try:
                return await self._persist(lambda: self._ask(request), call)
            except (RowError, RetryableError) as error:
                log.warning("a segment of %.1f s failed: %s", request.duration, error)
                return error

    async def _persist(self, attempt: Callable[[], Awaitable[T]], call: _Call) -> T:
        """Attempts until one succeeds, with exponential back-off and jitter, or as the server asks.

        Patience begins with the call, with each good answer, and with the end of a wait that the server asked for.

        Args:
            attempt: one of them.
            call: that it belongs to.

        Raises:
            RetryableError: `retries` or the patience are used up.
            FatalError: the server asks to wait for longer than the call may take, so whatever else it is asked must wait, too.
        """
        failures = tries = 0
        while True:
            await self._wait_as_asked(call)
            if self._patience_left(call) <= 0:
                raise self._given_up("it is not asked any more")
            try:
                self.cost.repeated += tries > 0
                answer = await attempt()
                self._last_good = self._loop.time()
                return answer
            except RowError:
                self._last_good = self._loop.time()  # it is there, and answers
                raise
            except _MayPass as error:
                tries += 1
                failures += not error.busy
                delay = min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(tries - 1, 16)) * random.uniform(0.5, 1.0)
                if error.wait is not None:
                    delay *= 0.1  # the rest of it is what the server asks for
                    self._not_before = max(self._not_before, self._loop.time() + error.wait)
                if failures > self.remote.retries or delay > self._patience_left(call):
                    raise self._given_up(f"after {tries} attempts, the last one: {error}") from None
                log.info("asking %s again in %.1f s: %s", self.remote.base_url, max(delay, error.wait or 0.0), error)
            await asyncio.sleep(delay)

    def _patience_left(self, call: _Call) -> float:
        """Seconds; what was waited because the server asked for it does not count."""
        return max(call.begin, self._last_good, self._not_before) + self.remote.patience - self._loop.time()

    async def _wait_as_asked(self, call: _Call) -> None:
        """Until the server wants to be asked again, and a little longer, so that not all come at once; with signs of life."""
        await asyncio.sleep(0)
        while (asked := self._not_before - self._loop.time()) > 0:
            if self._not_before > call.end:
                raise FatalError(
                    f"the recognition server at {self.remote.base_url} asks to wait for {asked:.0f} s, which goes beyond the "
                    f"{call.end - call.begin:.0f} s that a call may take (asr.timeout): start again when it is free",
                    "server_unavailable",
                )
            alive()
            await asyncio.sleep(min(asked * random.uniform(1.0, 1.1), _SIGN))

    def _given_up(self, why: str) -> RetryableError:
        return RetryableError(f"the recognition server at {self.remote.base_url} gave no good answer: {why}", "server_unavailable")

    async def _ask(self, request: SegmentRequest) -> Hypothesis:
        """One attempt to have a segment recognised."""
        budget = math.ceil(request.duration * self.config.max_tokens_per_second) + self.config.min_tokens
        endpoint, compatible = self.remote.endpoint, self.config.compatible
        verbose = self._verbose
        question = wire.question(request, endpoint, self.model, budget, compatible=compatible, verbose=verbose)
        self.cost.requests += 1
        self.cost.audio_seconds += request.duration
        answer = await self._send("POST", question.path, question)
        meaning, said = wire.meaning_of(answer.status, answer.data)
        if meaning == "refused" and endpoint == "transcriptions" and verbose and ("verbose_json" in said or "response_format" in said):
            self._verbose = False  # gpt-4o-transcribe and vLLM have no verbose_json for such models
            return await self._ask(request)
        if meaning == "fatal":
            raise FatalError(self._fatal(answer, said))
        if meaning == "refused":
            hint = ""
            if question.body and "continue_final_message" in question.body and ("continue_final_message" in said or "template" in said):
                hint = "; to force a language the server needs a chat template with assistant turns (vllm serve --chat-template), see the README"
            raise RowError(
                f"the recognition server refuses a segment of {request.duration:.1f} s: {self._safe(said)}{hint}", "model_failed"
            )
        if meaning != "fine":
            raise _MayPass(self._safe(said), wire.retry_after(answer.headers, datetime.now(UTC)), busy=meaning == "busy")
        try:
            content = wire.parsed(answer.data)
            hypothesis = wire.hypothesis(content, request, endpoint, compatible=compatible)
        except wire.Malformed as error:
            raise _MayPass(self._safe(str(error))) from None
        counted = wire.usage(content)
        self.cost.prompt_tokens += counted.prompt
        self.cost.completion_tokens += counted.completion
        return hypothesis

    async def _send(self, method: str, path: str, question: wire.Question | None = None) -> _Answer:
        content: dict[str, Any] = {}
        if question and question.body is not None:
            content = {"json": question.body}
        elif question:
            content = {"data": question.form, "files": {"file": ("segment.wav", question.file, "audio/wav")}}
        try:
            async with (
                asyncio.timeout(self.remote.timeout),
                self._client.stream(method, self.remote.base_url + path, **content) as response,
            ):
                data = bytearray()
                async for piece in response.aiter_bytes():
                    data += piece
                    if len(data) > MAX_ANSWER:
                        raise _MayPass(f"the answer is longer than {MAX_ANSWER >> 20} MiB")
                return _Answer(response.status_code, response.headers, bytes(data))
        except TimeoutError:
            raise _MayPass(f"no complete answer within {self.remote.timeout:g} s") from None
        except httpx2.HTTPError as error:
            raise _MayPass(f"{type(error).__name__}: {error}".rstrip(": ")) from None

    async def _check(self) -> None:
        """Raise FatalError where nothing can come of asking this server.

        It is asked about a moment of silence, too, for its list does not tell enough: some list nothing, some not all, and where an account
        is empty all that is listed is refused. Here, that costs the process alone; later, the shards that it has in hand are blamed.
        """
        offered: set[str] = set()
        silence = SegmentRequest(np.zeros(_PROBE, np.int16))
        try:
            offered = await self._persist(self._offered, self._call(0))
            await self._persist(lambda: self._ask(silence), self._call(silence.duration))
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
            log.warning("asked about silence, %s; it has the model, so speech may be another matter", error.message)

    async def _must_be_there(self) -> None:
        """Raise FatalError where the server is gone: segments are not lost to that, a new process waits for it."""
        try:
            await self._offered()
        except _MayPass as error:
            if not error.busy:
                gone = f"the recognition server at {self.remote.base_url} answers nothing any more: {error}; {_START}"
                raise FatalError(gone, "server_unavailable") from None

    async def _offered(self) -> set[str]:
        """Names of the server's models; none where it does not list them."""
        answer = await self._send("GET", "/models")
        meaning, said = wire.meaning_of(answer.status, answer.data)
        if answer.status in (401, 402, 403):
            raise FatalError(self._fatal(answer, said))
        if meaning in ("busy", "failing"):
            raise _MayPass(self._safe(said), wire.retry_after(answer.headers, datetime.now(UTC)), busy=meaning == "busy")
        if meaning != "fine":
            return set()
        try:
            entries = wire.parsed(answer.data).get("data")
        except wire.Malformed as error:
            raise _MayPass(self._safe(str(error))) from None
        return {str(entry.get("id")) for entry in entries if isinstance(entry, dict)} if isinstance(entries, list) else set()

    def _fatal(self, answer: _Answer, said: str) -> str:
        """What is wrong for every request, and what to do."""
        if answer.status in (401, 402, 403):
            variable = self.remote.key_variable
            key = f"the key in {variable} was sent" if self._key else f"no key was sent, as {variable} is not set in this process"
            todo = f"{key}; asr.openai.key_variable names the variable, and on a cluster it must be set on its nodes"
        elif 300 <= answer.status < 400:
            place = answer.headers.get("location", "").partition("?")[0]
            todo = f"it redirects to {place or 'nowhere'}: set asr.openai.base_url to where the server really is"
        else:
            todo = f"is {self.model!r} its name of the model (asr.model), and is asr.openai.base_url right, with its /v1?"
        return f"the recognition server at {self.remote.base_url} refuses every request: {self._safe(said)}; {todo}"

    def _safe(self, text: str) -> str:
        """What a server said, which may be long and repeat the key."""
        return (text.replace(self._key, "***") if self._key else text)[:_LONGEST]
