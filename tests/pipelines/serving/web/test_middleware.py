"""Access checks: what is refused before it is read, security headers, and the access log."""

import contextlib
import hashlib
import json
import logging
import socket
import time
from collections.abc import Callable

import pytest

from pipelines.config import RunConfig, ServeConfig
from pipelines.serving.web import http_server, middleware
from pipelines.serving.web.errors import Problem
from tests.pipelines.serving.conftest import Make, Served, form, voice, wav

DIGEST = hashlib.sha256(b"sk-a-test-key").hexdigest()
# Seconds in which a refusal with a time limit of half a second must arrive: far above it, so that the test
# holds on a busy machine, and below the defaults of 30 s and more.
REFUSAL_SECONDS = 25


def send_raw(served: Served, text: str) -> bytes:
    """The server's response to raw bytes."""
    with socket.create_connection(("127.0.0.1", served.port), 60) as client:
        client.sendall(text.encode("latin-1").replace(b"\n", b"\r\n"))
        data = b""
        while chunk := client.recv(65536):
            data += chunk
        return data


def test_a_large_body_is_refused_before_and_while_it_is_read(serve: Make) -> None:
    served = serve(max_upload=0.1)
    audio = wav(voice(10))
    status, headers, body = served.transcribe(audio)
    assert (status, body["error"]["code"], headers["connection"]) == (413, "too_large", "close")
    content_type, data = form({"model": "fake"}, audio)
    with socket.create_connection(("127.0.0.1", served.port), 20) as client:
        head = (
            f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n"
        )
        client.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        response = b""
        for number in range(200):  # 13 MB in all, which the server must not read to the end
            try:
                client.sendall(b"10000\r\n" + (bytes(65536) if number else data[:65536]) + b"\r\n")
            except OSError:
                break
            client.settimeout(0.001)
            with contextlib.suppress(TimeoutError):
                response += client.recv(65536)
            client.settimeout(20)
            if response:
                break
        assert response.startswith(b"HTTP/1.1 413")
    assert served.application.service is not None and served.application.service.uploads.names == []


def test_a_slow_body_is_refused_with_408(serve: Make) -> None:
    served = serve(upload_timeout=0.5)
    started = time.monotonic()
    response = send_raw(
        served,
        "POST /v1/audio/transcriptions HTTP/1.1\nHost: localhost\n"
        "Content-Type: multipart/form-data; boundary=x\nContent-Length: 1000\n\n--x",
    )
    assert response.startswith(b"HTTP/1.1 408") and b"upload_timeout" in response
    assert time.monotonic() - started < REFUSAL_SECONDS
    assert served.application.active == 0


def test_connections_without_complete_headers_are_closed(
    serve: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_server, "HEADER_TIMEOUT", 0.3)
    started = time.monotonic()
    for text in (
        "",
        "GET /healthz HTTP/1.1\nHost: local",
        "GET /healthz HTTP/1.1\nHost: localhost\n\nGET /he",
    ):
        assert send_raw(serve(), text).startswith(b"HTTP/1.1 200") == text.endswith("GET /he")
    assert time.monotonic() - started < REFUSAL_SECONDS


def test_headers_that_are_too_large_are_refused(serve: Make) -> None:
    many = "".join(f"X-{number}: {'y' * 1000}\n" for number in range(100))
    response = send_raw(serve(), "GET /healthz HTTP/1.1\nHost: localhost\n" + many)
    assert response.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("evil.example", None, 421),
        ("localhost", "http://evil.example", 403),
        ("127.0.0.1", "null", 403),
        ("localhost", "http://[", 403),
        ("[::1]", None, 400),
        ("localhost", "http://localhost", 400),
    ],
)
def test_unknown_hosts_and_other_origins_are_refused(
    serve: Make, host: str, origin: str | None, status: int
) -> None:
    extra = f"Origin: {origin}\n" if origin else ""
    head = (
        f"POST /v1/chat/completions HTTP/1.1\nHost: {host}\n{extra}Content-Length: 2\nConnection: close\n\n"
    )
    response = send_raw(serve(), head + "{}")
    assert response.split()[1] == str(status).encode(), response


