"""Addresses that clients name: nothing inside, nothing unlisted, nothing that moves."""

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

INSIDE = [
    "127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
    "[::1]", "[::]", "[fe80::1]", "[fd00:ec2::254]", "[::ffff:127.0.0.1]", "[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::]", "224.0.0.1", "255.255.255.255",
]  # fmt: skip


def fetch(uri: str, allowed: str, most: int) -> bytes:
    """What is fetched from an address."""
    file = io.BytesIO()
    asyncio.run(audio_url.fetched(uri, [allowed], most, 5, file))
    return file.getvalue()


@pytest.mark.parametrize("host", INSIDE)
def test_addresses_inside_are_refused_even_if_they_are_listed(host: str) -> None:
    with pytest.raises(Problem, match="inside of a network"):
        audio_url.check_uri(f"http://{host}/a.wav", [f"http://{host}/", "http://", "https://"])


@pytest.mark.parametrize(
    "host", ["127。0。0。1", "１２７.0.0.1", "①②⑦.0.0.1", "127．0．0．1", "bücher.example"]
)
def test_hosts_that_become_others_when_they_are_spelled_in_ascii_are_refused(host: str) -> None:
    with pytest.raises(Problem, match="must be ASCII"):
        fetch(f"http://{host}:1/a.wav", "http://", 1000)


def test_what_was_looked_at_is_what_is_connected_to() -> None:
    assert audio_url.check_uri("http://A.example/audio/x%20y.wav?a=b", ["http://"]).raw_host == "a.example"
    with pytest.raises(Problem, match="no address"):
        audio_url.check_uri("http://a.example\\@evil.example/x", ["http://"])


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc/passwd", "/etc/passwd", "ftp://a.example/x", "s3://bucket/x", "http:///x", "http://", "gopher://a.example/",
        "http://other.example/audio/x.wav", "http://a.example/audio/../secret", "http://a.example/audio/%2e%2e/secret",
        "http://a.example.evil.example/audio/x", "http://a.example@evil.example/audio/x", "http://user@a.example/audio/x", "http://a.example:81/audio/x",
        "http://[::1/audio", "http://a.example/audiobook/x",
    ],
)  # fmt: skip
def test_what_is_not_below_a_listed_prefix_is_refused(uri: str) -> None:
    with pytest.raises(Problem) as caught:
        audio_url.check_uri(uri, ["http://a.example/audio/"])
    assert caught.value.status == 400


def test_names_that_lead_inside_are_refused_when_they_are_resolved() -> None:
    with pytest.raises(Problem, match="could not be fetched"):
        fetch("http://localhost:1/a.wav", "http://localhost:1/", 1000)


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
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


def test_an_allowed_address_is_read_and_its_limits_hold(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        audio_url, "is_public", lambda address: True
    )  # the only public server at hand is this machine
    assert fetch(f"{store}a.wav", store, 10**6) == wav(voice(2))
    with pytest.raises(Problem) as caught:
        fetch(f"{store}a.wav", store, 1000)
    assert caught.value.status == 413
    with pytest.raises(Problem, match="redirections are not followed"):
        fetch(f"{store}moved.wav", store, 10**6)


def test_the_route_refuses_them_too(serve: Make) -> None:
    for url in ("http://169.254.169.254/latest/meta-data", "file:///etc/passwd", "http://a.example/x.wav"):
        body = {
            "model": "fake",
            "messages": [{"role": "user", "content": [{"type": "audio_url", "audio_url": {"url": url}}]}],
        }
        import json

        status, _, answer = serve().ask(
            "POST", "/v1/chat/completions", json.dumps(body).encode(), Content_Type="application/json"
        )
        assert (status, json.loads(answer)["error"]["param"]) == (400, "audio_url")
