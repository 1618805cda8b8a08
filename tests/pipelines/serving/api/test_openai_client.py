"""OpenAI's own client against the real application, with the fake models."""

import asyncio
import base64
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

from actors.asr import ASRActor
from actors.config import ASRConfig
from tests.pipelines.serving.conftest import Make, Served, data_uri, form, voice, wav


def client(served: Served, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0, timeout=30, **options)


def said(samples: np.ndarray) -> str:
    """What the job's recogniser says to one segment of these samples."""
    row = {
        "status": "ok",
        "language": None,
        "context": "",
        "segments": [{"start": 0.0, "samples": samples.tobytes()}],
    }
    return str(ASRActor(ASRConfig(backend="fake", model="fake"))([row])[0]["segments"][0]["text"])


def test_models(serve: Make) -> None:
    listed = client(serve()).models.list().data
    assert [model.id for model in listed] == ["fake"] and client(serve()).models.retrieve(
        "fake"
    ).owned_by == "scriptorium"
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt-9'"):
        client(serve()).models.retrieve("gpt-9")


def test_every_format(serve: Make) -> None:
    audio, ask = ("talk.wav", wav(voice(4))), client(serve()).audio.transcriptions.create
    text = said(voice(4))
    plain = ask(file=audio, model="fake")
    assert (
        plain.text == text
        and plain.usage is not None
        and plain.usage.type == "duration"
        and plain.usage.seconds == 4.0
    )
    assert ask(file=audio, model="fake", response_format="text") == text + "\n"
    verbose = ask(
        file=audio,
        model="fake",
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
        language="de",
        temperature=0,
    )
    assert (verbose.text, verbose.language, verbose.duration) == (text, "german", 4.0)
    assert verbose.words is not None and verbose.segments is not None
    assert [word.word for word in verbose.words] == text.split() and verbose.words[-1].end == 4.0
    segment = verbose.segments[0]
    assert (segment.id, segment.start, segment.end, segment.text) == (0, 0.0, 4.0, text)
    assert math.isclose(math.exp(segment.avg_logprob), segment.confidence, abs_tol=1e-3)  # type: ignore[attr-defined]
    only_words = ask(
        file=audio, model="fake", response_format="verbose_json", timestamp_granularities=["word"]
    )
    assert only_words.words and only_words.segments is None
    cues = list(srt.parse(ask(file=audio, model="fake", response_format="srt"), ignore_errors=False))
    assert " ".join(cue.content for cue in cues) == text
    lines = webvtt.from_buffer(io.StringIO(ask(file=audio, model="fake", response_format="vtt")))
    assert " ".join(cue.text for cue in lines) == text


def test_a_stream_of_deltas_is_the_text(serve: Make) -> None:
    served = serve()
    samples = np.concatenate(
        [np.concatenate([voice(8, seed), np.zeros(48_000, np.int16)]) for seed in range(5)]
    )
    whole = client(served).audio.transcriptions.create(file=("a.wav", wav(samples)), model="fake").text
    events = list(
        client(served).audio.transcriptions.create(file=("a.wav", wav(samples)), model="fake", stream=True)
    )
    deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
    assert "".join(deltas) == whole and len(deltas) > 1
    assert events[-1].type == "transcript.text.done" and events[-1].text == whole
    more: Any = list(
        client(served).audio.transcriptions.create(
            file=("a.wav", wav(samples)), model="fake", stream=True, response_format="verbose_json"
        )
    )[-1]
    assert more.text == whole and len(more.segments) == len(deltas)


def test_the_async_client_and_many_at_once(serve: Make) -> None:
    served = serve()

    async def main() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as ask:
            clips = [wav(voice(1 + number % 3, number)) for number in range(12)]
            answers = await asyncio.gather(
                *(ask.audio.transcriptions.create(file=("a.wav", clip), model="fake") for clip in clips)
            )
            return [answer.text for answer in answers]

    assert asyncio.run(main()) == [said(voice(1 + number % 3, number)) for number in range(12)]


def test_a_temperature_that_no_float_holds_is_wrong(serve: Make) -> None:
    body = (
        b'{"model": "fake", "messages": [{"role": "user", "content": "x"}], "temperature": 1'
        + b"0" * 400
        + b"}"
    )
    status, _, answer = serve().ask("POST", "/v1/chat/completions", body, Content_Type="application/json")
    assert (status, json.loads(answer)["error"]["param"]) == (400, "temperature")