def test_cors_is_off_by_default(serve: Make) -> None:
    page = {"Origin": "https://app.example"}
    assert "access-control-allow-origin" not in serve().ask("GET", "/v1/models", **page)[1]
    allowed = serve(cors_origins=["https://app.example"])
    assert allowed.ask("GET", "/v1/models", **page)[1]["access-control-allow-origin"] == "https://app.example"
    preflight = {
        **page,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    assert allowed.ask("OPTIONS", "/v1/audio/transcriptions", **preflight)[0] == 200


def test_pages_of_allowed_origins_may_send_headers_and_read_errors(serve: Make) -> None:
    page = {"Origin": "https://app.example"}
    served = serve(cors_origins=["https://app.example"], api_keys=[DIGEST])
    preflight = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
    }
    status, headers, _ = served.ask("OPTIONS", "/v1/audio/transcriptions", **page, **preflight)
    assert status == 200 and "x-stainless-os" in headers["access-control-allow-headers"]
    status, headers, _ = served.ask("GET", "/v1/models", **page)
    assert (status, headers["access-control-allow-origin"]) == (401, "https://app.example")
    assert "x-request-id" in headers["access-control-expose-headers"]
    headers = served.ask("GET", "/v1/models", Origin="https://evil.example")[1]
    assert "access-control-allow-origin" not in headers


def test_responses_have_security_headers(serve: Make) -> None:
    for path in ("/", "/v1/models", "/nothing", "/page/../../config.py", "/page/%2e%2e%2fapp.py"):
        status, headers, _ = serve().ask("GET", path)
        assert status == (200 if path in ("/", "/v1/models") else 404)
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["x-request-id"]
        assert "server" not in headers


def test_errors_have_the_format_of_openai(serve: Make) -> None:
    for method, path, status in (
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/audio/transcriptions", 405),
        ("POST", "/v1/chat/completions", 400),
    ):
        found, _, body = serve().ask(method, path, b"{" if method == "POST" else None)
        assert found == status and set(json.loads(body)["error"]) == {"message", "type", "param", "code"}


def test_the_log_has_no_audio_and_text_only_if_it_is_enabled(
    serve: Make, caplog: pytest.LogCaptureFixture
) -> None:
    def log_line(served: Served) -> dict[str, object]:
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="scriptorium.access"):
            text = served.transcribe(wav(voice(2)), prompt="a secret prompt")[2]["text"]
            deadline = time.monotonic() + 60
            while not caplog.records and time.monotonic() < deadline:
                time.sleep(0.01)
        (record,) = [record for record in caplog.records if record.name == "scriptorium.access"]
        assert "secret" not in record.getMessage()
        assert (text in record.getMessage()) == served.config.serve.log_text
        line: dict[str, object] = json.loads(record.getMessage())
        return line

    without_text = log_line(serve())
    assert without_text["status"] == 200 and without_text["audio_seconds"] == 2.0
    assert without_text["path"] == "/v1/audio/transcriptions"
    assert "text" in log_line(serve(log_text=True))


def test_a_public_address_without_keys_is_refused() -> None:
    check: Callable[[ServeConfig], None] = middleware.check_address
    for host in ("127.0.0.1", "::1", "localhost"):
        check(ServeConfig(host=host))
    for host in ("0.0.0.0", "::", "10.0.0.1"):
        with pytest.raises(Problem, match="there are no API keys"):
            check(ServeConfig(host=host))
        check(ServeConfig(host=host, allow_anonymous=True))
        check(ServeConfig(host=host, api_keys=[DIGEST]))
    assert RunConfig().serve.host == "127.0.0.1"


def test_a_draining_server_refuses_requests_and_is_not_ready(serve: Make) -> None:
    served = serve(max_requests=77)
    served.application.start_draining()
    status, headers, body = served.transcribe(wav(voice(1)))
    assert (status, body["error"]["code"]) == (503, "draining") and headers["retry-after"]
    assert served.ask("GET", "/readyz")[0] == 503 and served.ask("GET", "/healthz")[0] == 200
