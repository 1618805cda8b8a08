"""Transcribes the utterances of one stream: partial text during an utterance, text with words at its end.

Finished utterances go before the current one everywhere. Partial requests have the lowest priority of all
requests of streams. None is sent while a finished utterance waits for its text, and one that is pending when
its utterance ends is cancelled.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

from actors.asr import recognised_fields
from actors.records import SAMPLING_RATE, Hypothesis, Row, SegmentRequest, SegmentRow
from actors.segmentation.endpointing import Endpointer, PartialHypothesis, UtteranceEnded
from actors.segmentation.energy import segment
from actors.text.languages import name_of
from pipelines.output import calibrations
from pipelines.serving.inference.dynamic_batching import Priority
from pipelines.serving.realtime import events
from pipelines.serving.realtime.events import Event
from pipelines.serving.service import Service
from pipelines.serving.web.errors import Problem

log = logging.getLogger(__name__)

# Utterances of a stream that may wait for their text before reading from the client pauses.
MAX_UNFINISHED = 4
# After a partial request, the next one waits for this multiple of its duration.
_PARTIAL_PAUSE = 3.0


@dataclass(eq=False)
class Utterance:
    """A span of speech. Language and context are the settings at its start."""

    item: str
    start: int  # samples of the stream
    language: str | None  # ISO code
    context: str
    partial: PartialHypothesis = field(init=False)
    finished: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.partial = PartialHypothesis(name_of(self.language), self.context)


@dataclass(eq=False)
class _Pending:
    """An utterance that has ended, and its pending transcript."""

    utterance: Utterance
    audio: UtteranceEnded
    ended_at: float  # monotonic seconds
    transcript: asyncio.Task[dict[str, Any]]


class Utterances:
    """The utterances of one stream.

    Args:
        service: the server's shared state.
        send: sends an event to the client.
    """

    def __init__(self, service: Service, send: Callable[[Event], Awaitable[None]]) -> None:
        self._service, self._send = service, send
        self.current: Utterance | None = None
        self._pending: asyncio.Queue[_Pending | None] = asyncio.Queue()
        self._capacity = asyncio.Semaphore(MAX_UNFINISHED)
        self._unfinished: set[asyncio.Task[dict[str, Any]]] = set()
        self._changed = asyncio.Event()

    def audio_arrived(self) -> None:
        """Consider a partial request, because the stream has more audio."""
        self._changed.set()

    def drop(self) -> None:
        """Discard the current utterance."""
        if self.current is not None:
            self.current.finished.set()
            self.current = None

    async def end(self, audio: UtteranceEnded) -> None:
        """End the current utterance.

        Waits while MAX_UNFINISHED utterances are unfinished, so that the client is not read faster than the
        models can follow.
        """
        utterance = self.current
        assert utterance is not None
        self.drop()
        ended_at = time.monotonic()
        await self._capacity.acquire()
        transcript = asyncio.create_task(self._transcribe(utterance, audio))
        self._unfinished.add(transcript)
        self._pending.put_nowait(_Pending(utterance, audio, ended_at, transcript))

    def close(self) -> None:
        """Announce the end of the stream: `send_transcripts` returns when it has sent all of them."""
        self._pending.put_nowait(None)

    async def send_partials(self, endpointer: Callable[[], Endpointer]) -> None:
        """Recognise the current utterance again for every two more seconds of it, one request at a time.

        Slow responses make requests less frequent.

        Args:
            endpointer: returns the endpointer of the stream.
        """
        paused_until = 0.0
        while True:
            await self._changed.wait()
            self._changed.clear()
            utterance, requested_at = self.current, time.monotonic()
            if (
                utterance is None
                or self._unfinished
                or requested_at < paused_until
                or not utterance.partial.is_due(endpointer().length)
            ):
                continue
            request = utterance.partial.request(endpointer().window())
            hypothesis = await self._recognise_partial(utterance, request)
            paused_until = time.monotonic() + _PARTIAL_PAUSE * (time.monotonic() - requested_at)
            if hypothesis is not None and utterance is self.current:
                added = utterance.partial.take(hypothesis)
                await self._send_delta(utterance, added, utterance.partial.tail)
                self._changed.set()

    async def _recognise_partial(self, utterance: Utterance, request: SegmentRequest) -> Hypothesis | None:
        """A partial hypothesis; None if it failed, or if the utterance ended first."""
        recognition = asyncio.create_task(self._service.models.recognise(request, Priority.PARTIAL))
        finished = asyncio.create_task(utterance.finished.wait())
        try:
            await asyncio.wait({recognition, finished}, return_when=asyncio.FIRST_COMPLETED)
            return recognition.result() if recognition.done() else None
        except Exception as error:  # the request for the whole utterance may still succeed
            log.warning("a partial request failed: %s", error)
            return None
        finally:
            recognition.cancel()
            finished.cancel()

    async def send_transcripts(self) -> None:
        """Send the transcripts of utterances that have ended, in order, until `close`."""
        try:
            while (pending := await self._pending.get()) is not None:
                await self._send_transcript(pending)
                self._unfinished.discard(pending.transcript)
                self._capacity.release()
                self._changed.set()
        finally:
            for transcript in self._unfinished:
                transcript.cancel()

    async def _send_transcript(self, pending: _Pending) -> None:
        utterance, audio = pending.utterance, pending.audio
        try:
            transcript = await pending.transcript
        except Problem as problem:
            await self._send(events.failed(utterance.item, problem))
            return
        except Exception as error:
            log.warning("an utterance failed", exc_info=error)
            code = getattr(error, "code", "internal_error")
            internal = Problem(500, f"the utterance could not be transcribed: {code}", code)
            await self._send(events.failed(utterance.item, internal))
            return
        text, sent = transcript["text"], utterance.partial.text
        if text.startswith(sent):
            await self._send_delta(utterance, text[len(sent) :], "")
        lag = time.monotonic() - pending.ended_at
        await self._send(events.completed(utterance.item, audio.start, audio.end, transcript, lag))

    async def _transcribe(self, utterance: Utterance, audio: UtteranceEnded) -> dict[str, Any]:
        timeout = self._service.config.serve.timeout
        try:
            async with asyncio.timeout(timeout):
                return await transcribe_utterance(audio, utterance.language, utterance.context, self._service)
        except TimeoutError:
            raise Problem(504, f"the utterance was not finished within {timeout:g} s", "timeout") from None

    async def _send_delta(self, utterance: Utterance, added: str, tail: str) -> None:
        if added or tail:
            await self._send(events.delta(utterance.item, added, tail))


async def transcribe_utterance(
    audio: UtteranceEnded, language: str | None, context: str, service: Service
) -> dict[str, Any]:
    """Transcribe an utterance.

    Args:
        audio: of the utterance.
        language: ISO code to force; None for detection.
        context: background text.
        service: the server's shared state.

    Returns:
        A segment: start, end, text, language, confidence, words; times are seconds of the stream.

    Raises:
        RowError: the model failed.
    """
    hypothesis = await _recognise(audio, language, context, service)
    recognised: Row = {
        "start": audio.start / SAMPLING_RATE,
        "end": audio.end / SAMPLING_RATE,
        **recognised_fields(hypothesis),
        "words": [],
    }
    if not recognised["text"]:
        return recognised
    request = cast(SegmentRow, {**recognised, "samples": audio.waveform.tobytes()})
    aligned, error = await service.models.align(request, Priority.FINAL)
    if error is not None:
        log.warning("an utterance has no words: %s", error)
    calibration = calibrations.read(service.config.asr)
    return calibration.apply(cast(Row, aligned)) if calibration else cast(Row, aligned)


async def _recognise(
    audio: UtteranceEnded, language: str | None, context: str, service: Service
) -> Hypothesis:
    """The hypothesis of an utterance. Silence is not sent to the model, which would hallucinate text."""
    if not segment(audio.waveform, service.config.segmenter):
        return Hypothesis("", None)
    request = SegmentRequest(audio.waveform, name_of(language), context)
    return await service.models.recognise(request, Priority.FINAL)
