"""The WebSocket at `/v1/realtime`: speech in, text as it is said out, in the shape of OpenAI's realtime transcription.

Three tasks a stream: one hears the client, one asks the model about the utterance that goes on, one finishes the utterances that are over. The
last two (`utterances.py`) share the models with all other streams and files. Where the models are slower than the client, the client is not read:
memory stays bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import soxr
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from actors.records import SAMPLING_RATE
from actors.segmentation.endpointing import Ended, Endpointer, Started
from pipelines.serving.realtime import events
from pipelines.serving.realtime.events import Event
from pipelines.serving.realtime.session import Session, described, event_of, first, samples_of, updated
from pipelines.serving.realtime.utterances import Utterance, Utterances
from pipelines.serving.service import Service
from pipelines.serving.web.errors import Problem, wrong

IDLE = 600.0  # seconds without a word from the client after which it is sent away
_GOING_AWAY, _IDLE_CODE = 1001, 1000
_REALTIME = "realtime"  # the subprotocol that browsers name beside their key


@dataclass
class _Stream:
    """One connection."""

    socket: WebSocket
    service: Service
    session: Session
    beta: bool
    listener: Endpointer = field(init=False)
    utterances: Utterances = field(init=False)
    resampler: Any = None
    last_item: str | None = None
    seconds_heard: float = 0.0

    def __post_init__(self) -> None:
        self.listener = Endpointer(self.session.turns)
        self.utterances = Utterances(self.service, self.tell)
        self._sending = asyncio.Lock()

    async def tell(self, event: Event) -> None:
        """Send an event.

        Raises:
            WebSocketDisconnect: nobody is there any more.
        """
        text = json.dumps({"event_id": f"event_{uuid.uuid4().hex[:20]}", **event}, ensure_ascii=False)
        async with self._sending:
            # Another task may have found it out while this one waited; Starlette takes a second attempt for a mistake of ours.
            if self.socket.application_state is not WebSocketState.CONNECTED:
                raise WebSocketDisconnect(1006)
            await self.socket.send_text(text)

    async def serve(self) -> None:
        """Until the client leaves, or the server ends."""
        await self._tell_session("created")
        async with asyncio.TaskGroup() as group:
            finish = group.create_task(self.utterances.finish())
            follow = group.create_task(self.utterances.follow(lambda: self.listener))
            try:
                await self._hear()
            except WebSocketDisconnect:  # nobody is left to tell
                finish.cancel()
                follow.cancel()
                return
            follow.cancel()
            await self._part(self._committed())
            self.utterances.close()

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
            event = event_of(message["text"])
            if not isinstance(event, dict) or not isinstance(event.get("type"), str):
                raise wrong("an event must be a JSON object with a `type`", code="invalid_event")
            await self._obey(event)
        except Problem as problem:
            await self.tell(events.error(problem, event.get("event_id") if isinstance(event, dict) else None))

    async def _obey(self, event: Event) -> None:
        kind = event["type"]
        if kind == "input_audio_buffer.append":
            await self._append(samples_of(event))
        elif kind == "input_audio_buffer.commit":
            parts = self._committed()
            if not any(isinstance(part, Ended) for part in parts):
                raise wrong(
                    "there is nothing to commit: no audio since the last utterance",
                    code="input_audio_buffer_commit_empty",
                )
            await self._part(parts)
        elif kind == "input_audio_buffer.clear":
            self._flush()  # what is forgotten has its time too: all times count from the beginning of the stream
            self.listener.clear()
            self.utterances.drop()
            await self.tell({"type": "input_audio_buffer.cleared"})
        elif kind in ("session.update", "transcription_session.update"):
            await self._update(event)
        else:
            raise wrong(f"there is no event {kind[:60]!r} here", "type", "unknown_event")

    async def _update(self, event: Event) -> None:
        before, self.session = self.session, updated(self.session, event, self.service)
        # Not the listener's position: the resampler may hold back all that has come.
        if before.rate != self.session.rate:
            if self.seconds_heard:
                self.session = before
                raise wrong("the rate cannot change once audio has come", "format.rate")
            self.resampler = None
        if before.turns != self.session.turns:
            if self.seconds_heard:
                self.session = before
                raise wrong("turn_detection cannot change once audio has come", "turn_detection")
            self.listener = Endpointer(self.session.turns)
        await self._tell_session("updated")

    async def _tell_session(self, what: str) -> None:
        name = f"transcription_session.{what}" if self.beta else f"session.{what}"
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
            await self._part(self.listener.feed(samples[place : place + SAMPLING_RATE]))
            self.utterances.grow()
            await asyncio.sleep(0)

    def _committed(self) -> list[Started | Ended]:
        """End the current utterance, with what the resampler holds back."""
        return self._flush() + self.listener.commit()

    def _flush(self) -> list[Started | Ended]:
        """Hear what the resampler holds back: what comes next has a resampler of its own."""
        if self.resampler is None:
            return []
        held_back = self.resampler.resample_chunk(np.zeros(0, np.int16), last=True)
        self.resampler = None
        return self.listener.feed(held_back)

    async def _part(self, parts: list[Any]) -> None:
        for part in parts:
            if isinstance(part, Started):
                await self._begun(part)
            else:
                await self._over(part)

    async def _begun(self, started: Started) -> None:
        context = self.session.prompt or self.service.config.asr.context
        utterance = Utterance(f"item_{uuid.uuid4().hex[:20]}", started.start, self.session.language, context)
        self.utterances.current = utterance
        if self.session.turns.detect:
            await self.tell(events.started(utterance.item, started.start))

    async def _over(self, ended: Ended) -> None:
        utterance = self.utterances.current
        if utterance is None:
            return
        if self.session.turns.detect:
            await self.tell(events.stopped(utterance.item, ended.end))
        await self.tell(events.committed(utterance.item, self.last_item))
        await self.tell(events.added(utterance.item, self.last_item, self.beta))
        self.last_item = utterance.item
        await self.utterances.end(ended)


async def realtime(socket: WebSocket, service: Service) -> None:
    """One connection, from its handshake to its end."""
    protocol = _REALTIME if _REALTIME in socket.scope.get("subprotocols", []) else None
    beta = socket.headers.get(
        "openai-beta"
    ) == "realtime=v1" or "openai-beta.realtime-v1" in socket.scope.get("subprotocols", [])
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
