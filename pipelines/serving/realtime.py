"""The WebSocket at `/v1/realtime`: speech in, text as it is said out, in the shape of OpenAI's realtime transcription.

Three tasks a stream: one hears the client, one asks the model about the utterance that goes on, one finishes the utterances that are over. The
last two share the models with all other streams and files. Where the models are slower than the client, the client is not read: memory stays bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import soxr
from starlette.websockets import WebSocket, WebSocketDisconnect

from actors.languages import name_of
from actors.results import SAMPLING_RATE
from actors.streaming import Ended, Listener, Partial, Started
from pipelines.serving.problems import Problem, wrong
from pipelines.serving.service import Service
from pipelines.serving.session import Event, Session, described, error_event, first, samples_of, seconds, updated
from pipelines.serving.utterances import finished

log = logging.getLogger(__name__)

IDLE = 600.0  # seconds without a word from the client after which it is sent away
UNFINISHED = 4  # utterances of a stream that may wait to be finished before its client is not read any longer
_REST = 3.0  # times as long as the latest answer took, no other one is asked for
_PREFIX = "conversation.item.input_audio_transcription"
_GOING_AWAY, _TRY_LATER, _IDLE_CODE = 1001, 1013, 1000
_REALTIME = "realtime"  # the subprotocol that browsers name beside their key


@dataclass
class _Utterance:
    item: str
    partial: Partial
    start: int
    language: str | None
    prompt: str
    ended: Ended | None = None
    previous: str | None = None
    ended_at: float = 0.0  # monotonic seconds


@dataclass
class _Stream:
    """One connection."""

    socket: WebSocket
    service: Service
    session: Session
    beta: bool
    listener: Listener = field(init=False)
    resampler: Any = None
    current: _Utterance | None = None
    last_item: str | None = None
    seconds_heard: float = 0.0

    def __post_init__(self) -> None:
        self.listener = Listener(self.session.turns)
        self.finishing: asyncio.Queue[_Utterance | None] = asyncio.Queue()
        self.room = asyncio.Semaphore(UNFINISHED)
        self.grown = asyncio.Event()
        self._sending = asyncio.Lock()

    async def tell(self, event: Event) -> None:
        """Send an event."""
        text = json.dumps({"event_id": f"event_{uuid.uuid4().hex[:20]}", **event}, ensure_ascii=False)
        async with self._sending:
            await self.socket.send_text(text)

    async def serve(self) -> None:
        """Until the client leaves, or the server ends."""
        name = "transcription_session.created" if self.beta else "session.created"
        await self.tell({"type": name, "session": described(self.session, self.beta)})
        async with asyncio.TaskGroup() as group:
            finish, follow = group.create_task(self._finish()), group.create_task(self._follow())
            try:
                await self._hear()
            except WebSocketDisconnect:  # nobody is left to tell
                finish.cancel()
                follow.cancel()
                return
            follow.cancel()
            for ended in self.listener.commit():
                await self._over(ended)
            await self.finishing.put(None)

    async def _hear(self) -> None:
        """Read the client. Returns when the server is to end, or the client is silent for too long."""
        ending = asyncio.create_task(self.service.ending.wait())
        try:
            while True:
                coming = asyncio.create_task(self.socket.receive())
                await asyncio.wait({coming, ending}, timeout=IDLE, return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    coming.cancel()
                    return
                message = coming.result()
                if message["type"] == "websocket.disconnect":
                    raise WebSocketDisconnect(message.get("code", 1005))
                await self._answer(message)
        finally:
            ending.cancel()

    async def _answer(self, message: Any) -> None:
        """One message of the client. What is wrong with it is told, and the stream goes on."""
        event: Any = None
        try:
            if message.get("text") is None:
                raise wrong("messages must be text: JSON events with base64 audio")
            try:
                event = json.loads(message["text"])
            except (ValueError, RecursionError):
                raise wrong("the message is not JSON", code="invalid_json") from None
            if not isinstance(event, dict) or not isinstance(event.get("type"), str):
                raise wrong("an event must be a JSON object with a `type`", code="invalid_event")
            await self._obey(event)
        except Problem as problem:
            await self.tell(error_event(problem, event.get("event_id") if isinstance(event, dict) else None))

    async def _obey(self, event: Event) -> None:
        kind = event["type"]
        if kind == "input_audio_buffer.append":
            await self._append(samples_of(event))
        elif kind == "input_audio_buffer.commit":
            ended = self.listener.commit()
            if not ended:
                raise wrong("there is nothing to commit: no audio since the last utterance", code="input_audio_buffer_commit_empty")
            await self._events(ended)
        elif kind == "input_audio_buffer.clear":
            self.listener.clear()
            self.current = None
            await self.tell({"type": "input_audio_buffer.cleared"})
        elif kind in ("session.update", "transcription_session.update"):
            await self._update(event)
        else:
            raise wrong(f"there is no event {kind[:60]!r} here", "type", "unknown_event")

    async def _update(self, event: Event) -> None:
        before, self.session = self.session, updated(self.session, event, self.service)
        if before.rate != self.session.rate and self.listener.position:
            self.session = before
            raise wrong("the rate cannot change once audio has come", "format.rate")
        if before.turns != self.session.turns:
            if self.listener.position:
                self.session = before
                raise wrong("turn_detection cannot change once audio has come", "turn_detection")
            self.listener = Listener(self.session.turns)
        name = "transcription_session.updated" if self.beta else "session.updated"
        await self.tell({"type": name, "session": described(self.session, self.beta)})

    async def _append(self, samples: np.ndarray) -> None:
        rate = self.session.rate
        self.seconds_heard += len(samples) / rate
        if rate != SAMPLING_RATE:
            if self.resampler is None:
                self.resampler = soxr.ResampleStream(rate, SAMPLING_RATE, 1, dtype="int16", quality="HQ")
            samples = self.resampler.resample_chunk(samples)
        # A second at a time: what a client sends at once may hold many utterances.
        for place in range(0, len(samples), SAMPLING_RATE):
            await self._events(self.listener.feed(samples[place : place + SAMPLING_RATE]))
            self.grown.set()
            await asyncio.sleep(0)

    async def _events(self, events: list[Any]) -> None:
        for event in events:
            if isinstance(event, Started):
                await self._begun(event)
            else:
                await self._over(event)

    async def _begun(self, event: Started) -> None:
        item = f"item_{uuid.uuid4().hex[:20]}"
        language, prompt = self.session.language, self.session.prompt or self.service.config.asr.context
        self.current = _Utterance(item, Partial(name_of(language), prompt), event.start, language, prompt)
        if self.session.turns.detect:
            milliseconds = round(seconds(event.start) * 1000)
            await self.tell({"type": "input_audio_buffer.speech_started", "audio_start_ms": milliseconds, "item_id": item})

    async def _over(self, event: Ended) -> None:
        utterance, self.current = self.current, None
        if utterance is None:
            return
        utterance.ended, utterance.ended_at, utterance.previous = event, time.monotonic(), self.last_item
        self.last_item = utterance.item
        if self.session.turns.detect:
            milliseconds = round(seconds(event.end) * 1000)
            await self.tell({"type": "input_audio_buffer.speech_stopped", "audio_end_ms": milliseconds, "item_id": utterance.item})
        await self.tell({"type": "input_audio_buffer.committed", "item_id": utterance.item, "previous_item_id": utterance.previous})
        content = [{"type": "input_audio", "transcript": None}]
        item = {"id": utterance.item, "type": "message", "role": "user", "status": "completed", "content": content}
        name = "conversation.item.created" if self.beta else "conversation.item.added"
        await self.tell({"type": name, "previous_item_id": utterance.previous, "item": item})
        await self.room.acquire()
        self.finishing.put_nowait(utterance)

    async def _follow(self) -> None:
        """Ask the model about the utterance that goes on, whenever there are two more seconds of it; one question at a time.

        Where answers take long, fewer are asked for: what is over must not wait for what is only on its way.
        """
        rest_until = 0.0
        while True:
            await self.grown.wait()
            self.grown.clear()
            utterance = self.current
            asked = time.monotonic()
            if utterance is None or asked < rest_until or not utterance.partial.is_due(self.listener.length):
                continue
            try:
                hypothesis = await self.service.models.recognise(utterance.partial.request(self.listener.window()), urgent=True)
            except Exception as error:  # the answer to the whole utterance may still come
                log.warning("a partial answer failed: %s", error)
                continue
            rest_until = time.monotonic() + _REST * (time.monotonic() - asked)
            if utterance is self.current:
                added = utterance.partial.take(hypothesis)
                await self._delta(utterance, added, utterance.partial.tail)
                self.grown.set()

    async def _delta(self, utterance: _Utterance, added: str, tail: str) -> None:
        """What is settled by now; `unsettled`, which OpenAI's events have not, is what may follow."""
        if added or tail:
            await self.tell({"type": f"{_PREFIX}.delta", "item_id": utterance.item, "content_index": 0, "delta": added, "unsettled": tail})

    async def _finish(self) -> None:
        """Utterances that are over, one after the other: the whole text, and the words."""
        while (utterance := await self.finishing.get()) is not None:
            try:
                await self._complete(utterance)
            except Problem as problem:
                await self._failed(utterance, problem)
            except Exception as error:
                log.warning("an utterance failed", exc_info=error)
                code = getattr(error, "code", "internal_error")
                await self._failed(utterance, Problem(500, f"the utterance could not be transcribed: {code}", code))
            finally:
                self.room.release()

    async def _complete(self, utterance: _Utterance) -> None:
        ended = utterance.ended
        assert ended is not None
        async with asyncio.timeout(self.service.config.serve.timeout):
            found = await finished(ended, utterance.language, utterance.prompt, self.service)
        text = found["text"]
        shown = utterance.partial.text
        if text.startswith(shown) and len(text) > len(shown):
            await self._delta(utterance, text[len(shown) :], "")
        await self.tell(
            {
                "type": f"{_PREFIX}.completed",
                "item_id": utterance.item,
                "content_index": 0,
                "transcript": text,
                "languages": [{"code": found["language"]}] if found["language"] else [],
                "usage": {"type": "duration", "seconds": seconds(ended.end - ended.start)},
                # From here on what OpenAI's event has not; times in seconds of the stream.
                "start": seconds(ended.start),
                "end": seconds(ended.end),
                "language": found["language"],
                "confidence": found["confidence"],
                "words": [{"word": word["text"], "start": word["start"], "end": word["end"]} for word in found["words"]],
                "lag_ms": round((time.monotonic() - utterance.ended_at) * 1000),
            }
        )

    async def _failed(self, utterance: _Utterance, problem: Problem) -> None:
        await self.tell({"type": f"{_PREFIX}.failed", "item_id": utterance.item, "content_index": 0, "error": problem.body["error"]})


async def realtime(socket: WebSocket, service: Service) -> None:
    """One connection, from its handshake to its end."""
    protocol = _REALTIME if _REALTIME in socket.scope.get("subprotocols", []) else None
    beta = socket.headers.get("openai-beta") == "realtime=v1" or "openai-beta.realtime-v1" in socket.scope.get("subprotocols", [])
    stream: _Stream | None = None
    try:
        async with service.streams.take():
            session = first(service, socket.query_params.get("model"))
            await socket.accept(subprotocol=protocol)
            stream = _Stream(socket, service, session, beta)
            await stream.serve()
            with contextlib.suppress(RuntimeError):
                await socket.close(_GOING_AWAY if service.ending.is_set() else _IDLE_CODE)
    except* WebSocketDisconnect:
        pass
    finally:
        if stream is not None:
            socket.scope["facts"] |= {"audio_seconds": round(stream.seconds_heard, 3)}
