"""Transcriptions with OpenAI's client and as raw forms, with the fake models."""

import asyncio
import io
import json
import math
import time
from typing import Any

import numpy as np
import openai
import pytest
import srt
import webvtt

from actors.records import Hypothesis, SegmentRequest
from pipelines.serving.service import Service
from tests.pipelines.serving.api.fake_text import fake_text
from tests.pipelines.serving.conftest import Make, Served, form, openai_client, voice, wav


def test_models_are_listed_and_described(serve: Make) -> None:
    client = openai_client(serve())
    assert [model.id for model in client.models.list().data] == ["fake"]
    assert client.models.retrieve("fake").owned_by == "scriptorium"
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt-9'"):
        client.models.retrieve("gpt-9")


def test_every_response_format_has_the_text(serve: Make) -> None:
    audio, create = ("talk.wav", wav(voice(4))), openai_client(serve()).audio.transcriptions.create
    text = fake_text(voice(4))
    plain = create(file=audio, model="fake")
    assert plain.text == text
    assert plain.usage is not None and plain.usage.type == "duration"
    assert plain.usage.seconds == 4.0
    assert create(file=audio, model="fake", response_format="text") == text + "\n"
    verbose = create(
        file=audio,
        model="fake",
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
        language="de",
        temperature=0,
    )
    assert (verbose.text, verbose.language, verbose.duration) == (text, "german", 4.0)
    assert verbose.words is not None and verbose.segments is not None
    assert [word.word for word in verbose.words] == text.split()
    assert verbose.words[-1].end == 4.0
    segment = verbose.segments[0]
    assert (segment.id, segment.start, segment.end, segment.text) == (0, 0.0, 4.0, text)
    assert math.isclose(math.exp(segment.avg_logprob), segment.confidence, abs_tol=1e-3)  # type: ignore[attr-defined]
    least = min(word.confidence for word in verbose.words)  # type: ignore[attr-defined]
    assert 0.9 <= least == segment.min_confidence <= 1  # type: ignore[attr-defined]
    only_words = create(
        file=audio, model="fake", response_format="verbose_json", timestamp_granularities=["word"]
    )
    assert only_words.words and only_words.segments is None
    cues = list(srt.parse(create(file=audio, model="fake", response_format="srt"), ignore_errors=False))
    assert " ".join(" ".join(cue.content for cue in cues).split()) == text
    lines = webvtt.from_buffer(io.StringIO(create(file=audio, model="fake", response_format="vtt")))
    assert " ".join(cue.text for cue in lines) == text


def test_streamed_deltas_are_the_text(serve: Make) -> None:
    create = openai_client(serve()).audio.transcriptions.create
    samples = np.concatenate(
        [np.concatenate([voice(8, seed), np.zeros(48_000, np.int16)]) for seed in range(5)]
    )
    audio = ("a.wav", wav(samples))
    text = create(file=audio, model="fake").text
    events = list(create(file=audio, model="fake", stream=True))
    deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
    assert "".join(deltas) == text and len(deltas) > 1
    assert events[-1].type == "transcript.text.done" and events[-1].text == text
    verbose: Any = list(create(file=audio, model="fake", stream=True, response_format="verbose_json"))[-1]
    assert verbose.text == text and len(verbose.segments) == len(deltas)


def test_concurrent_requests_get_their_own_texts(serve: Make) -> None:
    served = serve()

    async def main() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
            clips = [wav(voice(1 + number % 3, number)) for number in range(12)]
            responses = await asyncio.gather(
                *(client.audio.transcriptions.create(file=("a.wav", clip), model="fake") for clip in clips)
            )
            return [response.text for response in responses]

    assert asyncio.run(main()) == [fake_text(voice(1 + number % 3, number)) for number in range(12)]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": "0.7"}, "temperature"),
        ({"temperature": "warm"}, "temperature"),
        ({"language": "klingon"}, "language"),
        ({"response_format": "yaml"}, "response_format"),
        ({"timestamp_granularities[]": "word"}, "timestamp_granularities[]"),
        (
            {"response_format": "verbose_json", "timestamp_granularities[]": "phoneme"},
            "timestamp_granularities[]",
        ),
        ({"stream": "perhaps"}, "stream"),
        ({"stream": "true", "response_format": "srt"}, "stream"),
        ({"prompt": "x" * 50_000}, "prompt"),
        ({"include[]": "logprobs"}, "include[]"),
        ({"model": ""}, "model"),
    ],
)
def test_an_invalid_field_is_400_with_its_name(serve: Make, fields: dict[str, str], param: str) -> None:
    status, _, body = serve().transcribe(wav(voice(1)), **fields)
    assert (status, body["error"]["param"], body["error"]["type"]) == (400, param, "invalid_request_error")


