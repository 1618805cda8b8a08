"""Who gets in, what is refused before it is read, and what answers say about safety."""

import contextlib
import hashlib
import json
import logging
import socket
import time
from collections.abc import Callable

import pytest

from pipelines.config import RunConfig
from pipelines.config_sections import ServeConfig
from pipelines.serving import server
from pipelines.serving.web import middleware
from pipelines.serving.web.auth import Keys, Rates
from pipelines.serving.web.errors import Problem
from tests.pipelines.serving.conftest import Make, Served, form, voice, wav

KEY = "sk-a-test-key"
HASHED = hashlib.sha256(KEY.encode()).hexdigest()


def head(served: Served, text: str) -> bytes:
    """What the server answers to raw bytes."""
    with socket.create_connection(("127.0.0.1", served.port), 20) as client:
        client.sendall(text.encode("latin-1").replace(b"\n", b"\r\n"))
        data = b""
        while chunk := client.recv(65536):
            data += chunk
        return data


def test_a_key_is_asked_for_where_there_are_keys(serve: Make) -> None:
    served = serve(api_keys=[f"desk:{HASHED}"])
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": "Bearer "},
    ):
        status, found, body = served.transcribe(b"", headers)
        assert (status, found["www-authenticate"], body["error"]["type"]) == (
            401,
            "Bearer",
            "authentication_error",
        )
        assert served.ask("GET", "/v1/models", **headers)[0] == 401
    assert served.transcribe(wav(voice(1)), {"Authorization": f"Bearer {KEY}"})[0] == 200
    assert [served.ask("GET", path)[0] for path in ("/healthz", "/readyz", "/", "/openapi.json")] == [200] * 4


def test_keys_hold_under_a_prefix_of_a_proxy_and_for_all_that_is_not_listed_as_open(serve: Make) -> None:
    served = serve(api_keys=[HASHED], requests_per_minute=1000)
    assert served.ask("GET", "/nothing")[0] == 401
    served.server.config.root_path = (
        "/x"  # uvicorn hands on /x/v1/models under /x then, as Ray Serve's proxy does
    )
    try:
        found = {
            path: served.ask("GET", path)[0]
            for path in ("/v1/models", "/", "/healthz", "/page/app.js", "/docs")
        }
        assert found == {"/v1/models": 401, "/": 200, "/healthz": 200, "/page/app.js": 200, "/docs": 200}
        assert served.transcribe(b"")[0] == 401
        status, headers, _ = served.ask("GET", "/v1/models", Authorization=f"Bearer {KEY}")
        assert (status, headers["cache-control"]) == (200, "no-store")
        served.application.begin_to_end()
        assert served.ask("GET", "/v1/models", Authorization=f"Bearer {KEY}")[0] == 503
    finally:
        served.server.config.root_path = ""


def test_keys_are_compared_whole_and_named() -> None:
    keys = Keys([f"desk:{HASHED}", hashlib.sha256(b"two").hexdigest()])
    assert (
        keys.caller({"authorization": f"bearer {KEY}"}) == "desk"
        and keys.caller({"authorization": "Bearer two"}) == "key2"
    )
    assert keys.caller({}, ["realtime", f"openai-insecure-api-key.{KEY}"]) == "desk"
    assert Keys([]).caller({}) is None
    assert Keys([hashlib.sha256("schlüssel-鍵".encode()).hexdigest()]).caller(
        {"authorization": "Bearer " + "schlüssel-鍵".encode().decode("latin-1")}
    )
    with pytest.raises(Problem):
        keys.caller({"authorization": f"Bearer {KEY} "[:-3]})


def test_a_key_in_clear_is_refused_by_the_settings_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="entry 1 is no SHA-256") as caught:
        ServeConfig(api_keys=["my-secret-key"])
    assert "my-secret-key" not in str(caught.value).split("input_value")[0]


def test_rates_fill_again() -> None:
    now = [0.0]
    rates = Rates(6, lambda: now[0])
    for _ in range(6):
        rates.count("a")
    with pytest.raises(Problem) as caught:
        rates.count("a")
    assert caught.value.status == 429 and caught.value.headers["retry-after"] == "11"
    rates.count("b")
    now[0] = 10.1
    rates.count("a")


def test_too_often_is_429(serve: Make) -> None:
    served = serve(requests_per_minute=2)
    assert [served.ask("GET", "/v1/models")[0] for _ in range(3)] == [200, 200, 429]
    assert served.ask("GET", "/readyz")[0] == 200


def test_a_large_body_is_refused_before_and_while_it_is_read(serve: Make) -> None:
    served = serve(max_upload=0.1)
    audio = wav(voice(10))
    status, headers, body = served.transcribe(audio)
    assert (status, body["error"]["code"], headers["connection"]) == (413, "too_large", "close")
    kind, data = form({"model": "fake"}, audio)
    with socket.create_connection(("127.0.0.1", served.port), 20) as client:
        start = f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.sendall(start.encode())
        answered = b""
        for number in range(200):  # 13 MB in all: nobody waits for them
            try:
                client.sendall(b"10000\r\n" + (bytes(65536) if number else data[:65536]) + b"\r\n")
            except OSError:
                break
            client.settimeout(0.001)
            with contextlib.suppress(TimeoutError):
                answered += client.recv(65536)
            client.settimeout(20)
            if answered:
                break
        assert answered.startswith(b"HTTP/1.1 413")
    assert served.application.service is not None and served.application.service.shelf.names == []


