"""Paths and methods as monitors, browsers and clients use them."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.pipelines.serving.conftest import Make, Served, form, voice, wav

KEY = "sk-paths"


def raw_response(served: Served, request: str) -> tuple[bytes, bytes]:
    """The head and the body of the response to a request without a body, up to the connection's end."""
    with socket.create_connection(("127.0.0.1", served.port), 60) as client:
        client.sendall(f"{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        data = b""
        while chunk := client.recv(65536):
            data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    return head, body


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/healthz", "/health", "/readyz", "/v1/models", "/v1/models/", "/v1/models/fake"),
        *("/docs", "/openapi.json", "/favicon.ico", "/page/app.js", "/nothing"),
    ],
)
def test_head_is_get_without_a_body(serve: Make, path: str) -> None:
    head, body = raw_response(serve(), f"HEAD {path}")
    got, content = raw_response(serve(), f"GET {path}")
    assert body == b"" and content

    def comparable(lines: bytes) -> list[bytes]:
        return [line for line in lines.splitlines() if not line.startswith((b"x-request-id", b"date"))]

    assert comparable(head) == comparable(got)


def test_a_connection_is_usable_after_head(serve: Make) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", serve().port, timeout=30)
    for method, path in (("HEAD", "/"), ("HEAD", "/v1/models"), ("GET", "/healthz")):
        connection.request(method, path)
        response = connection.getresponse()
        assert (response.status, bool(response.read())) == (200, method == "GET")
    connection.close()


def test_head_needs_a_key_where_get_does(serve: Make) -> None:
    served = serve(api_keys=[hashlib.sha256(KEY.encode()).hexdigest()])
    for path in ("/", "/health", "/healthz", "/readyz", "/docs", "/openapi.json", "/favicon.ico"):
        assert served.ask("HEAD", path)[0] == served.ask("GET", path)[0] == 200
    for path in ("/v1/models", "/v1/models/", "/v1/models/fake", "/health/", "/nothing"):
        assert served.ask("HEAD", path)[0] == served.ask("GET", path)[0] == 401
    assert served.ask("HEAD", "/v1/models/", Authorization=f"Bearer {KEY}")[0] == 200


def test_head_of_a_post_route_is_405(serve: Make) -> None:
    status, headers, _ = serve().ask("HEAD", "/v1/audio/transcriptions")
    assert (status, headers["allow"]) == (405, "POST")
    status, headers, body = serve().ask("POST", "/v1/models")
    assert (status, headers["allow"]) == (405, "GET, HEAD")
    assert json.loads(body)["error"]["code"] == "method_not_allowed"


def test_paths_of_the_api_may_end_with_a_slash(serve: Make) -> None:
    served = serve()
    assert served.ask("GET", "/v1/models/")[2] == served.ask("GET", "/v1/models")[2]
    assert served.ask("GET", "/v1/models//")[0] == served.ask("GET", "/v1/models/fake/")[0] == 200
    content_type, body = form({"model": "fake"}, wav(voice(1)))
    answers = [
        served.ask("POST", path, body, **{"Content-Type": content_type})
        for path in ("/v1/audio/transcriptions", "/v1/audio/transcriptions/")
    ]
    assert answers[0][0] == 200 and answers[0][2] == answers[1][2]


def test_health_is_healthz(serve: Make) -> None:
    assert serve().ask("GET", "/health")[2] == serve().ask("GET", "/healthz")[2]


def test_the_favicon_is_an_icon_with_the_headers_of_the_page(serve: Make) -> None:
    status, headers, data = serve().ask("GET", "/favicon.ico")
    assert (status, headers["content-type"]) == (200, "image/x-icon")
    assert data[:6] == b"\x00\x00\x01\x00\x02\x00" and len(data) < 10_000
    page = serve().ask("GET", "/")[1]
    names = ("content-security-policy", "x-content-type-options", "x-frame-options", "cache-control")
    assert [headers[name] for name in names] == [page[name] for name in names]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nothing"),
        ("POST", "/audio/transcriptions"),
        ("POST", "/v1/audio/translations"),
        ("POST", "/v1/responses"),
        ("GET", "/v1/realtime"),
        ("GET", "/page/nothing.js"),
        ("DELETE", "/v1/files/1"),
        ("HEAD", "/nothing"),
    ],
)
def test_a_404_names_the_routes(serve: Make, method: str, path: str) -> None:
    status, headers, body = serve().ask(method, path)
    assert status == 404 and headers["content-type"] == "application/json"
    if method != "HEAD":
        error = json.loads(body)["error"]
        assert (error["code"], error["type"]) == ("not_found", "invalid_request_error")
        assert error["message"].startswith(f"there is no path '{path}' here")
        for route in ("/v1/audio/transcriptions", "/v1/chat/completions", "/v1/models", "/v1/realtime"):
            assert route in error["message"]
        assert "does not offer translations" in error["message"]


@pytest.mark.parametrize(
    "path", ["/", "/v1/realtim", "/realtime", "/v1/audio/transcriptions", "/v1/realtime/x"]
)
def test_an_unknown_websocket_path_is_404_and_names_the_right_one(serve: Make, path: str) -> None:
    with pytest.raises(InvalidStatus) as caught, connect(f"ws://127.0.0.1:{serve().port}{path}", proxy=None):
        pass
    assert caught.value.response.status_code == 404
    error = json.loads(caught.value.response.body or b"")["error"]
    assert error["code"] == "not_found"
    assert f"no WebSocket at '{path}'" in error["message"] and "WebSocket /v1/realtime" in error["message"]


def test_the_realtime_path_may_end_with_a_slash(serve: Make) -> None:
    with connect(f"ws://127.0.0.1:{serve().port}/v1/realtime/", proxy=None) as stream:
        assert json.loads(stream.recv(30))["type"] == "session.created"


def test_the_log_has_the_path_and_method_of_the_client(serve: Make, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="scriptorium.access"):
        raw_response(serve(), "HEAD /v1/models/")
    lines = [
        json.loads(record.getMessage()) for record in caplog.records if record.name == "scriptorium.access"
    ]
    [line] = [line for line in lines if line["method"] == "HEAD"]  # a stream of another test may end late
    assert (line["path"], line["status"], line["bytes_out"]) == ("/v1/models/", 200, 0)
