"""Request bodies: forms and JSON that would take too much memory or time are refused."""

import json
import threading

import pytest

from pipelines.config import RunConfig
from pipelines.serving.api import chat_request
from pipelines.serving.web.forms import bodies
from pipelines.serving.web.parameters import decode_data_uri
from tests.pipelines.serving.conftest import Make, data_uri, form, voice, wav


@pytest.mark.parametrize("value", ["{}", "[]", "0", '"":0', "[[]]"])
def test_json_with_too_many_values_is_refused_before_it_is_parsed(
    serve: Make, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    parsed: list[object] = []
    monkeypatch.setattr(json, "load", parsed.append)
    values = ",".join([value] * 30_000)
    body = f'{{"a": {{{values}}}}}' if ":" in value else f'{{"a": [{values}]}}'
    for encoding in ("utf-8", "utf-16"):
        status, _, response = serve().ask(
            "POST", "/v1/chat/completions", body.encode(encoding), Content_Type="application/json"
        )
        assert status == 400 and b"more than 20,000 values" in response and not parsed


def test_the_audio_of_a_chat_is_decoded_in_a_thread(serve: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    served, threads = serve(), list[threading.Thread]()

    def recording_decode(uri: str) -> bytes:
        threads.append(threading.current_thread())
        return decode_data_uri(uri)

    monkeypatch.setattr(chat_request, "decode_data_uri", recording_decode)
    part = {"type": "audio_url", "audio_url": {"url": data_uri(wav(voice(1)))}}
    body = {"model": "fake", "messages": [{"role": "user", "content": [part]}]}
    assert served.post_json("/v1/chat/completions", body)[0] == 200
    assert len(threads) == 1 and threads[0] is not served.thread


def test_a_form_may_have_few_and_small_fields(serve: Make) -> None:
    """Fields are in memory during the whole request."""
    many = {f"field{number}": "x" for number in range(bodies.MAX_FIELDS)}  # besides `model`
    for fields, code in (
        ({"prompt": "\U0001f600" * 10_000}, None),
        ({"other": "\U0001f600" + "x" * bodies.MAX_FIELD_BYTES}, "invalid_form"),
        (many, "invalid_form"),
    ):
        status, _, body = serve().transcribe(wav(voice(1)), **fields)
        assert (status, body.get("error", {}).get("code")) == ((400, code) if code else (200, None))


def test_the_fields_of_all_requests_take_at_most_512_mib() -> None:
    widest = (
        bodies.MAX_FIELDS * bodies.MAX_FIELD_BYTES * 4
    )  # bytes of one request, with an emoji in each field
    assert widest * RunConfig().serve.max_requests <= 512 << 20


@pytest.mark.parametrize("charset", ["idna", "punycode", "undefined", "utf-16", "utf-8\xe9", ""])
def test_a_form_with_an_unusual_charset_is_refused(serve: Make, charset: str) -> None:
    content_type, body = form({"model": "fake"}, wav(voice(1)))
    path = "/v1/audio/transcriptions"
    status, _, response = serve().ask("POST", path, body, Content_Type=f"{content_type}; charset={charset}")
    assert (status, json.loads(response)["error"]["code"]) == (400, "invalid_form")
    assert serve().ask("POST", path, body, Content_Type=f'{content_type}; charset="UTF-8"')[0] == 200


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", ""])
def test_the_size_limit_of_json_holds_for_every_content_type(
    serve: Make, monkeypatch: pytest.MonkeyPatch, content_type: str
) -> None:
    monkeypatch.setattr(bodies, "MAX_JSON_BYTES", 100_000)
    for size, status, code in ((90_000, 400, "invalid_json"), (110_000, 413, "too_large")):
        found, _, response = serve().ask(
            "POST", "/v1/chat/completions", b"x" * size, Content_Type=content_type
        )
        assert (found, json.loads(response)["error"]["code"]) == (status, code)
