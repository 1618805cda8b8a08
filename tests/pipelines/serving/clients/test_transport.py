"""What HTTP allows and clients do: chunks, pipelining, old versions, odd boundaries. Raw sockets."""

from __future__ import annotations

import gzip
import json
import socket

import pytest

from tests.pipelines.serving.api.fake_text import fake_text
from tests.pipelines.serving.conftest import Make, Served, voice, wav

SHORT, TEXT = wav(voice(2)), fake_text(voice(2))
MODEL = ('Content-Disposition: form-data; name="model"', b"fake")
FILE = ('Content-Disposition: form-data; name="file"; filename="a.wav"', SHORT)
PATH = "/v1/audio/transcriptions"


def parts(*given: tuple[str, bytes], boundary: str = "x") -> bytes:
    """A multipart form."""
    sent = [f"--{boundary}\r\n{head}\r\n\r\n".encode() + data + b"\r\n" for head, data in given]
    return b"".join(sent) + f"--{boundary}--\r\n".encode()


def field(name: str, value: str) -> tuple[str, bytes]:
    return f'Content-Disposition: form-data; name="{name}"', value.encode()


def head(line: str, *headers: str) -> bytes:
    return "\r\n".join([line, *headers, "", ""]).encode("latin-1")


def exchange(served: Served, data: bytes) -> bytes:
    """All that the server answers until it closes the connection."""
    with socket.create_connection(("127.0.0.1", served.port), 60) as client:
        client.sendall(data)
        received = b""
        while chunk := client.recv(65536):
            received += chunk
    return received


def answer(received: bytes) -> tuple[int, dict[str, object]]:
    start, _, body = received.partition(b"\r\n\r\n")
    return int(start.split()[1]), json.loads(body) if body else {}


def post(served: Served, body: bytes, *headers: str, line: str = f"POST {PATH} HTTP/1.1") -> bytes:
    """POST a form on a connection of its own."""
    given = ["Host: localhost", "Connection: close", *headers]
    if not any(header.lower().startswith("content-type") for header in headers):
        given.append("Content-Type: multipart/form-data; boundary=x")
    return exchange(served, head(line, *given, f"Content-Length: {len(body)}") + body)


@pytest.mark.parametrize(
    "content_type",
    [
        "MULTIPART/FORM-DATA; BOUNDARY=x",
        'multipart/form-data ;boundary="x"; charset=UTF-8',
        "multipart/form-data; charset=utf-8; boundary=x",
    ],
)
def test_the_content_type_is_understood_in_every_spelling(serve: Make, content_type: str) -> None:
    received = post(serve(), parts(MODEL, FILE), f"CONTENT-type: {content_type}")
    assert answer(received) == (200, answer(received)[1]) and answer(received)[1]["text"] == TEXT


@pytest.mark.parametrize("boundary", ["a b'()+_,-./:=?c", "----WebKitFormBoundary7MA4", "=_x", "x" * 70])
def test_every_boundary_is_understood(serve: Make, boundary: str) -> None:
    body = parts(MODEL, FILE, boundary=boundary) + b"an epilogue\r\n"
    received = post(serve(), body, f'Content-Type: multipart/form-data; boundary="{boundary}"')
    assert answer(received)[1].get("text") == TEXT, received


def test_a_body_arrives_in_chunks_with_extensions_and_trailers(serve: Make) -> None:
    body = parts(MODEL, FILE)
    chunks = [body[start : start + 1000] for start in range(0, len(body), 1000)]
    sent = b"".join(f"{len(chunk):X};a=b\r\n".encode() + chunk + b"\r\n" for chunk in chunks)
    headers = ["Host: localhost", "Connection: close", "Content-Type: multipart/form-data; boundary=x"]
    start = head(f"POST {PATH} HTTP/1.1", *headers, "Transfer-Encoding: Chunked")
    received = exchange(serve(), start + sent + b"0\r\nX-Trailer: 1\r\n\r\n")
    assert TEXT.encode() in received, received


@pytest.mark.parametrize("value", ["100-continue", "100-Continue"])
def test_a_client_may_ask_before_it_sends(serve: Make, value: str) -> None:
    body = parts(MODEL, FILE)
    headers = ["Host: localhost", "Connection: close", "Content-Type: multipart/form-data; boundary=x"]

    def ask(path: str, length: int) -> tuple[socket.socket, bytes]:
        client = socket.create_connection(("127.0.0.1", serve().port), 60)
        client.sendall(
            head(f"POST {path} HTTP/1.1", *headers, f"Content-Length: {length}", f"Expect: {value}")
        )
        return client, client.recv(65536)

    client, first = ask(PATH, len(body))
    with client:
        assert first.startswith(b"HTTP/1.1 100 ")
        client.sendall(body)
        assert b"200 OK" in client.recv(65536)
    # Refused before anything is sent.
    for path, length, status in ((PATH, 10**13, 413), ("/v1/audio/translations", 100, 404)):
        client, first = ask(path, length)
        client.close()
        assert first.startswith(f"HTTP/1.1 {status} ".encode())


