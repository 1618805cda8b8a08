"""Streamed text: the deltas joined are the final text, also if segments fail."""

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
from pipelines.serving.api.chat_request import ChatRequest
from pipelines.serving.inference import partial_text
from pipelines.serving.inference.partial_text import PartialText, PartialTranscript
from tests.pipelines.serving.conftest import Served, data_uri, form, voice, wav

STEREO = np.stack([voice(45, 1), voice(45, 2)], axis=1)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """A server with settings for which STEREO has three shards with at least two segments per channel."""
    settings = {
        "asr": ASRConfig(backend="fake", model="fake"),
        "aligner": AlignerConfig(backend="fake", model="fake"),
        "audio": {"channel": "each"},
        "segmenter": {"max_duration": 10, "backend": "energy"},
        "plan": {"shard_duration": 20},
        "serve": {"decoders": 1, "model_names": ["fake"]},
    }
    running = Served(RunConfig.model_validate(settings))
    yield running
    running.stop()


def parse_events(body: bytes) -> list[Any]:
    lines = body.decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


def transcribe(served: Served, audio: bytes) -> tuple[str, str, str]:
    """The text without streaming, the joined deltas, and the text in the last event."""
    whole = served.transcribe(audio)[2]["text"]
    content_type, body = form({"model": "fake", "stream": "true"}, audio)
    events = parse_events(served.ask("POST", "/v1/audio/transcriptions", body, Content_Type=content_type)[2])
    return whole, "".join(event.get("delta", "") for event in events), events[-1]["text"]


def chat(served: Served, audio: bytes) -> tuple[str, str]:
    """The content without streaming, and the joined deltas."""
    part = {"type": "audio_url", "audio_url": data_uri(audio)}
    messages = [{"role": "user", "content": [part]}]

    def ask(stream: bool) -> bytes:
        body = json.dumps({"model": "fake", "messages": messages, "stream": stream}).encode()
        return served.ask("POST", "/v1/chat/completions", body, Content_Type="application/json")[2]

    choices = [event["choices"][0] for event in parse_events(ask(True))]
    assert choices[-1]["finish_reason"] == "stop"
    streamed = "".join(choice["delta"].get("content", "") for choice in choices)
    return json.loads(ask(False))["choices"][0]["message"]["content"], streamed


@pytest.mark.parametrize("samples", [STEREO[:, 0], STEREO], ids=["one channel", "two channels"])
@pytest.mark.parametrize(
    "failing", [(), (0,), (1,), (0, 1, 2, 3)], ids=["none", "the first", "the second", "the first four"]
)
def test_joined_deltas_are_the_text_also_if_segments_fail(
    served: Served, monkeypatch: pytest.MonkeyPatch, samples: np.ndarray, failing: tuple[int, ...]
) -> None:
    assert served.application.service is not None
    models, waveforms = served.application.service.models, list[bytes]()
    recognise = models.recognise

    async def recording(request: SegmentRequest) -> Hypothesis:
        waveforms.append(request.waveform.tobytes())
        return await recognise(request)

    async def failing_recognise(request: SegmentRequest) -> Hypothesis:
        if request.waveform.tobytes() in bad:
            raise RowError("this segment fails", "model_failed")
        return await recognise(request)

    audio = wav(samples)
    monkeypatch.setattr(models, "recognise", recording)
    complete = served.transcribe(audio)[2]["text"]
    bad = [waveforms[number] for number in failing]
    monkeypatch.setattr(models, "recognise", failing_recognise)
    whole, streamed, last = transcribe(served, audio)
    assert whole == streamed == last
    assert (len(whole) < len(complete)) == bool(failing)
    content, streamed = chat(served, audio)
    assert content == streamed == f"language English<asr_text>{whole}"


def segments(*times: tuple[float, float]) -> list[dict[str, Any]]:
    return [{"start": start, "end": end, "channel": None} for start, end in times]


def test_text_of_overlapping_shards_is_not_emitted_before_it_is_known() -> None:
    emitted: list[PartialTranscript] = []
    collector = PartialText(2, emitted.append)
    collector.add_shard(segments((9.5, 15), (15, 20)), 1)
    collector.add_shard(segments((0, 5), (5, 10)), 0)
    for shard, number, text in ((1, 0, "c"), (1, 1, "d"), (0, 1, "b"), (0, 0, "a")):
        collector.add_hypothesis(shard, number, Hypothesis(text, "English"))
    assert emitted == [PartialTranscript("a b", "en")]


@pytest.mark.parametrize(
    ("partial", "whole", "joined"),
    [("a", "a b", "a b"), ("", "a b", "a b"), ("a c", "a b", "a c"), ("a", "a", "a")],
)
def test_the_last_delta_completes_the_text(partial: str, whole: str, joined: str) -> None:
    async def texts() -> AsyncGenerator[PartialTranscript | dict[str, Any] | None]:
        if partial:
            yield PartialTranscript(partial, "de")
        yield None
        yield {"text": whole, "language": "en", "duration": 1.0}

    async def collect(stream: AsyncGenerator[bytes]) -> list[Any]:
        return parse_events(b"".join([line async for line in stream if not line.startswith(b":")]))

    form_request: Any = transcriptions.FormRequest(None, None, None, "json", (), True)  # type: ignore[arg-type]
    events = asyncio.run(collect(transcriptions._events(texts(), form_request)))
    assert "".join(event.get("delta", "") for event in events) == joined and events[-1]["text"] == whole
    chat_request = ChatRequest("fake", None, None, True)
    chunks = asyncio.run(collect(chat_completions._events(texts(), chat_request, {})))
    content = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    # A language tag that has been sent is not changed.
    assert content == f"language {'German' if partial else 'English'}<asr_text>{joined}"


def test_emitted_text_is_a_prefix_in_any_order_and_each_segment_is_joined_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(5)
    joined: list[int] = []
    join = partial_text.join_texts
    monkeypatch.setattr(partial_text, "join_texts", lambda parts: joined.append(len(parts)) or join(parts))
    for _ in range(20):
        emitted: list[PartialTranscript] = []
        collector = PartialText(3, emitted.append)
        spans = [
            [(shard * 50.0 + number, shard * 50.0 + number + 1) for number in range(40)] for shard in range(3)
        ]
        texts = [
            [f"w{shard}.{number}" * int(random.integers(2)) for number in range(40)] for shard in range(3)
        ]
        order = [(shard, number) for shard in range(3) for number in range(40)]
        random.shuffle(order)
        for shard in random.permutation(3):
            collector.add_shard(segments(*spans[shard]), int(shard))
        for shard, number in order:
            collector.add_hypothesis(shard, number, Hypothesis(texts[shard][number], "English"))
        whole = " ".join(text for shard in texts for text in shard if text)
        assert emitted[-1] == PartialTranscript(whole, "en")
        assert all(whole.startswith(partial.text) for partial in emitted)
    assert max(joined) <= 2 and sum(joined) < 20 * 120 * 2


def test_progress_is_streamed_where_it_is_asked_for(served: Served) -> None:
    audio = wav(np.concatenate([voice(14), np.zeros(16_000, np.int16), voice(14, 1)]))
    asked: dict[str, str] = {"stream": "true", "include[]": "progress"}
    lines = served.transcribe(audio, **asked)[2].decode().split("\n")
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    progress = [event for event in events if event["type"] == "transcript.progress"]
    done = [event["seconds"] for event in progress]
    assert done == sorted(done) and len(done) >= 2
    assert done[-1] == pytest.approx(29, abs=0.1)
    assert {event["duration"] for event in progress} == {29}
    assert b"transcript.progress" not in served.transcribe(audio, stream="true")[2]
