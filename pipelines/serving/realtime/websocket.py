"""The WebSocket at `/v1/realtime`, compatible with OpenAI's realtime transcription.

Each stream has three tasks: one reads the client, one requests partial text of the current utterance, and one
sends the transcripts of finished utterances. The last two (`utterances.py`) share the models with all other
streams and files. If the models are slower than the client, reading from the client pauses, which bounds
memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import soxr
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from actors.records import SAMPLING_RATE
from actors.segmentation.endpointing import Endpointer, UtteranceEnded, UtteranceStarted
from pipelines.serving.realtime import events
from pipelines.serving.realtime.events import Event
from pipelines.serving.realtime.session import (
    Session,
    decode_audio,
    default_session,
    parse_event,
    session_fields,
    updated_session,
)
from pipelines.serving.realtime.utterances import Utterance, Utterances
from pipelines.serving.service import Service
from pipelines.serving.web.errors import Problem, bad_request
from pipelines.serving.web.tolerance import Tolerance

IDLE_TIMEOUT = 600.0  # seconds without a message from the client after which the stream is closed
_CLOSE_GOING_AWAY, _CLOSE_NORMAL = 1001, 1000
_SUBPROTOCOL = "realtime"  # sent by browsers next to their API key


class _Stream:
    """One connection."""

    def __init__(self, socket: WebSocket, service: Service, session: Session, beta: bool) -> None:
        self._socket, self._service, self._session, self._beta = socket, service, session, beta
        self._endpointer = Endpointer(session.turns)
        self._utterances = Utterances(service, self.send)
        self._resampler: Any = None
        self._last_item: str | None = None
        self._sending = asyncio.Lock()
        self.seconds_received = 0.0

    async def send(self, event: Event) -> None:
        """Send an event.

        Raises:
            WebSocketDisconnect: the client has disconnected.
        """
        text = json.dumps({"event_id": f"event_{uuid.uuid4().hex[:20]}", **event}, ensure_ascii=False)
        async with self._sending:
            # Another task may have seen the disconnect while this one waited; Starlette reports a second
            # attempt to send as a programming error.
            if self._socket.application_state is not WebSocketState.CONNECTED:
                raise WebSocketDisconnect(1006)
            await self._socket.send_text(text)

    async def serve(self) -> None:
        """Serve until the client disconnects or is idle for too long, or the server shuts down."""
        await self._send_session("created")
        async with asyncio.TaskGroup() as group:
            transcripts = group.create_task(self._utterances.send_transcripts())
            partials = group.create_task(self._utterances.send_partials(lambda: self._endpointer))
            try:
                await self._receive()
            except WebSocketDisconnect:
                transcripts.cancel()
                partials.cancel()
                return
            partials.cancel()
            await self._handle_endpoints(self._commit())
            self._utterances.close()

    async def _receive(self) -> None:
        """Read the client. Returns when the server shuts down or the client is idle for too long."""
        draining = asyncio.create_task(self._service.draining.wait())
        try:
            while True:
                receiving = asyncio.create_task(self._socket.receive())
                await asyncio.wait(
                    {receiving, draining}, timeout=IDLE_TIMEOUT, return_when=asyncio.FIRST_COMPLETED
                )
                if not receiving.done():
                    receiving.cancel()
                    return
                message = receiving.result()
                if message["type"] == "websocket.disconnect":
                    raise WebSocketDisconnect(message.get("code", 1005))
                await self._handle_message(message)
        finally:
            draining.cancel()

    async def _handle_message(self, message: Any) -> None:
        """Handle one message of the client. An invalid one is reported, and the stream continues."""
        event: Any = None
        try:
            if message.get("text") is None:
                raise bad_request("messages must be text: JSON events with base64 audio")
            event = parse_event(message["text"])
            if not isinstance(event, dict) or not isinstance(event.get("type"), str):
                raise bad_request("an event must be a JSON object with a `type`", code="invalid_event")
            await self._handle_event(event)
        except Problem as problem:
            await self.send(events.error(problem, event.get("event_id") if isinstance(event, dict) else None))

    async def _handle_event(self, event: Event) -> None:
        kind = event["type"]
        if kind == "input_audio_buffer.append":
            await self._append(decode_audio(event))
        elif kind == "input_audio_buffer.commit":
            endpoints = self._commit()
            if not any(isinstance(endpoint, UtteranceEnded) for endpoint in endpoints):
                raise bad_request(
                    "there is nothing to commit: no audio since the last utterance",
                    code="input_audio_buffer_commit_empty",
                )
            await self._handle_endpoints(endpoints)
        elif kind == "input_audio_buffer.clear":
            # The resampler is flushed so that discarded audio keeps its duration: times count from the
            # stream's start.
            self._flush_resampler()
            self._endpointer.clear()
            self._utterances.drop()
            await self.send({"type": "input_audio_buffer.cleared"})
        elif kind in ("session.update", "transcription_session.update"):
            await self._update_session(event)
        else:
            raise bad_request(f"unknown event type {kind[:60]!r}", "type", "unknown_event")

    async def _update_session(self, event: Event) -> None:
        tolerance = Tolerance(self._service.config.serve.lenient)
        session = updated_session(self._session, event, self._service, tolerance)
        # `seconds_received`, not the endpointer's position: the resampler may hold back everything received
        # so far.
        if session.rate != self._session.rate:
            if self.seconds_received:
                raise bad_request("the rate cannot change after the first audio", "format.rate")
            self._resampler = None
        if session.turns != self._session.turns:
            if self.seconds_received:
                raise bad_request("turn_detection cannot change after the first audio", "turn_detection")
            self._endpointer = Endpointer(session.turns)
        self._session = session
        # A stream has no headers left for warnings.
        warnings = {"warnings": tolerance.warnings} if tolerance.warnings else {}
        await self._send_session("updated", **warnings)

    async def _send_session(self, what: str, **extensions: Any) -> None:
        name = f"transcription_session.{what}" if self._beta else f"session.{what}"
        session = session_fields(self._session, self._beta)
        await self.send({"type": name, "session": session, **extensions})

    async def _append(self, samples: np.ndarray) -> None:
        rate = self._session.rate
        self.seconds_received += len(samples) / rate
        if rate != SAMPLING_RATE:
            if self._resampler is None:
                self._resampler = soxr.ResampleStream(rate, SAMPLING_RATE, 1, dtype="int16", quality="HQ")
            samples = self._resampler.resample_chunk(samples)
        # One second at a time: a single event may contain many utterances.
        for start in range(0, len(samples), SAMPLING_RATE):
            await self._handle_endpoints(self._endpointer.feed(samples[start : start + SAMPLING_RATE]))
            self._utterances.audio_arrived()
            await asyncio.sleep(0)

    def _commit(self) -> list[UtteranceStarted | UtteranceEnded]:
        """End the current utterance, including what the resampler holds back."""
        return self._flush_resampler() + self._endpointer.commit()

    def _flush_resampler(self) -> list[UtteranceStarted | UtteranceEnded]:
        """Feed what the resampler holds back to the endpointer. Later audio gets a new resampler."""
        if self._resampler is None:
            return []
        rest = self._resampler.resample_chunk(np.zeros(0, np.int16), last=True)
        self._resampler = None
        return self._endpointer.feed(rest)

    async def _handle_endpoints(self, endpoints: Sequence[UtteranceStarted | UtteranceEnded]) -> None:
        for endpoint in endpoints:
            if isinstance(endpoint, UtteranceStarted):
                await self._start_utterance(endpoint)
            else:
                await self._end_utterance(endpoint)

    async def _start_utterance(self, started: UtteranceStarted) -> None:
        context = self._session.prompt or self._service.config.asr.context
        item = f"item_{uuid.uuid4().hex[:20]}"
        self._utterances.current = Utterance(item, started.start, self._session.language, context)
        if self._session.turns.detect:
            await self.send(events.started(item, started.start))

    async def _end_utterance(self, audio: UtteranceEnded) -> None:
        utterance = self._utterances.current
        if utterance is None:
            return
        if self._session.turns.detect:
            await self.send(events.stopped(utterance.item, audio.end))
        await self.send(events.committed(utterance.item, self._last_item))
        await self.send(events.added(utterance.item, self._last_item, self._beta))
        self._last_item = utterance.item
        await self._utterances.end(audio)


async def serve_stream(socket: WebSocket, service: Service) -> None:
    """Serve one connection, from its handshake to its end."""
    subprotocols = socket.scope.get("subprotocols", [])
    protocol = _SUBPROTOCOL if _SUBPROTOCOL in subprotocols else None
    beta = socket.headers.get("openai-beta") == "realtime=v1" or "openai-beta.realtime-v1" in subprotocols
    stream: _Stream | None = None
    try:
        async with service.streams.admit():
            session = default_session(service, socket.query_params.get("model"))
            await socket.accept(subprotocol=protocol)
            stream = _Stream(socket, service, session, beta)
            await stream.serve()
            with contextlib.suppress(RuntimeError):
                await socket.close(_CLOSE_GOING_AWAY if service.draining.is_set() else _CLOSE_NORMAL)
    except* WebSocketDisconnect:
        pass
    finally:
        if stream is not None:
            socket.scope["log_fields"] |= {"audio_seconds": round(stream.seconds_received, 3)}