def test_requests_may_be_pipelined(serve: Make) -> None:
    body = parts(MODEL, FILE)
    headers = ["Host: localhost", "Content-Type: multipart/form-data; boundary=x"]
    one = head(f"POST {PATH} HTTP/1.1", *headers, f"Content-Length: {len(body)}") + body
    last = head("GET /healthz HTTP/1.1", "Host: localhost", "Connection: close")
    received = exchange(serve(), one + one + last)
    assert received.count(b"HTTP/1.1 200 OK") == 3 and received.count(TEXT.encode()) == 2


def test_http_1_0_needs_no_host_and_gets_no_chunks(serve: Make) -> None:
    """As the health checks of some load balancers."""
    status, body = answer(exchange(serve(), head("GET /healthz HTTP/1.0")))
    assert (status, body["status"]) == (200, "ok")
    assert TEXT.encode() in post(serve(), parts(MODEL, FILE), line=f"POST {PATH} HTTP/1.0")
    streamed = post(serve(), parts(MODEL, field("stream", "true"), FILE), line=f"POST {PATH} HTTP/1.0")
    assert b"transfer-encoding" not in streamed.lower() and b"data: [DONE]" in streamed


@pytest.mark.parametrize(
    "path", ["http://localhost/v1/models", "HTTP://localhost:80/v1/models", "//v1/models", "/v1//models/"]
)
def test_a_target_may_be_a_url_or_have_more_slashes(serve: Make, path: str) -> None:
    received = exchange(serve(), head(f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close"))
    assert answer(received)[1]["object"] == "list"


def test_another_spelling_of_a_path_needs_the_key_too(serve: Make) -> None:
    served = serve(api_keys=["0" * 64])
    for path in ("//v1/models", "http://localhost/v1/models", "/docs/../v1/models", "/healthz//../v1/models"):
        received = exchange(served, head(f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close"))
        assert received.startswith(b"HTTP/1.1 401 "), path


def test_a_compressed_body_is_415(serve: Make) -> None:
    received = post(serve(), gzip.compress(parts(MODEL, FILE)), "Content-Encoding: gzip")
    assert answer(received)[0] == 415 and b"without compression" in received
    assert TEXT.encode() in post(serve(), parts(MODEL, FILE), "Content-Encoding: identity")


def test_a_form_that_is_cut_off_is_400(serve: Make) -> None:
    received = post(serve(), parts(MODEL, FILE)[: -len("--x--\r\n")])
    assert answer(received)[0] == 400 and b"closing boundary" in received


def test_an_encoded_part_is_400(serve: Make) -> None:
    part = (FILE[0] + "\r\nContent-Transfer-Encoding: BASE64", b"UklGRg==")
    received = post(serve(), parts(MODEL, part))
    assert answer(received)[0] == 400 and b"content-transfer-encoding: BASE64" in received
    part = (FILE[0] + f"\r\nContent-Transfer-Encoding: binary\r\nContent-Length: {len(SHORT)}", SHORT)
    assert TEXT.encode() in post(serve(), parts(MODEL, part))


@pytest.mark.parametrize(
    "disposition",
    [
        'name="file"; filename="a%20b%22c.wav"',
        'name="file"; filename="a\\"b.wav"',
        'name="file"; filename="C:\\x\\a.wav"',
        'name="file"; filename="../../a;b.wav"',
        'name="file[]"; filename="a.wav"',
        'name="File"; filename="a.wav"',
    ],
)
def test_every_file_name_is_understood(serve: Make, disposition: str) -> None:
    part = (f"Content-Disposition: form-data; {disposition}", SHORT)
    assert TEXT.encode() in post(serve(), parts(MODEL, part))


@pytest.mark.parametrize(
    "disposition", ['name="file"; filename=""', 'name="file"', 'name="file"; filename="a"']
)
def test_an_empty_file_is_400(serve: Make, disposition: str) -> None:
    received = post(serve(), parts(MODEL, (f"Content-Disposition: form-data; {disposition}", b"")))
    error = answer(received)[1]["error"]
    assert isinstance(error, dict) and error["code"] == "empty_file"


def test_of_a_field_that_is_given_twice_the_last_counts(serve: Make) -> None:
    formats = (field("response_format", "srt"), field("response_format", "json"))
    assert answer(post(serve(), parts(MODEL, MODEL, *formats, FILE)))[1]["text"] == TEXT


def test_fields_are_understood_in_other_spellings_and_in_the_address(serve: Make) -> None:
    received = post(serve(), parts(MODEL, field("responseFormat", "text"), FILE))
    assert received.endswith(b"\r\n\r\n" + TEXT.encode()) or received.rstrip().endswith(TEXT.encode())
    line = f"POST {PATH}?response_format=verbose_json&timestamp_granularities%5B%5D=word HTTP/1.1"
    assert answer(post(serve(), parts(MODEL, FILE), line=line))[1]["words"]
    # The form takes precedence.
    form = parts(MODEL, field("response_format", "json"), FILE)
    received = post(serve(), form, line=line.split("&")[0] + " HTTP/1.1")
    assert list(answer(received)[1]) == list(answer(post(serve(), parts(MODEL, FILE)))[1])