def test_a_malformed_form_is_400(serve: Make) -> None:
    served, path = serve(), "/v1/audio/transcriptions"
    for content_type, body in (
        ("text/plain", b"hello"),
        ("multipart/form-data; boundary=x", b"--y\r\n"),
        ("multipart/form-data", b"abc"),
    ):
        assert served.ask("POST", path, body, Content_Type=content_type)[0] == 400
    content_type, body = form({"model": "fake"}, None)
    status, _, response = served.ask("POST", path, body, Content_Type=content_type)
    assert status == 400 and json.loads(response)["error"]["param"] == "file"
    fields: dict[str, str | list[str]] = {f"field{number}": "x" for number in range(100)}
    content_type, body = form({"model": "fake", **fields}, wav(voice(1)))
    assert served.ask("POST", path, body, Content_Type=content_type)[0] == 400


def test_a_bad_file_has_its_error_code_and_no_server_path(serve: Make) -> None:
    for audio, code in (
        (b"", "empty_file"),
        (b"hello there, this is no audio" * 50, "not_audio"),
        (wav(voice(0)), "no_samples"),
    ):
        status, _, body = serve().transcribe(audio)
        assert (status, body["error"]["code"]) == (400, code)
        assert "/tmp" not in body["error"]["message"]


def test_audio_above_the_limit_is_413(serve: Make) -> None:
    status, _, body = serve(max_audio=5).transcribe(wav(voice(6)))
    assert (status, body["error"]["code"]) == (413, "audio_too_long")


def test_silence_has_no_text(serve: Make) -> None:
    status, _, body = serve().transcribe(wav(np.zeros(80_000, np.int16)), response_format="verbose_json")
    assert (status, body["text"], body["status"], body["language"]) == (200, "", "no_speech", "")


def service_of(served: Served) -> Service:
    assert served.application.service is not None
    return served.application.service


def test_a_full_server_is_503_and_cancelled_requests_leave_nothing(serve: Make) -> None:
    served = serve(cost="fake:0.5", max_requests=2)  # half a second for each second of audio
    service = service_of(served)

    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
            create = client.audio.transcriptions.create
            slow = [
                asyncio.create_task(create(file=("a.wav", wav(voice(14, number))), model="fake"))
                for number in range(2)
            ]
            while service.requests.admitted < 2:
                await asyncio.sleep(0.01)
            with pytest.raises(openai.InternalServerError) as caught:
                await create(file=("a.wav", wav(voice(1))), model="fake")
            assert caught.value.status_code == 503 and int(caught.value.response.headers["retry-after"]) > 0
            for task in slow:
                task.cancel()
            await asyncio.gather(*slow, return_exceptions=True)
            deadline = time.monotonic() + 60
            while service.requests.admitted and time.monotonic() < deadline:
                await asyncio.sleep(0.01)
            assert service.requests.admitted == 0 and service.uploads.names == []

    asyncio.run(main())


def test_a_client_that_leaves_a_stream_leaves_nothing(serve: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    served = serve(max_requests=3)
    service = service_of(served)
    recognise, requests = service.models.recognise, list[SegmentRequest]()

    async def recognise_only_the_first(request: SegmentRequest) -> Hypothesis:
        requests.append(request)
        if len(requests) > 1:
            await asyncio.Event().wait()
        return await recognise(request)

    monkeypatch.setattr(service.models, "recognise", recognise_only_the_first)
    samples = np.concatenate(
        [np.concatenate([voice(3, seed), np.zeros(48_000, np.int16)]) for seed in range(9)]
    )
    with openai_client(served).audio.transcriptions.create(
        file=("a.wav", wav(samples)), model="fake", stream=True
    ) as events:
        assert next(iter(events)).type == "transcript.text.delta"
        assert service.requests.admitted == 1
    deadline = time.monotonic() + 60
    while service.requests.admitted and time.monotonic() < deadline:
        time.sleep(0.01)
    assert service.requests.admitted == 0 and service.uploads.names == []


def test_a_failing_model_is_500(serve: Make) -> None:
    status, _, body = serve().transcribe(wav(voice(2)), prompt="fault:raise")
    assert (status, body["error"]["code"]) == (500, "model_failed")
    assert "fault" in body["error"]["message"]
