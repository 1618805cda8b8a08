"""The file of a form as clients send it: without a name, with an extended one, of any size. Raw sockets."""

from __future__ import annotations

import json
import socket

import pytest

from tests.pipelines.serving.api.fake_text import fake_text
from tests.pipelines.serving.conftest import Make, Served, voice, wav

SHORT, TEXT = wav(voice(2)), fake_text(voice(2))
# Larger than a field other than the file may be, and larger than what a form keeps in memory.
LONG = wav(voice(40))


def post_parts(served: Served, *parts: tuple[str, bytes]) -> tuple[int, dict[str, str], dict[str, object]]:
    """POST a form over a raw socket; each part is its header lines and its data.

    Returns:
        The status, the headers in lower case, and the parsed body.
    """
    body = b"".join(b"--x\r\n" + head.encode() + b"\r\n\r\n" + data + b"\r\n" for head, data in parts)
    body += b"--x--\r\n"
    head = (
        "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", served.port), 60) as client:
        client.sendall(head.encode() + body)
        data = b""
        while chunk := client.recv(65536):
            data += chunk
    start, _, content = data.partition(b"\r\n\r\n")
    status, *lines = start.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(status.split()[1]), headers, json.loads(content)


def field(name: str, value: str) -> tuple[str, bytes]:
    return f'Content-Disposition: form-data; name="{name}"', value.encode()


@pytest.mark.parametrize(
    "disposition",
    [
        'form-data; name="file"',
        "form-data; name=file",
        'form-data; name="file"; filename=""',
        "form-data; name=\"file\"; filename*=utf-8''a%20b.wav",
        "form-data; filename*=UTF-8''%C3%A4.wav; name=\"file\"",
        'form-data; name="file"; filename*="utf-8\'\'a.wav"',
        'form-data; name="file"; filename*=nonsense',
        'form-data; name="file"; filename="a.wav"',
        'form-data; name="file"; filename="a.wav"; filename*=utf-8\'\'b.wav',
        'FORM-DATA; NAME="file"',
    ],
)
@pytest.mark.parametrize(
    "more", ["", "\r\nContent-Type: audio/wav", "\r\nContent-Type: application/octet-stream"]
)
def test_the_file_is_understood_with_and_without_a_name(serve: Make, disposition: str, more: str) -> None:
    status, _, body = post_parts(
        serve(), field("model", "fake"), (f"Content-Disposition: {disposition}{more}", SHORT)
    )
    assert (status, body.get("text")) == (200, TEXT), body


@pytest.mark.parametrize(
    "disposition", ['form-data; name="file"', "form-data; name=\"file\"; filename*=utf-8''a.wav"]
)
def test_a_file_without_a_name_may_be_large(serve: Make, disposition: str) -> None:
    assert len(LONG) > 1 << 20
    status, _, body = post_parts(
        serve(), (f"Content-Disposition: {disposition}", LONG), field("model", "fake")
    )
    assert status == 200 and str(body["text"]), body


def test_the_extended_name_is_decoded_for_messages(serve: Make) -> None:
    disposition = "Content-Disposition: form-data; name=\"file\"; filename*=utf-8''%C3%A4.wav"
    status, _, body = post_parts(serve(), field("model", "fake"), (disposition, b"no audio" * 100))
    assert status == 400 and "/tmp" not in json.dumps(body)


def test_a_large_field_is_refused_with_its_name(serve: Make) -> None:
    for name in ("prompt", "audio", "data"):
        status, _, body = post_parts(
            serve(), field("model", "fake"), field(name, "x" * 50_000), field("file", "x")
        )
        error = body["error"]
        assert isinstance(error, dict)
        assert (status, error["code"], error["param"]) == (400, "invalid_form", name)
        assert name in error["message"] and "48 KiB" in error["message"] and "`file`" in error["message"]


def test_a_file_under_another_name_is_refused_with_both_names(serve: Make) -> None:
    for disposition in ('name="audio"; filename="a.wav"', "name=\"audio\"; filename*=utf-8''a.wav"):
        status, _, body = post_parts(
            serve(), field("model", "fake"), (f"Content-Disposition: form-data; {disposition}", LONG)
        )
        error = body["error"]
        assert isinstance(error, dict)
        assert (status, error["param"]) == (400, "file")
        assert "`file`" in error["message"] and "'audio'" in error["message"]


def test_a_part_without_a_field_name_is_400(serve: Make) -> None:
    for disposition in ("form-data", 'form-data; filename="a.wav"', "form-data; filename*=utf-8''a.wav"):
        status, _, _ = post_parts(serve(), (f"Content-Disposition: {disposition}", SHORT))
        assert status == 400
    assert serve().application.active == 0


def test_two_files_are_400(serve: Make) -> None:
    status, _, body = post_parts(serve(), field("file", "x"), field("file", "y"))
    assert status == 400 and body["error"]["code"] == "invalid_form"  # type: ignore[index]
