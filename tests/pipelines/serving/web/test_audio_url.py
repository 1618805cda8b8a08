"""URLs that clients send: no private addresses, nothing outside the allowed prefixes, no redirects."""

import asyncio
import http.server
import io
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pipelines.serving.web import audio_url
from pipelines.serving.web.errors import Problem
from tests.pipelines.serving.conftest import Make, voice, wav

PRIVATE_HOSTS = [
    "127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1",
    "169.254.169.254", "100.64.0.1", "0.0.0.0", "[::1]", "[::]", "[fe80::1]", "[fd00:ec2::254]",
    "[::ffff:127.0.0.1]", "[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::]", "224.0.0.1", "255.255.255.255",
]  # fmt: skip


def fetch(uri: str, allowed: str, max_bytes: int) -> bytes:
    """The contents of a URL."""
    file = io.BytesIO()
    asyncio.run(audio_url.fetch(uri, [allowed], max_bytes, 5, file))
    return file.getvalue()


@pytest.mark.parametrize("host", PRIVATE_HOSTS)
def test_private_addresses_are_refused_even_if_allowed_uris_lists_them(host: str) -> None:
    with pytest.raises(Problem, match="private address"):
        audio_url.check_uri(f"http://{host}/a.wav", [f"http://{host}/", "http://", "https://"])


@pytest.mark.parametrize(
    "host", ["127。0。0。1", "１２７.0.0.1", "①②⑦.0.0.1", "127．0．0．1", "bücher.example"]
)
def test_hosts_that_are_not_ascii_are_refused(host: str) -> None:
    with pytest.raises(Problem, match="must be ASCII"):
        fetch(f"http://{host}:1/a.wav", "http://", 1000)


def test_the_checked_host_is_the_host_of_the_connection() -> None:
    assert audio_url.check_uri("http://A.example/audio/x%20y.wav?a=b", ["http://"]).raw_host == "a.example"
    with pytest.raises(Problem, match="not a valid URL"):
        audio_url.check_uri("http://a.example\\@evil.example/x", ["http://"])


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc/passwd", "/etc/passwd", "ftp://a.example/x", "s3://bucket/x", "http:///x", "http://",
        "gopher://a.example/", "http://other.example/audio/x.wav", "http://a.example/audio/../secret",
        "http://a.example/audio/%2e%2e/secret", "http://a.example.evil.example/audio/x",
        "http://a.example@evil.example/audio/x", "http://user@a.example/audio/x", "http://a.example:81/audio/x",
        "http://[::1/audio", "http://a.example/audiobook/x",
    ],
)  # fmt: skip
def test_urls_outside_the_allowed_prefixes_are_refused(uri: str) -> None:
    with pytest.raises(Problem) as caught:
        audio_url.check_uri(uri, ["http://a.example/audio/"])
    assert caught.value.status == 400


def test_names_that_resolve_to_private_addresses_are_refused() -> None:
    with pytest.raises(Problem, match="could not be fetched"):
        fetch("http://localhost:1/a.wav", "http://localhost:1/", 1000)


@pytest.fixture(scope="module")
def file_server() -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            moved = self.path == "/moved.wav"
            self.send_response(302 if moved else 200)
            if moved:
                self.send_header("Location", "http://127.0.0.1/secret")
            body = wav(voice(2))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


def test_an_allowed_url_is_fetched_up_to_the_size_limit_and_without_redirects(
    file_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio_url, "is_public", lambda address: True)  # the test server is on loopback
    assert fetch(f"{file_server}a.wav", file_server, 10**6) == wav(voice(2))
    with pytest.raises(Problem) as caught:
        fetch(f"{file_server}a.wav", file_server, 1000)
    assert caught.value.status == 413
    with pytest.raises(Problem, match="redirects are not followed"):
        fetch(f"{file_server}moved.wav", file_server, 10**6)


def test_the_chat_route_refuses_forbidden_urls(serve: Make) -> None:
    for url in ("http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "http://a.example/x.wav"):
        part = {"type": "audio_url", "audio_url": {"url": url}}
        body = {"model": "fake", "messages": [{"role": "user", "content": [part]}]}
        status, response = serve().post_json("/v1/chat/completions", body)
        assert (status, response["error"]["param"]) == (400, "audio_url")