def test_chat_with_audio(serve: Make) -> None:
    served, samples = serve(), voice(3)
    parts: list[Any] = [{"type": "audio_url", "audio_url": {"url": data_uri(wav(samples))}}]
    messages: list[Any] = [{"role": "system", "content": "names"}, {"role": "user", "content": parts}]
    answer = client(served).chat.completions.create(model="fake", messages=messages)
    assert answer.choices[0].message.content == f"language English<asr_text>{said(samples)}"
    spoken = {
        "type": "input_audio",
        "input_audio": {"data": base64.b64encode(wav(samples)).decode(), "format": "wav"},
    }
    chunks = list(
        client(served).chat.completions.create(
            model="fake", messages=[{"role": "user", "content": [spoken]}], stream=True
        )
    )  # type: ignore[list-item]
    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        == f"language English<asr_text>{said(samples)}"
    )
    assert chunks[-1].choices[0].finish_reason == "stop"
    silent: list[Any] = [
        {"type": "audio_url", "audio_url": {"url": data_uri(wav(np.zeros(32_000, np.int16)))}}
    ]
    nothing = client(served).chat.completions.create(
        model="fake", messages=[{"role": "user", "content": silent}]
    )
    assert nothing.choices[0].message.content == "language None<asr_text>"


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
        ({"prompt": "x" * 20_000}, "prompt"),
        ({"include[]": "logprobs"}, "include[]"),
        ({"model": ""}, "model"),
    ],
)
def test_what_cannot_be_is_said_with_the_field(serve: Make, fields: dict[str, str], param: str) -> None:
    status, _, body = serve().transcribe(wav(voice(1)), **fields)
    assert (status, body["error"]["param"], body["error"]["type"]) == (400, param, "invalid_request_error")


@pytest.mark.parametrize(
    "body",
    [
        '{"model": "\\ud800", "messages": []}',
        '{"model": "fake", "messages": [{"role": "system", "content": "\\udfff"}]}',
        '{"model": "fake", "messages": [{"role": "user", "content": [{"type": "audio_url", "audio_url": {"url": "data:,\\ud800"}}]}]}',
        '{"model": "fake", "messages": [{"role": "user", "content": [{"type": "audio_url", "audio_url": {"url": "http://\\ud800/"}}]}]}',
        '{"model": "fake", "messages": [{"role": "user", "content": [{"type": "audio_url", "audio_url": "data:audio/wav;base64,\\u00e9"}]}]}',
        '{"model": "fake", "messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": []}]}]}',
        '{"model": "fake", "messages": [{"role": "user", "content": [7]}]}',
        '{"model": "fake", "messages": [7], "temperature": NaN}',
        '{"model": ["fake"], "messages": {}}',
        '{"model": "fake", "messages": [{"role": {}, "content": {}}], "n": 2}',
        "[" * 200_000,
        "\x00",
        "",
    ],
    ids=lambda body: body[:40],
)
def test_a_chat_that_makes_no_sense_is_told_so(serve: Make, body: str) -> None:
    status, _, answer = serve().ask(
        "POST", "/v1/chat/completions", body.encode(), Content_Type="application/json"
    )
    assert status in (400, 404) and json.loads(answer)["error"]["type"] == "invalid_request_error"


def chat(served: Served, samples: np.ndarray, beginning: str | None, **fields: Any) -> tuple[int, Any]:
    """A chat about some audio; `beginning` is the last message, of the assistant."""
    messages: list[Any] = [
        {"role": "user", "content": [{"type": "audio_url", "audio_url": {"url": data_uri(wav(samples))}}]}
    ]
    messages += [{"role": "assistant", "content": beginning}] if beginning is not None else []
    body = json.dumps({"model": "fake", "messages": messages, **fields}).encode()
    status, _, answer = served.ask("POST", "/v1/chat/completions", body, Content_Type="application/json")
    return status, json.loads(answer)


