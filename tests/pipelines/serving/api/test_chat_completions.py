"""Chat completions with OpenAI's client and as raw requests, with the fake models."""

import base64
import json
from typing import Any

import numpy as np
import pytest

from tests.pipelines.serving.api.fake_text import fake_text
from tests.pipelines.serving.conftest import Make, Served, data_uri, openai_client, voice, wav


def audio_part(samples: np.ndarray) -> dict[str, Any]:
    return {"type": "audio_url", "audio_url": {"url": data_uri(wav(samples))}}


def test_a_chat_transcribes_its_audio(serve: Make) -> None:
    client, samples = openai_client(serve()), voice(3)
    messages: list[Any] = [
        {"role": "system", "content": "names"},
        {"role": "user", "content": [audio_part(samples)]},
    ]
    response = client.chat.completions.create(model="fake", messages=messages)
    assert response.choices[0].message.content == f"language English<asr_text>{fake_text(samples)}"


def test_a_streamed_chat_sends_the_same_text_in_chunks(serve: Make) -> None:
    client, samples = openai_client(serve()), voice(3)
    audio = {"data": base64.b64encode(wav(samples)).decode(), "format": "wav"}
    messages: list[Any] = [{"role": "user", "content": [{"type": "input_audio", "input_audio": audio}]}]
    chunks = list(client.chat.completions.create(model="fake", messages=messages, stream=True))
    content = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert content == f"language English<asr_text>{fake_text(samples)}"
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_silence_has_no_language_and_no_text(serve: Make) -> None:
    messages: list[Any] = [{"role": "user", "content": [audio_part(np.zeros(32_000, np.int16))]}]
    response = openai_client(serve()).chat.completions.create(model="fake", messages=messages)
    assert response.choices[0].message.content == "language None<asr_text>"


def test_a_temperature_that_overflows_a_float_is_400(serve: Make) -> None:
    body = (
        b'{"model": "fake", "messages": [{"role": "user", "content": "x"}], "temperature": 1'
        + b"0" * 400
        + b"}"
    )
    status, _, response = serve().ask("POST", "/v1/chat/completions", body, Content_Type="application/json")
    assert (status, json.loads(response)["error"]["param"]) == (400, "temperature")


def user_message(part: str) -> str:
    """A chat as JSON, with one content part."""
    return '{"model": "fake", "messages": [{"role": "user", "content": [' + part + "]}]}"


@pytest.mark.parametrize(
    "body",
    [
        '{"model": "\\ud800", "messages": []}',
        '{"model": "fake", "messages": [{"role": "system", "content": "\\udfff"}]}',
        user_message('{"type": "audio_url", "audio_url": {"url": "data:,\\ud800"}}'),
        user_message('{"type": "audio_url", "audio_url": {"url": "http://\\ud800/"}}'),
        user_message('{"type": "audio_url", "audio_url": "data:audio/wav;base64,\\u00e9"}'),
        user_message('{"type": "input_audio", "input_audio": []}'),
        user_message("7"),
        '{"model": "fake", "messages": [7], "temperature": NaN}',
        '{"model": ["fake"], "messages": {}}',
        '{"model": "fake", "messages": [{"role": {}, "content": {}}], "n": 2}',
        "[" * 200_000,
        "\x00",
        "",
    ],
    ids=lambda body: body[:40],
)
def test_an_invalid_chat_is_an_invalid_request(serve: Make, body: str) -> None:
    status, _, response = serve().ask(
        "POST", "/v1/chat/completions", body.encode(), Content_Type="application/json"
    )
    assert status in (400, 404) and json.loads(response)["error"]["type"] == "invalid_request_error"


def chat(served: Served, samples: np.ndarray, prefix: str | None, **fields: Any) -> tuple[int, Any]:
    """Send a chat about some audio; `prefix` is the final message, from the assistant."""
    messages: list[Any] = [{"role": "user", "content": [audio_part(samples)]}]
    messages += [{"role": "assistant", "content": prefix}] if prefix is not None else []
    return served.post_json("/v1/chat/completions", {"model": "fake", "messages": messages, **fields})


def test_the_response_continues_a_final_assistant_message(serve: Make) -> None:
    served, samples = serve(), voice(4)
    text = fake_text(samples)
    start = " ".join(text.split()[:3])
    for prefix, fields, expected in (
        ("language German<asr_text>", {"continue_final_message": True, "add_generation_prompt": False}, text),
        ("language de<asr_text>", {}, text),
        (f"language German<asr_text>{start}", {}, text[len(start) :]),
        ("language German<asr_text>", {"continue_final_message": False}, f"language English<asr_text>{text}"),
        ("", {}, f"language English<asr_text>{text}"),
    ):
        status, response = chat(served, samples, prefix, **fields)
        assert (status, response["choices"][0]["message"]["content"]) == (200, expected), prefix
    several = np.concatenate([voice(9), np.zeros(48_000, np.int16), voice(9, 1)])
    assert chat(served, several, "language German<asr_text>")[0] == 200
    for audio, prefix, fields, code in (
        (several, f"language German<asr_text>{start}", {}, "audio_in_pieces"),
        (samples, "Hello", {}, "invalid_value"),
        (samples, "language Klingon<asr_text>", {}, "unsupported_language"),
        (samples, "language None<asr_text>", {}, "invalid_value"),
        (samples, None, {"continue_final_message": True}, "invalid_value"),
        (samples, None, {"continue_final_message": "yes"}, "invalid_value"),
    ):
        status, response = chat(served, audio, prefix, **fields)
        assert (status, response["error"]["code"]) == (400, code), (prefix, response)
    messages: Any = [
        {"role": "user", "content": [audio_part(samples)]},
        {"role": "assistant", "content": f"language German<asr_text>{start}"},
    ]
    client = openai_client(served)
    chunks = list(client.chat.completions.create(model="fake", messages=messages, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text[len(start) :]
