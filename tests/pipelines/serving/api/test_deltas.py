"""What streaming clients are told on the way: joined, it is the text of the answer in the end, whatever becomes of a segment."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import numpy as np
import pytest

from actors.config import AlignerConfig, ASRConfig
from actors.errors import RowError
from actors.records import Hypothesis, SegmentRequest
from pipelines.config import RunConfig
from pipelines.serving.api import chat_completions, transcriptions
from pipelines.serving.inference import partial_text
from pipelines.serving.inference.partial_text import PartialText, PartialTranscript
from tests.pipelines.serving.conftest import Served, data_uri, form, voice, wav

STEREO = np.stack([voice(45, 1), voice(45, 2)], axis=1)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """Three shards of two segments or more in each channel."""
    settings = {
        "asr": ASRConfig(backend="fake", model="fake"),
        "aligner": AlignerConfig(backend="fake", model="fake"),
        "audio": {"channel": "each"},
        "segmenter": {"max_duration": 10},
        "plan": {"shard_duration": 20},
        "serve": {"decoders": 1, "model_names": ["fake"]},
    }
    made = Served(RunConfig.model_validate(settings))
    yield made
    made.stop()


def events(body: bytes) -> list[Any]:
    lines = body.decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


def ask_form(served: Served, audio: bytes) -> tuple[str, str, str]:
    """The text at once, as deltas, and at the end of those."""
    whole = served.transcribe(audio)[2]["text"]
    kind, body = form({"model": "fake", "stream": "true"}, audio)
    told = events(served.ask("POST", "/v1/audio/transcriptions", body, Content_Type=kind)[2])
    return whole, "".join(event.get("delta", "") for event in told), told[-1]["text"]


def ask_chat(served: Served, audio: bytes) -> tuple[str, str]:
    """The answer at once, and as deltas."""
    question = {
        "model": "fake",
        "messages": [{"role": "user", "content": [{"type": "audio_url", "audio_url": data_uri(audio)}]}],
    }

    def ask(stream: bool) -> bytes:
        body = json.dumps({**question, "stream": stream}).encode()
        return served.ask("POST", "/v1/chat/completions", body, Content_Type="application/json")[2]

    told = [event["choices"][0] for event in events(ask(True))]
    assert told[-1]["finish_reason"] == "stop"
    return json.loads(ask(False))["choices"][0]["message"]["content"], "".join(
        choice["delta"].get("content", "") for choice in told
    )


@pytest.mark.parametrize("samples", [STEREO[:, 0], STEREO], ids=["one channel", "two channels"])
@pytest.mark.parametrize(
    "failing", [(), (0,), (1,), (0, 1, 2, 3)], ids=["none", "the first", "the second", "the first four"]
)
def test_deltas_are_the_text(
    served: Served, monkeypatch: pytest.MonkeyPatch, samples: np.ndarray, failing: tuple[int, ...]
) -> None:
    assert served.application.service is not None
    models, add_hypothesis = served.application.service.models, list[bytes]()
    recognise = models.recognise

    async def watched(request: SegmentRequest) -> Hypothesis:
        add_hypothesis.append(request.waveform.tobytes())
        return await recognise(request)

    async def unable(request: SegmentRequest) -> Hypothesis:
        if request.waveform.tobytes() in bad:
            raise RowError("this one fails", "model_failed")
        return await recognise(request)

    audio = wav(samples)
    monkeypatch.setattr(models, "recognise", watched)
    complete = served.transcribe(audio)[2]["text"]
    bad = [add_hypothesis[number] for number in failing]
    monkeypatch.setattr(models, "recognise", unable)
    whole, told, last = ask_form(served, audio)
    assert whole == told == last and (len(whole) < len(complete)) == bool(failing)
    answer, told = ask_chat(served, audio)
    assert answer == told == f"language English<asr_text>{whole}"


def segments(*times: tuple[float, float]) -> list[dict[str, Any]]:
    return [{"start": start, "end": end, "channel": None} for start, end in times]


def test_what_may_be_said_twice_is_not_told_before_that_is_known() -> None:
    told: list[PartialTranscript] = []
    partial_text = PartialText(2, told.append)
    partial_text.add_shard(segments((9.5, 15), (15, 20)), 1)
    partial_text.add_shard(segments((0, 5), (5, 10)), 0)
    for shard, number, text in ((1, 0, "c"), (1, 1, "d"), (0, 1, "b"), (0, 0, "a")):
        partial_text.add_hypothesis(shard, number, Hypothesis(text, "English"))
    assert told == [PartialTranscript("a b", "en")]


@pytest.mark.parametrize(
    ("told", "whole", "joined"),
    [("a", "a b", "a b"), ("", "a b", "a b"), ("a c", "a b", "a c"), ("a", "a", "a")],
)
def test_what_was_not_told_on_the_way_is_told_in_the_end(told: str, whole: str, joined: str) -> None:
    async def texts() -> AsyncGenerator[PartialTranscript | dict[str, Any] | None]:
        if told:
            yield PartialTranscript(told, "de")
        yield None
        yield {"text": whole, "language": "en", "duration": 1.0}

    async def collected(found: AsyncGenerator[bytes]) -> list[Any]:
        return events(b"".join([line async for line in found if not line.startswith(b":")]))

    order: Any = transcriptions.FormRequest(None, None, None, "json", (), True)  # type: ignore[arg-type]
    found = asyncio.run(collected(transcriptions._events(texts(), order)))
    assert "".join(event.get("delta", "") for event in found) == joined and found[-1]["text"] == whole
    question = chat_completions.ChatRequest("fake", None, None, True)
    chunks = [
        event["choices"][0]["delta"].get("content", "")
        for event in asyncio.run(collected(chat_completions._events(texts(), question, {})))
    ]
    # The tag that was told stands.
    assert "".join(chunks) == f"language {'German' if told else 'English'}<asr_text>{joined}"


def test_what_is_told_is_the_text_so_far_whatever_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(5)
    joined: list[int] = []
    join = partial_text.join_texts
    monkeypatch.setattr(
        partial_text, "join_texts", lambda segments: joined.append(len(segments)) or join(segments)
    )
    for _ in range(20):
        told: list[PartialTranscript] = []
        teller = PartialText(3, told.append)
        spans = [
            [(shard * 50.0 + number, shard * 50.0 + number + 1) for number in range(40)] for shard in range(3)
        ]
        texts = [
            [f"w{shard}.{number}" * int(random.integers(2)) for number in range(40)] for shard in range(3)
        ]
        todo = [(shard, number) for shard in range(3) for number in range(40)]
        random.shuffle(todo)
        for shard in random.permutation(3):
            teller.add_shard(
                [{"start": start, "end": end, "channel": None} for start, end in spans[shard]], int(shard)
            )
        for shard, number in todo:
            teller.add_hypothesis(shard, number, Hypothesis(texts[shard][number], "English"))
        whole = " ".join(text for shard in texts for text in shard if text)
        assert told[-1] == PartialTranscript(whole, "en") and all(whole.startswith(one.text) for one in told)
    assert max(joined) <= 2 and sum(joined) < 20 * 120 * 2  # each segment once
