"""Clients that cannot be changed: names of the model, prompts that are too long, and `serve.lenient`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from websockets.sync.client import connect

from pipelines.config import RunConfig
from pipelines.serving.service import OPENAI_MODELS
from pipelines.serving.web.tolerance import WARNING_HEADER, Tolerance
from tests.pipelines.serving.api.fake_text import fake_text
from tests.pipelines.serving.conftest import Make, data_uri, voice, wav

AUDIO, TEXT = wav(voice(2)), fake_text(voice(2))


def chat(**fields: Any) -> dict[str, Any]:
    part = {"type": "audio_url", "audio_url": {"url": data_uri(AUDIO)}}
    return {"model": "fake", "messages": [{"role": "user", "content": [part]}], **fields}


@pytest.mark.parametrize("name", OPENAI_MODELS)
def test_the_names_of_openai_are_accepted_by_default(serve: Make, name: str) -> None:
    served = serve(model_names=[])
    assert served.transcribe(AUDIO, model=name)[2]["text"] == TEXT
    status, _, body = served.ask("GET", f"/v1/models/{name}")
    assert (status, json.loads(body)["id"]) == (200, name)
    with connect(f"ws://127.0.0.1:{served.port}/v1/realtime?model={name}", proxy=None) as stream:
        assert json.loads(stream.recv(30))["type"] == "session.created"


def test_only_the_real_name_is_listed(serve: Make) -> None:
    listed = json.loads(serve(model_names=[]).ask("GET", "/v1/models")[2])["data"]
    assert [model["id"] for model in listed] == ["fake"]


def test_a_list_of_names_is_the_whole_list(serve: Make) -> None:
    served = serve(model_names=["asr", "whisper-large-v3"])
    assert served.transcribe(AUDIO, model="whisper-large-v3")[0] == 200
    for name in ("whisper-1", "fake", "gpt-4o-transcribe-diarize"):
        status, _, body = served.transcribe(AUDIO, model=name)
        assert (status, body["error"]["code"], body["error"]["param"]) == (404, "model_not_found", "model")
        assert "serve.model_names" in body["error"]["message"] and "asr" in body["error"]["message"]


def test_a_long_prompt_is_cut_to_its_end_with_a_warning(serve: Make) -> None:
    served = serve(max_prompt=400)
    status, headers, body = served.transcribe(AUDIO, prompt="fault:raise " * 10 + "word " * 1000)
    assert (status, body["text"]) == (200, TEXT)
    assert headers[WARNING_HEADER] == (
        "prompt is cut: it has 5120 characters, the model takes 400; the last 399 are used"
    )
    messages = [{"role": "system", "content": "x " * 300}, *chat()["messages"]]
    status, headers, _ = served.ask(
        "POST",
        "/v1/chat/completions",
        json.dumps(chat(messages=messages)).encode(),
        Content_Type="application/json",
    )
    assert status == 200 and headers[WARNING_HEADER].startswith("prompt is cut: it has 600 characters")
    status, headers, _ = served.transcribe(AUDIO, prompt="x" * 1000, stream="true")
    assert status == 200 and WARNING_HEADER in headers


def test_a_prompt_that_the_model_takes_has_no_warning(serve: Make) -> None:
    status, headers, _ = serve().transcribe(AUDIO, prompt="x" * RunConfig().serve.max_prompt)
    assert status == 200 and WARNING_HEADER not in headers


@pytest.mark.parametrize(
    ("fields", "ignored"),
    [
        ({"temperature": "0.7"}, "temperature"),
        ({"temperature": "warm"}, "temperature"),
        ({"include[]": "logprobs"}, "include[]"),
        ({"timestamp_granularities[]": "word"}, "timestamp_granularities[]"),
        (
            {"response_format": "verbose_json", "timestamp_granularities": "phoneme"},
            "timestamp_granularities[]",
        ),
        ({"language": "klingon"}, "language"),
        ({"stream": "perhaps"}, "stream"),
        ({"stream": "true", "response_format": "srt"}, "stream"),
        ({"model": ""}, "model"),
    ],
)
def test_a_lenient_server_ignores_values_with_a_warning(
    serve: Make, fields: dict[str, str], ignored: str
) -> None:
    status, headers, _ = serve(lenient=True).transcribe(AUDIO, **fields)
    assert status == 200
    assert headers[WARNING_HEADER].startswith(f"{ignored} is ignored: ")
    status, headers, body = serve().transcribe(AUDIO, **fields)
    assert (status, body["error"]["param"]) == (400, ignored) and WARNING_HEADER not in headers


@pytest.mark.parametrize(
    ("fields", "status"),
    [({"response_format": "yaml"}, 400), ({"model": "gpt-9"}, 404), ({"prompt": "\ud800"}, 400)],
)
def test_a_lenient_server_refuses_what_no_client_could_use(
    serve: Make, fields: dict[str, str], status: int
) -> None:
    if "prompt" in fields:
        found = serve(lenient=True).post_json(
            "/v1/chat/completions",
            chat(messages=[{"role": "system", "content": fields["prompt"]}, *chat()["messages"]]),
        )[0]
    else:
        found = serve(lenient=True).transcribe(AUDIO, **fields)[0]
    assert found == status


def test_a_lenient_server_returns_words_despite_other_granularities(serve: Make) -> None:
    fields = {"response_format": "verbose_json", "timestamp_granularities": "phoneme,word"}
    _, headers, body = serve(lenient=True).transcribe(AUDIO, **fields)
    assert len(body["words"]) == len(TEXT.split()) and "phoneme" in headers[WARNING_HEADER]


def test_a_lenient_server_names_all_that_it_ignores(serve: Make) -> None:
    fields = {"temperature": "1", "language": "xx\r\nSet-Cookie: a=b", "prompt": "x" * 12_000}
    status, headers, _ = serve(lenient=True).transcribe(AUDIO, **fields)
    assert status == 200 and "set-cookie" not in headers
    for name in ("temperature is ignored", "language is ignored", "prompt is cut"):
        assert name in headers[WARNING_HEADER]


@pytest.mark.parametrize("fields", [{"temperature": 0.7}, {"n": 2}])
def test_a_lenient_server_ignores_values_of_a_chat(serve: Make, fields: dict[str, Any]) -> None:
    data, path = json.dumps(chat(**fields)).encode(), "/v1/chat/completions"
    status, headers, _ = serve(lenient=True).ask("POST", path, data, Content_Type="application/json")
    assert status == 200 and headers[WARNING_HEADER].startswith(f"{next(iter(fields))} is ignored")
    assert serve().ask("POST", path, data, Content_Type="application/json")[0] == 400


def test_a_lenient_stream_tells_what_it_ignores(serve: Make) -> None:
    update = {
        "type": "session.update",
        "session": {"audio": {"input": {"transcription": {"language": "xx"}}}},
    }
    for lenient, expected in ((True, "session.updated"), (False, "error")):
        served = serve(lenient=lenient)
        with connect(f"ws://127.0.0.1:{served.port}/v1/realtime", proxy=None) as stream:
            stream.recv(30)
            stream.send(json.dumps(update))
            event = json.loads(stream.recv(30))
            assert event["type"] == expected
            assert ("warnings" in event) == lenient


def test_pages_of_allowed_sites_can_read_the_warning(serve: Make) -> None:
    served = serve(cors_origins=["https://app.example"])
    headers = served.ask("GET", "/v1/models", Origin="https://app.example")[1]
    assert WARNING_HEADER in headers["access-control-expose-headers"]


@pytest.mark.parametrize("message", ["a\r\nb: c", "é\U0001f600", "x" * 5000, "\x00\x7f"])
def test_the_warning_is_a_valid_header(message: str) -> None:
    tolerance = Tolerance(True)
    tolerance.warn(message)
    [(name, value)] = tolerance.headers.items()
    assert name == WARNING_HEADER
    assert value.isascii() and value.isprintable() and len(value) <= 1000
    assert Tolerance(True).headers == {}
