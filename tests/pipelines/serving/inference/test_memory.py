"""Memory of the server's processes under hostile load, measured from outside."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
from websockets.sync.client import connect

from tests.pipelines.serving.conftest import form, voice, wav

ROOT = Path(__file__).resolve().parents[4]
MIB = 1 << 20
MOST = 8  # MiB of a request
FLOOD = 24  # clients at once


class Watched:
    """A server in a process of its own, and what its processes hold."""

    def __init__(self, url: str, process: psutil.Process) -> None:
        self.url, self.address = url, ("127.0.0.1", int(url.rpartition(":")[2]))
        self._process = process
        self.front = self.children = 0.0  # most MiB seen since `calm`
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def now(self) -> tuple[float, float]:
        """MiB of the front and of its children, now."""
        children = 0.0
        for child in self._process.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                children += child.memory_info().rss / MIB
        return self._process.memory_info().rss / MIB, children

    def calm(self) -> tuple[float, float]:
        """`now`, and forget the peaks."""
        found = self.now()
        self.front, self.children = found
        return found

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            with contextlib.suppress(psutil.Error):
                front, children = self.now()
                self.front, self.children = max(self.front, front), max(self.children, children)

    def post(self, path: str, kind: str, pieces: Iterator[bytes], length: int | None = None) -> int:
        """Send a body piece by piece; the status, or 0 where the server hung up."""
        with socket.create_connection(self.address, 120) as client:
            size = f"Content-Length: {length}" if length is not None else "Transfer-Encoding: chunked"
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: {kind}\r\n{size}\r\n\r\n"
            with contextlib.suppress(OSError):
                client.sendall(head.encode())
                for piece in pieces:
                    client.sendall(piece if length is not None else b"%x\r\n%b\r\n" % (len(piece), piece))
                if length is None:
                    client.sendall(b"0\r\n\r\n")
            answer = b""
            with contextlib.suppress(OSError):
                while chunk := client.recv(65536):
                    answer += chunk
            return int(answer.split()[1]) if answer else 0

    def end(self) -> None:
        self._over.set()
        self._thread.join(5)


@pytest.fixture(scope="module")
def server() -> Iterator[Watched]:
    settings = json.dumps({"max_upload": MOST, "max_audio": 600, "max_requests": 64, "call_seconds": 0.2})
    command = [
        sys.executable,
        "-m",
        "tests.pipelines.serving.inference.single_process",
        "fake:0.002",
        settings,
    ]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    url = json.loads(process.stdout.readline())["url"]
    threading.Thread(target=process.stdout.read, daemon=True).start()  # the access log must not fill its pipe
    watched = Watched(url, psutil.Process(process.pid))
    kind, body = form({"model": "fake"}, wav(voice(5)))
    assert watched.post("/v1/audio/transcriptions", kind, iter([body]), len(body)) == 200  # all is loaded
    yield watched
    watched.end()
    process.kill()
    process.wait()


def flood(send: Callable[[int], int]) -> dict[int, int]:
    """What many clients at once are answered: how often each status."""
    with ThreadPoolExecutor(FLOOD) as pool:
        statuses = list(pool.map(send, range(FLOOD)))
    return {status: statuses.count(status) for status in set(statuses)}


def check(server: Watched, before: tuple[float, float], peak: float) -> None:
    """The front never held much more than before, and nothing is left; MiB."""
    front, children = server.now()
    figures = f"front {before[0]:.0f}, {server.front:.0f}, {front:.0f} MiB; children {before[1]:.0f}, {server.children:.0f}, {children:.0f} MiB"
    print(f"before, at most, after: {figures}")
    assert server.front - before[0] < peak and server.children - before[1] < peak, figures
    assert front - before[0] < 60 and children - before[1] < 60, figures
    status = json.loads(_get(server, "/readyz"))
    assert (status["requests"], status["streams"]) == (0, 0)


def _get(server: Watched, path: str) -> str:
    with socket.create_connection(server.address, 30) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
    return answer.partition(b"\r\n\r\n")[2].decode()


def test_a_flood_of_uploads(server: Watched) -> None:
    """Files of nearly all that a request may have, and bodies without end."""
    before = server.calm()
    kind, body = form({"model": "fake"}, np.random.default_rng(0).bytes((MOST - 1) * MIB))
    pieces = [body[place : place + 65536] for place in range(0, len(body), 65536)]

    def send(number: int) -> int:
        if number % 2:
            return server.post("/v1/audio/transcriptions", kind, iter(pieces), len(body))
        return server.post(
            "/v1/audio/transcriptions", kind, (bytes(65536) if count else pieces[0] for count in range(1000))
        )

    statuses = flood(send)
    assert statuses.get(400) == FLOOD // 2 and set(statuses) <= {400, 413, 0}, (
        statuses
    )  # 0: it hung up while more was coming
    check(server, before, 80)


@pytest.mark.parametrize(("fields", "size", "held"), [(7, MIB, 0), (19, 48 << 10, FLOOD)])
def test_forms_that_are_all_fields(server: Watched, fields: int, size: int, held: int) -> None:
    """Fields stay in memory while their file is under way; one character of four bytes makes all others in its field as wide."""
    before = server.calm()
    field = (
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n'
        + "\U0001f600".encode()
        + b"a" * (size - 4)
        + b"\r\n"
    )
    body = field * fields + b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    head = f"Host: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(body) + 1000}"
    with contextlib.ExitStack() as stack:
        for _ in range(FLOOD):
            client = stack.enter_context(socket.create_connection(server.address, 30))
            with contextlib.suppress(OSError):
                client.sendall(f"POST /v1/audio/transcriptions HTTP/1.1\r\n{head}\r\n\r\n".encode() + body)
        deadline = time.monotonic() + 30
        while (
            found := json.loads(_get(server, "/readyz"))["requests"]
        ) != held and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.2)
        assert found == held
    while json.loads(_get(server, "/readyz"))["requests"] and time.monotonic() < deadline:
        time.sleep(0.05)
    check(server, before, 150)


def test_a_flood_of_chats(server: Watched) -> None:
    """JSON has to be in memory to be read: so many bodies take turns."""
    before = server.calm()
    padding = b"\x7f" * ((MOST - 2) * MIB * 3 // 4)  # a chunk that FFmpeg does not know, longer than the file
    audio = base64.b64encode(wav(voice(5)) + padding).decode()
    message = {
        "role": "user",
        "content": [{"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{audio}"}}],
    }
    body = json.dumps({"model": "fake", "messages": [message]}).encode()
    pieces = [body[place : place + 65536] for place in range(0, len(body), 65536)]
    statuses = flood(
        lambda number: server.post("/v1/chat/completions", "application/json", iter(pieces), len(body))
    )
    assert statuses == {200: FLOOD}, statuses
    check(server, before, 300)  # uploads.PARSED, however many clients there are


def test_small_files_with_hours_in_them(server: Watched, tmp_path: Path) -> None:
    """Silence of five hours: told by its header, and with a header that does not tell."""
    before = server.calm()
    told = tmp_path / "told.flac"
    with soundfile.SoundFile(told, "w", 8000, 1, "PCM_16", format="FLAC") as file:
        for _ in range(300):
            file.write(np.zeros(60 * 8000, np.int16))
    data = bytearray(told.read_bytes())
    assert len(data) < MIB
    untold = bytes(
        [*data[:21], data[21] & 0xF0, 0, 0, 0, 0, *data[26:]]
    )  # STREAMINFO: number of samples unknown

    def send() -> None:
        for bomb in (bytes(data), untold):
            kind, body = form({"model": "fake"}, bomb)
            statuses = {
                server.post("/v1/audio/transcriptions", kind, iter([body]), len(body)) for _ in range(3)
            }
            assert statuses <= {400, 413}, statuses

    send()
    assert server.front - before[0] < 60 and server.children - before[1] < 300, (
        before,
        server.front,
        server.children,
    )
    before = server.calm()  # what a decoding process has needed once, it keeps
    send()
    check(server, before, 60)


def test_streams_that_send_faster_than_anybody_can_hear(server: Watched) -> None:
    """The client is not read where the models are behind, and hours of it are not kept."""
    before = server.calm()
    sound = base64.b64encode(voice(20).tobytes()).decode()
    event = json.dumps({"type": "input_audio_buffer.append", "audio": sound})

    def send(number: int) -> int:
        with connect(f"ws://127.0.0.1:{server.address[1]}/v1/realtime", proxy=None, max_size=None) as stream:
            end = time.monotonic() + 4
            count = 0
            stream.socket.settimeout(1)
            with contextlib.suppress(Exception):
                while time.monotonic() < end:
                    stream.send(event)
                    count += 1
            stream.socket.close()
            return count

    with ThreadPoolExecutor(8) as pool:
        sent = sum(pool.map(send, range(8)))
    assert sent >= 8
    deadline = time.monotonic() + 60
    while json.loads(_get(server, "/readyz"))["streams"] and time.monotonic() < deadline:
        time.sleep(0.1)
    check(server, before, 150)
