"""Model requests for one stream, and the order of its events; the models respond when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from actors.aligner import without_words
from actors.config import ASRConfig
from actors.records import SAMPLING_RATE, Hypothesis, SegmentRequest
from actors.segmentation.endpointing import Endpointer, TurnDetection, UtteranceEnded
from pipelines.config import RunConfig
from pipelines.serving.inference.dynamic_batching import Priority
from pipelines.serving.realtime import utterances
from pipelines.serving.realtime.utterances import Utterance, Utterances
from tests.pipelines.serving.conftest import voice

FINAL, PARTIAL = Priority.FINAL, Priority.PARTIAL


async def run_pending_tasks() -> None:
    """Run all tasks until they wait for the test: nothing here waits for a thread or a clock."""
    for _ in range(100):
        await asyncio.sleep(0)


class ControlledModels:
    """Models whose responses the test sets, by the number of the request."""

    def __init__(self) -> None:
        self.requests: list[tuple[Priority, float]] = []
        self.responses: list[asyncio.Future[Hypothesis]] = []

    async def recognise(self, request: SegmentRequest, priority: Priority) -> Hypothesis:
        self.requests.append((priority, round(request.duration)))
        self.responses.append(asyncio.get_running_loop().create_future())
        return await self.responses[-1]

    async def align(self, segment: dict[str, Any], priority: Priority) -> tuple[dict[str, Any], None]:
        return without_words(segment), None

    def respond(self, number: int, text: str) -> None:
        self.responses[number].set_result(Hypothesis(text, "English", f"language English<asr_text>{text}"))


class Stream:
    """A stream without a socket."""

    def __init__(self) -> None:
        self.models = ControlledModels()
        self.events: list[dict[str, Any]] = []
        config = RunConfig.model_validate(
            {
                "asr": ASRConfig(backend="fake", model="fake"),
                "segmenter": {"max_duration": 15, "backend": "energy"},
            }
        )
        service: Any = SimpleNamespace(models=self.models, config=config)
        self.endpointer = Endpointer(TurnDetection(detect=False))
        self.utterances = Utterances(service, self._send)
        self._number = 0

    async def _send(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    async def speak(self, seconds: float) -> None:
        """Add speech."""
        if self.utterances.current is None:
            item = f"item {self._number}"
            self.utterances.current = Utterance(item, self.endpointer.position, "en", "")
            self._number += 1
        self.endpointer.feed(voice(seconds))
        self.utterances.audio_arrived()
        await run_pending_tasks()

    async def end(self) -> None:
        """End the current utterance."""
        (audio,) = self.endpointer.commit()
        await self.utterances.end(audio)
        await run_pending_tasks()

    def transcripts(self) -> list[str]:
        """The transcripts sent to the client."""
        return [event["transcript"] for event in self.events if event["type"].endswith("completed")]


def run(scenario: Callable[[Stream], Awaitable[None]]) -> Stream:
    """Run a scenario with the two tasks of a stream, and cancel these at its end."""

    async def main() -> Stream:
        stream = Stream()
        tasks = [
            asyncio.create_task(stream.utterances.send_partials(lambda: stream.endpointer)),
            asyncio.create_task(stream.utterances.send_transcripts()),
        ]
        await scenario(stream)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return stream

    return asyncio.run(main())


def test_a_pending_partial_request_is_cancelled_when_its_utterance_ends() -> None:
    async def scenario(stream: Stream) -> None:
        await stream.speak(2.2)
        await stream.end()
        assert stream.models.requests == [(PARTIAL, 2), (FINAL, 2)]
        assert stream.models.responses[0].cancelled()
        stream.models.respond(1, "all of it")
        await run_pending_tasks()
        assert stream.transcripts() == ["all of it"]
        assert [event["delta"] for event in stream.events if "delta" in event["type"]] == ["all of it"]

    run(scenario)


def test_no_partial_request_is_sent_while_an_utterance_is_unfinished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utterances, "_PARTIAL_PAUSE", 0.0)

    async def scenario(stream: Stream) -> None:
        await stream.speak(1)
        await stream.end()
        await stream.speak(2.2)
        await stream.speak(2.2)
        assert [priority for priority, _ in stream.models.requests] == [FINAL]
        stream.models.respond(0, "first")
        await run_pending_tasks()
        assert stream.models.requests[1:] == [(PARTIAL, 4)] and stream.transcripts() == ["first"]
        stream.models.respond(1, "second goes")
        await stream.speak(1)
        assert len(stream.models.requests) == 2
        await stream.speak(1.2)
        assert stream.models.requests[2:] == [(PARTIAL, 7)]

    run(scenario)


def test_final_requests_are_concurrent_and_limited_and_transcripts_are_in_order() -> None:
    async def scenario(stream: Stream) -> None:
        for _ in range(utterances.MAX_UNFINISHED):
            await stream.speak(1)
            await stream.end()
        priorities = [priority for priority, _ in stream.models.requests]
        assert priorities == [FINAL] * utterances.MAX_UNFINISHED
        await stream.speak(1)
        fifth = asyncio.create_task(stream.end())
        await run_pending_tasks()
        stream.models.respond(1, "1")
        await run_pending_tasks()
        assert stream.transcripts() == [] and not fifth.done()
        stream.models.responses[0].set_exception(ValueError("a defect"))
        await run_pending_tasks()
        assert stream.transcripts() == ["1"] and stream.events[0]["type"].endswith("failed")
        await fifth
        for number in (4, 3, 2):
            stream.models.respond(number, str(number))
        await run_pending_tasks()
        assert stream.transcripts() == ["1", "2", "3", "4"]

    run(scenario)


def test_a_stream_that_ends_cancels_its_requests() -> None:
    async def scenario(stream: Stream) -> None:
        await stream.speak(1)
        await stream.end()
        await stream.speak(3)

    stream = run(scenario)
    assert [response.cancelled() for response in stream.models.responses] == [True]


def test_silence_is_not_sent_to_the_model() -> None:
    async def scenario(stream: Stream) -> None:
        stream.utterances.current = Utterance("silent", 0, None, "")
        await stream.utterances.end(UtteranceEnded(1, 0, SAMPLING_RATE, np.zeros(SAMPLING_RATE, np.int16)))
        await run_pending_tasks()
        assert stream.models.requests == [] and stream.transcripts() == [""]

    run(scenario)
