"""The utterances of one stream to their text: of the one that goes on as far as it is known, of those that are over all of it, with words.

What is over goes before what goes on, everywhere: partial answers come last among what streams ask, none is asked for while the stream waits for
a whole one, and one that is not answered when its utterance ends is given up.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from actors.records import SAMPLING_RATE, Hypothesis, SegmentRequest
from actors.segmentation.endpointing import Ended, Endpointer, Partial
from actors.segmentation.energy import segment
from actors.text.languages import code_of, name_of
from pipelines.serving.inference.dynamic_batching import Rank
from pipelines.serving.realtime import events
from pipelines.serving.realtime.events import Event
from pipelines.serving.service import Service
from pipelines.serving.web.errors import Problem

log = logging.getLogger(__name__)

UNFINISHED = 4  # utterances of a stream that may wait for their text before its client is not read any longer
_REST = 3.0  # times as long as the latest partial answer took, no other one is asked for


@dataclass(eq=False)
class Utterance:
    """One stretch of speech. Language and context are those that held when it began."""

    item: str
    start: int  # samples of the stream
    language: str | None  # ISO code
    context: str
    partial: Partial = field(init=False)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.partial = Partial(name_of(self.language), self.context)


@dataclass(eq=False)
class _Over:
    """An utterance that is over, and its text on the way."""

    utterance: Utterance
    ended: Ended
    at: float  # monotonic seconds
    found: asyncio.Task[dict[str, Any]]


class Utterances:
    """Those of one stream.

    Args:
        service: the way to the models.
        tell: sends an event to the client.
    """

    def __init__(self, service: Service, tell: Callable[[Event], Awaitable[None]]) -> None:
        self._service, self._tell = service, tell
        self.current: Utterance | None = None
        self._over: asyncio.Queue[_Over | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(UNFINISHED)
        self._unfinished: set[asyncio.Task[dict[str, Any]]] = set()
        self._grown = asyncio.Event()

    def grow(self) -> None:
        """More audio has come."""
        self._grown.set()

    def drop(self) -> None:
        """Forget the current one."""
        if self.current is not None:
            self.current.over.set()
            self.current = None

    async def end(self, ended: Ended) -> None:
        """The current one is over. Waits while too many are unfinished: so the client is not read any further than the models can follow."""
        utterance = self.current
        assert utterance is not None
        self.drop()
        at = time.monotonic()
        await self._room.acquire()
        found = asyncio.create_task(self._finished(utterance, ended))
        self._unfinished.add(found)
        self._over.put_nowait(_Over(utterance, ended, at, found))

    def close(self) -> None:
        """No more will come: `finish` returns when it has told all."""
        self._over.put_nowait(None)

    async def follow(self, listener: Callable[[], Endpointer]) -> None:
        """Ask the model about the utterance that goes on, whenever there are two more seconds of it; one question at a time.

        Where answers take long, fewer are asked for.

        Args:
            listener: gives what hears the stream.
        """
        rest_until = 0.0
        while True:
            await self._grown.wait()
            self._grown.clear()
            utterance, asked = self.current, time.monotonic()
            if (
                utterance is None
                or self._unfinished
                or asked < rest_until
                or not utterance.partial.is_due(listener().length)
            ):
                continue
            hypothesis = await self._unless_over(utterance, utterance.partial.request(listener().window()))
            rest_until = time.monotonic() + _REST * (time.monotonic() - asked)
            if hypothesis is not None and utterance is self.current:
                added = utterance.partial.take(hypothesis)
                await self._tell_delta(utterance, added, utterance.partial.tail)
                self._grown.set()

    async def _unless_over(self, utterance: Utterance, request: SegmentRequest) -> Hypothesis | None:
        """A partial answer; None where there is none, or the utterance ended before it came."""
        asking = asyncio.create_task(self._service.models.recognise(request, Rank.PARTIAL))
        over = asyncio.create_task(utterance.over.wait())
        try:
            await asyncio.wait({asking, over}, return_when=asyncio.FIRST_COMPLETED)
            return asking.result() if asking.done() else None
        except Exception as error:  # the answer to the whole utterance may still come
            log.warning("a partial answer failed: %s", error)
            return None
        finally:
            asking.cancel()
            over.cancel()

    async def finish(self) -> None:
        """Tell the whole text and the words of utterances that are over, in their order."""
        try:
            while (over := await self._over.get()) is not None:
                await self._tell_whole(over)
                self._unfinished.discard(over.found)
                self._room.release()
                self._grown.set()
        finally:
            for found in self._unfinished:
                found.cancel()

    async def _tell_whole(self, over: _Over) -> None:
        utterance, ended = over.utterance, over.ended
        try:
            found = await over.found
        except Problem as problem:
            await self._tell(events.failed(utterance.item, problem))
            return
        except Exception as error:
            log.warning("an utterance failed", exc_info=error)
            code = getattr(error, "code", "internal_error")
            await self._tell(
                events.failed(
                    utterance.item, Problem(500, f"the utterance could not be transcribed: {code}", code)
                )
            )
            return
        text, shown = found["text"], utterance.partial.text
        if text.startswith(shown):
            await self._tell_delta(utterance, text[len(shown) :], "")
        await self._tell(
            events.completed(utterance.item, ended.start, ended.end, found, time.monotonic() - over.at)
        )

    async def _finished(self, utterance: Utterance, ended: Ended) -> dict[str, Any]:
        seconds = self._service.config.serve.timeout
        try:
            async with asyncio.timeout(seconds):
                return await finished(ended, utterance.language, utterance.context, self._service)
        except TimeoutError:
            raise Problem(504, f"the utterance was not finished within {seconds:g} s", "timeout") from None

    async def _tell_delta(self, utterance: Utterance, added: str, tail: str) -> None:
        if added or tail:
            await self._tell(events.delta(utterance.item, added, tail))


async def finished(ended: Ended, language: str | None, context: str, service: Service) -> dict[str, Any]:
    """The utterance as a segment: start, end, text, language, confidence, words; times in seconds of the stream.

    Args:
        ended: its audio.
        language: ISO code, to force it.
        context: background text.
        service: the way to the models.

    Raises:
        RowError: the model cannot do it.
    """
    hypothesis = await _heard(ended, language, context, service)
    text = hypothesis.text.strip()
    found = {
        "start": ended.start / SAMPLING_RATE,
        "end": ended.end / SAMPLING_RATE,
        "text": text,
        "language": code_of(hypothesis.language) if text else None,
        "confidence": hypothesis.confidence if text else None,
        "flags": [],
        "words": [],
    }
    if not text:
        return found
    aligned, error = await service.models.align({**found, "samples": ended.waveform.tobytes()}, Rank.FINAL)
    if error is not None:
        log.warning("no words for an utterance: %s", error)
    return aligned


async def _heard(ended: Ended, language: str | None, context: str, service: Service) -> Hypothesis:
    """What is said in it. Silence never reaches the model, which would invent text for it."""
    if not segment(ended.waveform, service.config.segmenter):
        return Hypothesis("", None)
    return await service.models.recognise(
        SegmentRequest(ended.waveform, name_of(language), context), Rank.FINAL
    )
