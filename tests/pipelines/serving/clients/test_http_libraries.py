"""The forms that httpx and aiohttp send, and what they make of the answers."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import aiohttp
import pytest

from tests.pipelines.serving.api.fake_text import fake_text
from tests.pipelines.serving.conftest import Make, Served, voice, wav

SHORT, TEXT = wav(voice(2)), fake_text(voice(2))
LONG = wav(voice(40))
WORDS = ("timestamp_granularities[]", "timestamp_granularities[0]", "timestamp_granularities")


@pytest.fixture(params=["httpx", "httpx2"])
def httpx(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = pytest.importorskip(request.param)
    return module


@pytest.fixture
def client(httpx: Any, serve: Make) -> Iterator[Any]:
    with httpx.Client(base_url=serve().url, trust_env=False, timeout=60) as opened:
        yield opened


@pytest.mark.parametrize(
    "file",
    [
        ("a.wav", SHORT),
        ("ä ö.wav", SHORT),
        (None, SHORT),
        ("", SHORT),
        SHORT,
        (None, SHORT, "audio/wav"),
    ],
    ids=["name", "other letters", "no name", "empty name", "bytes", "no name but a type"],
)
def test_httpx_sends_a_file(client: Any, file: Any) -> None:
    response = client.post("/v1/audio/transcriptions", files={"file": file}, data={"model": "fake"})
    assert (response.status_code, response.json().get("text")) == (200, TEXT), response.text


def test_httpx_sends_a_large_file_without_a_name(client: Any) -> None:
    response = client.post("/v1/audio/transcriptions", files={"file": (None, LONG)}, data={"model": "fake"})
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("name", WORDS)
@pytest.mark.parametrize("value", ["word", ["word"], ["word", "segment"]], ids=str)
def test_httpx_asks_for_words(client: Any, name: str, value: Any) -> None:
    data = {"model": "fake", "response_format": "verbose_json", name: value}
    response = client.post("/v1/audio/transcriptions", files={"file": ("a.wav", SHORT)}, data=data)
    assert response.status_code == 200 and response.json()["words"], response.text


def test_httpx_checks_the_server_with_head(client: Any) -> None:
    for path in ("/", "/health", "/healthz", "/readyz", "/v1/models", "/v1/models/"):
        response = client.head(path)
        assert (response.status_code, response.content) == (200, b"")
        assert int(response.headers["content-length"]) > 0


def aiohttp_transcription(served: Served, form: aiohttp.FormData) -> tuple[int, Any]:
    async def main() -> tuple[int, Any]:
        async with (
            aiohttp.ClientSession(served.url) as session,
            session.post("/v1/audio/transcriptions", data=form) as response,
        ):
            return response.status, await response.json()

    return asyncio.run(main())


@pytest.mark.parametrize(
    "options",
    [
        {"filename": "a.wav"},
        {"filename": "ä 録音.wav"},
        {"filename": "ä 録音.wav", "content_type": "audio/wav"},
        {"content_type": "audio/wav"},
        {},
    ],
    ids=str,
)
@pytest.mark.parametrize("quote", [True, False])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "bytes"])
def test_aiohttp_sends_a_file(serve: Make, options: dict[str, str], quote: bool, stream: bool) -> None:
    form = aiohttp.FormData({"model": "fake"}, quote_fields=quote)
    form.add_field("file", io.BytesIO(SHORT) if stream else SHORT, **options)
    status, body = aiohttp_transcription(serve(), form)
    assert (status, body.get("text")) == (200, TEXT), body


def test_aiohttp_sends_a_large_file_without_a_name(serve: Make) -> None:
    form = aiohttp.FormData({"model": "fake"})
    form.add_field("file", LONG, content_type="audio/wav")
    assert aiohttp_transcription(serve(), form)[0] == 200


@pytest.mark.parametrize("name", WORDS)
def test_aiohttp_asks_for_words(serve: Make, name: str) -> None:
    form = aiohttp.FormData({"model": "fake", "response_format": "verbose_json", name: "word"})
    form.add_field("file", SHORT, filename="a.wav")
    status, body = aiohttp_transcription(serve(), form)
    assert status == 200 and body["words"], body


def test_aiohttp_checks_the_server_with_head(serve: Make) -> None:
    async def main() -> list[int]:
        async with aiohttp.ClientSession(serve().url) as session:
            responses = [await session.head(path) for path in ("/", "/healthz", "/v1/models/", "/healthz")]
            return [response.status for response in responses]

    assert asyncio.run(main()) == [200] * 4


def test_aiohttp_learns_the_path_of_the_websocket(serve: Make) -> None:
    async def main() -> int:
        async with aiohttp.ClientSession(serve().url) as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await session.ws_connect("/v1/realtime/transcriptions")
            async with session.ws_connect("/v1/realtime") as stream:
                assert (await stream.receive_json(timeout=30))["type"] == "session.created"
            return caught.value.status

    assert asyncio.run(main()) == 404