def test_a_chat_goes_on_with_the_beginning_of_its_answer(serve: Make) -> None:
    served, samples = serve(), voice(4)
    text = said(samples)
    begun = " ".join(text.split()[:3])
    for beginning, fields, expected in (
        ("language German<asr_text>", {"continue_final_message": True, "add_generation_prompt": False}, text),
        ("language de<asr_text>", {}, text),
        (f"language German<asr_text>{begun}", {}, text[len(begun) :]),
        ("language German<asr_text>", {"continue_final_message": False}, f"language English<asr_text>{text}"),
        ("", {}, f"language English<asr_text>{text}"),
    ):
        status, answer = chat(served, samples, beginning, **fields)
        assert (status, answer["choices"][0]["message"]["content"]) == (200, expected), beginning
    several = np.concatenate([voice(9), np.zeros(48_000, np.int16), voice(9, 1)])
    assert chat(served, several, "language German<asr_text>")[0] == 200
    for sound, beginning, fields, code in (
        (several, f"language German<asr_text>{begun}", {}, "audio_in_pieces"),
        (samples, "Hello", {}, "invalid_value"),
        (samples, "language Klingon<asr_text>", {}, "unsupported_language"),
        (samples, "language None<asr_text>", {}, "invalid_value"),
        (samples, None, {"continue_final_message": True}, "invalid_value"),
        (samples, None, {"continue_final_message": "yes"}, "invalid_value"),
    ):
        status, answer = chat(served, sound, beginning, **fields)
        assert (status, answer["error"]["code"]) == (400, code), (beginning, answer)
    streamed: Any = [
        {"role": "user", "content": [{"type": "audio_url", "audio_url": {"url": data_uri(wav(samples))}}]},
        {"role": "assistant", "content": f"language German<asr_text>{begun}"},
    ]
    chunks = list(client(served).chat.completions.create(model="fake", messages=streamed, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text[len(begun) :]


def test_a_form_that_is_none(serve: Make) -> None:
    served = serve()
    for kind, body in (
        ("text/plain", b"hello"),
        ("multipart/form-data; boundary=x", b"--y\r\n"),
        ("multipart/form-data", b"abc"),
    ):
        assert served.ask("POST", "/v1/audio/transcriptions", body, Content_Type=kind)[0] == 400
    kind, body = form({"model": "fake"}, None)
    status, _, answer = served.ask("POST", "/v1/audio/transcriptions", body, Content_Type=kind)
    assert status == 400 and json.loads(answer)["error"]["param"] == "file"
    kind, body = form({"model": "fake", **{f"field{number}": "x" for number in range(100)}}, wav(voice(1)))
    assert served.ask("POST", "/v1/audio/transcriptions", body, Content_Type=kind)[0] == 400


def test_a_bad_file_has_its_code_and_no_path_of_ours(serve: Make) -> None:
    for audio, code in (
        (b"", "empty_file"),
        (b"hello there, this is no audio" * 50, "not_audio"),
        (wav(voice(0)), "no_samples"),
    ):
        status, _, body = serve().transcribe(audio)
        assert (status, body["error"]["code"]) == (400, code) and "/tmp" not in body["error"]["message"]


def test_too_much_audio_is_refused(serve: Make) -> None:
    status, _, body = serve(max_audio=5).transcribe(wav(voice(6)))
    assert (status, body["error"]["code"]) == (413, "audio_too_long")


def test_silence_has_no_text(serve: Make) -> None:
    status, _, body = serve().transcribe(wav(np.zeros(80_000, np.int16)), response_format="verbose_json")
    assert (status, body["text"], body["status"], body["language"]) == (200, "", "no_speech", "")


def test_a_full_house_says_when_to_come_back_and_a_client_who_leaves_frees_the_place(serve: Make) -> None:
    served = serve(cost="fake:0.5", max_requests=2)  # half a second for each second of audio
    service = served.application.service
    assert service is not None

    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as ask:
            slow = [
                asyncio.create_task(
                    ask.audio.transcriptions.create(file=("a.wav", wav(voice(14, n))), model="fake")
                )
                for n in range(2)
            ]
            while service.requests.admitted < 2:
                await asyncio.sleep(0.01)
            with pytest.raises(openai.InternalServerError) as caught:
                await ask.audio.transcriptions.create(file=("a.wav", wav(voice(1))), model="fake")
            assert caught.value.status_code == 503 and int(caught.value.response.headers["retry-after"]) > 0
            for task in slow:
                task.cancel()
            await asyncio.gather(*slow, return_exceptions=True)
            deadline = time.monotonic() + 10
            while service.requests.admitted and time.monotonic() < deadline:
                await asyncio.sleep(0.01)
            assert service.requests.admitted == 0 and service.uploads.names == []

    asyncio.run(main())


def test_a_client_who_leaves_a_stream_frees_the_place(serve: Make) -> None:
    served = serve(cost="fake:0.2", max_requests=3)
    service = served.application.service
    assert service is not None
    samples = np.concatenate(
        [np.concatenate([voice(3, seed), np.zeros(48_000, np.int16)]) for seed in range(9)]
    )
    with client(served).audio.transcriptions.create(
        file=("a.wav", wav(samples)), model="fake", stream=True
    ) as events:
        assert next(iter(events)).type == "transcript.text.delta"
        assert service.requests.admitted == 1
    deadline = time.monotonic() + 10
    while service.requests.admitted and time.monotonic() < deadline:
        time.sleep(0.01)
    assert service.requests.admitted == 0 and service.uploads.names == []


def test_a_failing_model_is_our_fault_and_a_failing_segment_its_own(serve: Make) -> None:
    status, _, body = serve().transcribe(wav(voice(2)), prompt="fault:raise")
    assert (status, body["error"]["code"]) == (
        500,
        "model_failed",
    ) and "the fault that was asked for" in body["error"]["message"]
