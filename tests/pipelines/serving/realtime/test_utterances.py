"""What is asked of the models about one stream, and in which order its client is told: the models answer when the test says so."""

from __future__ import annotations

import asyncio
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

RATE = SAMPLING_RATE


async def settled() -> None:
    """Everything has run that can: nothing here waits for a thread or a clock."""
    for _ in range(100):
        await asyncio.sleep(0)


class Slow:
    """Models whose answers wait to be let go, by their number."""

    def __init__(self) -> None:
        self.asked: list[tuple[Priority, float]] = []
        self.answers: list[asyncio.Future[Hypothesis]] = []

    async def recognise(self, request: SegmentRequest, priority: Priority) -> Hypothesis:
        self.asked.append((priority, round(request.duration)))
        self.answers.append(asyncio.get_running_loop().create_future())
        return await self.answers[-1]

    async def align(self, segment: dict[str, Any], priority: Priority) -> tuple[dict[str, Any], None]:
        return without_words(segment), None

    def answer(self, number: int, text: str) -> None:
        self.answers[number].set_result(Hypothesis(text, "English", f"language English<asr_text>{text}"))


class Stream:
    """A stream without a socket."""

    def __init__(self) -> None:
        self.models, self.told = Slow(), []  # type: Slow, list[dict[str, Any]]
        config = RunConfig.model_validate(
            {"asr": ASRConfig(backend="fake", model="fake"), "segmenter": {"max_duration": 15}}
        )
        service: Any = SimpleNamespace(models=self.models, config=config)
        self.listener = Endpointer(TurnDetection(detect=False))
        self.all = Utterances(service, self._tell)
        self.number = 0

    async def _tell(self, event: dict[str, Any]) -> None:
        self.told.append(event)

    async def hear(self, seconds: float) -> None:
        """Speech."""
        if self.all.current is None:
            self.all.current = Utterance(f"item {self.number}", self.listener.position, "en", "")
            self.number += 1
        self.listener.feed(voice(seconds))
        self.all.audio_arrived()
        await settled()

    async def end(self) -> None:
        """The utterance is over."""
        (ended,) = self.listener.commit()
        await self.all.end(ended)
        await settled()

    def texts(self) -> list[str]:
        """Of the utterances that the client was told all about."""
        return [event["transcript"] for event in self.told if event["type"].endswith("completed")]


def run(scene: Any) -> None:
    async def main() -> None:
        stream = Stream()
        tasks = [
            asyncio.create_task(stream.all.send_partials(lambda: stream.listener)),
            asyncio.create_task(stream.all.send_transcripts()),
        ]
        await scene(stream)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())


def test_a_partial_answer_is_given_up_when_its_utterance_ends() -> None:
    async def scene(stream: Stream) -> None:
        await stream.hear(2.2)
        await stream.end()
        assert stream.models.asked == [(Priority.PARTIAL, 2), (Priority.FINAL, 2)]
        assert stream.models.answers[0].cancelled()
        stream.models.answer(1, "all of it")
        await settled()
        assert stream.texts() == ["all of it"]
        assert [event["delta"] for event in stream.told if "delta" in event["type"]] == ["all of it"]

    run(scene)


def test_nothing_partial_is_asked_while_the_stream_is_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utterances, "_REST", 0.0)

    async def scene(stream: Stream) -> None:
        await stream.hear(1)
        await stream.end()
        await stream.hear(2.2)
        await stream.hear(2.2)
        assert [priority for priority, _ in stream.models.asked] == [Priority.FINAL]
        stream.models.answer(0, "first")
        await settled()
        assert stream.models.asked[1:] == [(Priority.PARTIAL, 4)] and stream.texts() == ["first"]
        stream.models.answer(1, "second goes")
        await stream.hear(1)
        assert len(stream.models.asked) == 2
        await stream.hear(1.2)
        assert stream.models.asked[2:] == [(Priority.PARTIAL, 7)]

    run(scene)


def test_whole_texts_are_asked_for_at_once_and_told_in_order_and_too_many_hold_the_client() -> None:
    async def scene(stream: Stream) -> None:
        for _ in range(utterances.MAX_UNFINISHED):
            await stream.hear(1)
            await stream.end()
        assert [priority for priority, _ in stream.models.asked] == [
            Priority.FINAL
        ] * utterances.MAX_UNFINISHED
        await stream.hear(1)
        held = asyncio.create_task(stream.end())
        await settled()
        stream.models.answer(1, "1")
        await settled()
        assert stream.texts() == [] and not held.done()
        stream.models.answers[0].set_exception(ValueError("a defect"))
        await settled()
        assert stream.texts() == ["1"] and stream.told[0]["type"].endswith("failed")
        await held
        for number in (4, 3, 2):
            stream.models.answer(number, str(number))
        await settled()
        assert stream.texts() == ["1", "2", "3", "4"]

    run(scene)


def test_who_leaves_asks_nothing_any_more() -> None:
    async def scene(stream: Stream) -> None:
        await stream.hear(1)
        await stream.end()
        await stream.hear(3)

    stream: list[Stream] = []

    async def watched(one: Stream) -> None:
        stream.append(one)
        await scene(one)

    run(watched)
    assert [answer.cancelled() for answer in stream[0].models.answers] == [True]


def test_silence_is_not_asked_about() -> None:
    async def scene(stream: Stream) -> None:
        stream.all.current = Utterance("silent", 0, None, "")
        await stream.all.end(UtteranceEnded(1, 0, RATE, np.zeros(RATE, np.int16)))
        await settled()
        assert stream.models.asked == [] and stream.texts() == [""]

    run(scene)