def test_a_slow_body_is_given_up(serve: Make) -> None:
    served = serve(upload_timeout=0.5)
    started = time.monotonic()
    answer = head(
        served,
        "POST /v1/audio/transcriptions HTTP/1.1\nHost: localhost\nContent-Type: multipart/form-data; boundary=x\nContent-Length: 1000\n\n--x",
    )
    assert (
        answer.startswith(b"HTTP/1.1 408") and b"upload_timeout" in answer and time.monotonic() - started < 15
    )
    assert served.application.busy == 0


def test_a_head_that_does_not_come_is_not_waited_for(serve: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEADER_SECONDS", 0.3)
    started = time.monotonic()
    for text in (
        "",
        "GET /healthz HTTP/1.1\nHost: local",
        "GET /healthz HTTP/1.1\nHost: localhost\n\nGET /he",
    ):
        assert head(serve(), text).startswith(b"HTTP/1.1 200") == text.endswith("GET /he")
    assert time.monotonic() - started < 15
    answer = head(
        serve(),
        "GET /healthz HTTP/1.1\nHost: localhost\n" + "".join(f"X-{n}: {'y' * 1000}\n" for n in range(100)),
    )
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))


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
def test_other_names_and_other_sites_are_refused(
    serve: Make, host: str, origin: str | None, status: int
) -> None:
    extra = f"Origin: {origin}\n" if origin else ""
    answer = head(
        serve(),
        f"POST /v1/chat/completions HTTP/1.1\nHost: {host}\n{extra}Content-Length: 2\nConnection: close\n\n{{}}",
    )
    assert answer.split()[1] == str(status).encode(), answer


def test_cors_is_off_unless_asked_for(serve: Make) -> None:
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


def test_a_page_of_another_site_may_send_headers_and_read_what_the_door_refuses(serve: Make) -> None:
    page = {"Origin": "https://app.example"}
    served = serve(cors_origins=["https://app.example"], api_keys=[HASHED])
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
    }
    status, headers, _ = served.ask("OPTIONS", "/v1/audio/transcriptions", **page, **asked)
    assert status == 200 and "x-stainless-os" in headers["access-control-allow-headers"]
    status, headers, _ = served.ask("GET", "/v1/models", **page)
    assert (status, headers["access-control-allow-origin"]) == (401, "https://app.example")
    assert "x-request-id" in headers["access-control-expose-headers"]
    assert (
        "access-control-allow-origin" not in served.ask("GET", "/v1/models", Origin="https://evil.example")[1]
    )


def test_answers_carry_what_keeps_browsers_safe(serve: Make) -> None:
    for path in ("/", "/v1/models", "/nothing", "/page/../../config.py", "/page/%2e%2e%2fapp.py"):
        status, headers, _ = serve().ask("GET", path)
        assert status == (200 if path in ("/", "/v1/models") else 404)
        assert (
            "default-src 'none'" in headers["content-security-policy"]
            and "unsafe" not in headers["content-security-policy"]
        )
        assert (
            headers["x-content-type-options"] == "nosniff"
            and headers["x-frame-options"] == "DENY"
            and headers["x-request-id"]
        )
        assert "server" not in headers


def test_errors_have_openais_shape(serve: Make) -> None:
    for method, path, status in (
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/audio/transcriptions", 405),
        ("POST", "/v1/chat/completions", 400),
    ):
        found, _, body = serve().ask(method, path, b"{" if method == "POST" else None)
        assert found == status and set(json.loads(body)["error"]) == {"message", "type", "param", "code"}


def test_the_log_has_neither_text_nor_audio_unless_asked_for(
    serve: Make, caplog: pytest.LogCaptureFixture
) -> None:
    def line(served: Served) -> dict[str, object]:
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="scriptorium.access"):
            text = served.transcribe(wav(voice(2)), prompt="a secret prompt")[2]["text"]
            deadline = time.monotonic() + 10
            while not caplog.records and time.monotonic() < deadline:
                time.sleep(0.01)
        (record,) = [record for record in caplog.records if record.name == "scriptorium.access"]
        assert "secret" not in record.getMessage()
        assert (text in record.getMessage()) == served.config.serve.log_text
        found: dict[str, object] = json.loads(record.getMessage())
        return found

    quiet = line(serve())
    assert (
        quiet["status"] == 200
        and quiet["audio_seconds"] == 2.0
        and quiet["path"] == "/v1/audio/transcriptions"
    )
    assert "text" in line(serve(log_text=True))


def test_strangers_are_not_let_in_without_keys() -> None:
    check: Callable[[ServeConfig], None] = middleware.check_address
    for host in ("127.0.0.1", "::1", "localhost"):
        check(ServeConfig(host=host))
    for host in ("0.0.0.0", "::", "10.0.0.1"):
        with pytest.raises(Problem, match="there are no keys"):
            check(ServeConfig(host=host))
        check(ServeConfig(host=host, allow_anonymous=True))
        check(ServeConfig(host=host, api_keys=[HASHED]))
    assert RunConfig().serve.host == "127.0.0.1"


def test_what_is_draining_refuses_new_work_and_is_not_ready(serve: Make) -> None:
    served = serve(max_requests=77)
    served.application.begin_to_end()
    status, headers, body = served.transcribe(wav(voice(1)))
    assert (status, body["error"]["code"]) == (503, "draining") and headers["retry-after"]
    assert served.ask("GET", "/readyz")[0] == 503 and served.ask("GET", "/healthz")[0] == 200
