"""Files of clients: nothing stays of one that could not be kept, and large bodies stand in nobody's way."""

import asyncio
import base64
import errno
import io
import json
import shutil
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import starlette.formparsers
from hypothesis import given
from hypothesis import strategies as st

from pipelines.config import RunConfig
from pipelines.serving.api import chat_completions
from pipelines.serving.web import uploads
from pipelines.serving.web.errors import Problem
from pipelines.serving.web.uploads import Shelf, bytes_of_base64, bytes_of_data_uri
from tests.pipelines.serving.conftest import Make, data_uri, form, voice, wav


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    made = Shelf()
    yield made
    made.close()


def full(*arguments: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_nothing_stays_of_a_file_that_has_no_room(serve: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    served = serve()

    def half(source: io.BytesIO, file: io.BytesIO, size: int) -> None:
        file.write(source.read(100))
        full()

    monkeypatch.setattr(shutil, "copyfileobj", half)
    status, headers, body = served.transcribe(wav(voice(1)))
    assert (status, body["error"]["code"], headers["retry-after"]) == (503, "disk_full", "30")
    assert served.application.service is not None and served.application.service.shelf.names == []
    monkeypatch.undo()
    monkeypatch.setattr(starlette.formparsers.UploadFile, "write", full)
    assert served.transcribe(wav(voice(1)))[0] == 503
    monkeypatch.undo()
    assert served.transcribe(wav(voice(1)))[0] == 200


def test_nothing_stays_of_a_file_whose_client_leaves_while_it_is_written(shelf: Shelf) -> None:
    begun, hold = threading.Event(), threading.Event()

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            begun.set()
            hold.wait(10)
            return super().read(size)

    async def main() -> None:
        async def keep() -> None:
            async with shelf.keep(Slow(bytes(1000)), "a"):
                pass

        leaving = asyncio.create_task(keep())
        await asyncio.to_thread(begun.wait, 10)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        hold.set()

    asyncio.run(main())  # waits for its threads
    assert shelf.names == []


@pytest.mark.parametrize("value", ["{}", "[]", "0", '"":0', "[[]]"])
def test_json_of_many_values_is_refused_before_it_is_parsed(
    serve: Make, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    parsed: list[object] = []
    monkeypatch.setattr(json, "load", parsed.append)
    inside = ",".join([value] * 30_000)
    body = f'{{"a": {{{inside}}}}}' if ":" in value else f'{{"a": [{inside}]}}'
    for encoding in ("utf-8", "utf-16"):
        status, _, answer = serve().ask(
            "POST", "/v1/chat/completions", body.encode(encoding), Content_Type="application/json"
        )
        assert status == 400 and b"more than 20,000 values" in answer and not parsed


def test_the_audio_of_a_chat_is_decoded_in_a_thread(serve: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    served, threads = serve(), list[threading.Thread]()

    def watched(uri: str) -> bytes:
        threads.append(threading.current_thread())
        return bytes_of_data_uri(uri)

    monkeypatch.setattr(chat_completions, "bytes_of_data_uri", watched)
    part = {"type": "audio_url", "audio_url": {"url": data_uri(wav(voice(1)))}}
    body = {"model": "fake", "messages": [{"role": "user", "content": [part]}]}
    assert (
        served.ask(
            "POST", "/v1/chat/completions", json.dumps(body).encode(), Content_Type="application/json"
        )[0]
        == 200
    )
    assert len(threads) == 1 and threads[0] is not served.thread


def test_a_form_has_few_and_small_fields(serve: Make) -> None:
    """They are in memory as long as their request is in work."""
    fields = {f"field{number}": "x" for number in range(uploads.MAX_FIELDS)}  # and `model`
    for more, code in (
        ({"prompt": "\U0001f600" * 10_000}, None),
        ({"other": "\U0001f600" + "x" * uploads.MAX_FIELD}, "invalid_form"),
        (fields, "invalid_form"),
    ):
        status, _, body = serve().transcribe(wav(voice(1)), **more)
        assert (status, body.get("error", {}).get("code")) == ((400, code) if code else (200, None))
    widest = uploads.MAX_FIELDS * uploads.MAX_FIELD * 4  # bytes of fields with an emoji in each
    assert widest * RunConfig().serve.max_requests <= 512 << 20


@pytest.mark.parametrize("charset", ["idna", "punycode", "undefined", "utf-16", "utf-8\xe9", ""])
def test_a_form_in_a_codec_that_nobody_needs_is_refused(serve: Make, charset: str) -> None:
    kind, body = form({"model": "fake"}, wav(voice(1)))
    status, _, answer = serve().ask(
        "POST", "/v1/audio/transcriptions", body, Content_Type=f"{kind}; charset={charset}"
    )
    assert (status, json.loads(answer)["error"]["code"]) == (400, "invalid_form")
    assert (
        serve().ask("POST", "/v1/audio/transcriptions", body, Content_Type=f'{kind}; charset="UTF-8"')[0]
        == 200
    )


@pytest.mark.parametrize("kind", ["application/json", "text/plain", ""])
def test_a_chat_has_the_limit_of_json_whatever_it_calls_itself(
    serve: Make, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(uploads, "MAX_JSON", 100_000)
    for size, status, code in ((90_000, 400, "invalid_json"), (110_000, 413, "too_large")):
        found, _, answer = serve().ask("POST", "/v1/chat/completions", b"x" * size, Content_Type=kind)
        assert (found, json.loads(answer)["error"]["code"]) == (status, code)


@given(st.binary(max_size=40), st.sampled_from([4, 8, 12]), st.integers(0, 5))
def test_base64_in_pieces_is_base64(data: bytes, piece: int, start: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uploads, "_PIECE", piece)
        text = base64.b64encode(data).decode()
        assert bytes_of_base64("x" * start + text, "a", start) == data
        assert bytes_of_data_uri(f"data:audio/wav;base64,{text}") == data
        for bad in (
            text + "A",
            text + "AA==AAAA",
            "AAA=" + text + "AAAA",
            text + "é",
            text + "=",
            f"data:,{text}",
        ):
            with pytest.raises(Problem):
                bytes_of_base64(bad, "a")
