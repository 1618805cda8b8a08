"""Memory of the server's processes under hostile load, measured from outside.

Each test compares the growth of memory with the size of the attack: what a server without the protection
would hold. The limits are at least half of that and several times the usual growth
(tests/benchmarks/RESULTS.md), so that they hold on a busy machine, where more requests overlap and the
allocator keeps more.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile
from websockets.sync.client import connect

from pipelines.serving.web.forms.bodies import JSON_COPIES, JSON_MEMORY, MAX_FIELD_BYTES, MAX_FIELDS
from tests.pipelines.serving.conftest import form, voice, wav

ROOT = Path(__file__).resolve().parents[4]
MIB = 1 << 20
MAX_UPLOAD = 16  # MiB of a request
CLIENTS = 24  # at once
CHUNK = 1 << 16
DONE_SECONDS = 120  # within which all requests of an attack must have ended


class MonitoredServer:
    """A server in a process of its own, and the memory of its processes in MiB.

    The front is the web server; its children are the decoders.
    """

    def __init__(self, url: str, process: psutil.Process) -> None:
        self.url, self.address = url, ("127.0.0.1", int(url.rpartition(":")[2]))
        self._process = process
        self.front_peak = self.children_peak = 0.0  # since `reset_peaks`
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._monitor, daemon=True)
        self._thread.start()

    def memory(self) -> tuple[float, float]:
        """Resident memory of the front and of its children."""
        children = 0.0
        for child in self._process.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                children += child.memory_info().rss / MIB
        return self._process.memory_info().rss / MIB, children

    def reset_peaks(self) -> tuple[float, float]:
        """Begin new peaks; returns `memory`."""
        self.front_peak, self.children_peak = memory = self.memory()
        return memory

    def _monitor(self) -> None:
        while not self._stop.wait(0.05):
            with contextlib.suppress(psutil.Error):
                front, children = self.memory()
                self.front_peak = max(self.front_peak, front)
                self.children_peak = max(self.children_peak, children)

    def post(self, path: str, content_type: str, body: Iterable[bytes], length: int | None = None) -> int:
        """Send a body in chunks; returns the status, or 0 if the server closed the connection."""
        size = f"Content-Length: {length}" if length is not None else "Transfer-Encoding: chunked"
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        head += f"Content-Type: {content_type}\r\n{size}\r\n\r\n"
        with socket.create_connection(self.address, 120) as client:
            with contextlib.suppress(OSError):
                client.sendall(head.encode())
                for chunk in body:
                    client.sendall(chunk if length is not None else b"%x\r\n%b\r\n" % (len(chunk), chunk))
                if length is None:
                    client.sendall(b"0\r\n\r\n")
            response = _read_all(client)
            return int(response.split()[1]) if response else 0

    def ready(self) -> dict[str, Any]:
        """The response of /readyz."""
        with socket.create_connection(self.address, 60) as client:
            client.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            response: dict[str, Any] = json.loads(_read_all(client).partition(b"\r\n\r\n")[2])
        return response

    def wait_until_idle(self) -> None:
        """Wait until no request and no stream is left."""
        deadline = time.monotonic() + DONE_SECONDS
        while (ready := self.ready()).get("requests") or ready.get("streams"):
            assert time.monotonic() < deadline, ready
            time.sleep(0.1)

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)


def _read_all(client: socket.socket) -> bytes:
    response = b""
    with contextlib.suppress(OSError):
        while chunk := client.recv(65536):
            response += chunk
    return response


@pytest.fixture(scope="module")
def server() -> Iterator[MonitoredServer]:
    settings = {"max_upload": MAX_UPLOAD, "max_audio": 600, "max_requests": 64, "call_seconds": 0.2}
    module = "tests.pipelines.serving.inference.single_process"
    command = [sys.executable, "-m", module, "fake:0.002", json.dumps(settings)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    url = json.loads(process.stdout.readline())["url"]
    # The access log must not fill the pipe.
    threading.Thread(target=process.stdout.read, daemon=True).start()
    monitored = MonitoredServer(url, psutil.Process(process.pid))
    content_type, body = form({"model": "fake"}, wav(voice(5)))
    # The first request loads everything.
    assert monitored.post("/v1/audio/transcriptions", content_type, [body], len(body)) == 200
    yield monitored
    monitored.close()
    process.kill()
    process.wait()


def chunks_of(body: bytes) -> list[bytes]:
    return [body[start : start + CHUNK] for start in range(0, len(body), CHUNK)]


def attack(send: Callable[[int], int]) -> dict[int, int]:
    """Send from many clients at once; returns how often each status was received."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        statuses = list(pool.map(send, range(CLIENTS)))
    return {status: statuses.count(status) for status in set(statuses)}


def check_growth(server: MonitoredServer, before: tuple[float, float], limit: float) -> tuple[float, float]:
    """Neither the front nor its children grew by `limit` MiB, at the peak or at the end; returns `memory`."""
    server.wait_until_idle()
    front, children = server.memory()
    figures = (
        f"MiB before, at the peak, after: front {before[0]:.0f}, {server.front_peak:.0f}, {front:.0f}; "
        f"children {before[1]:.0f}, {server.children_peak:.0f}, {children:.0f}; limit of growth {limit:.0f}"
    )
    print(figures)
    assert max(server.front_peak, front) - before[0] < limit, figures
    assert max(server.children_peak, children) - before[1] < limit, figures
    return front, children


def test_uploads_are_not_held_in_memory(server: MonitoredServer) -> None:
    """Half of the clients send nearly the largest upload, the others send without an end."""
    before = server.reset_peaks()
    content_type, body = form({"model": "fake"}, np.random.default_rng(0).bytes((MAX_UPLOAD - 1) * MIB))
    chunks = chunks_of(body)

    def send(number: int) -> int:
        path = "/v1/audio/transcriptions"
        if number % 2:
            return server.post(path, content_type, chunks, len(body))
        return server.post(
            path, content_type, (bytes(CHUNK) if count else chunks[0] for count in range(1000))
        )

    statuses = attack(send)
    # 0: the server closed the connection while more was arriving.
    assert statuses.get(400) == CLIENTS // 2 and set(statuses) <= {400, 413, 0}, statuses
    check_growth(server, before, CLIENTS * MAX_UPLOAD / 2)


@pytest.mark.parametrize(("fields", "size", "accepted"), [(7, MIB, 0), (19, 48 << 10, CLIENTS)])
def test_form_fields_take_bounded_memory(
    server: MonitoredServer, fields: int, size: int, accepted: int
) -> None:
    """Fields stay in memory until their file has arrived; an emoji makes a field four bytes per character."""
    before = server.reset_peaks()
    value = "\U0001f600".encode() + b"a" * (size - 4)
    field = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + value + b"\r\n"
    body = field * fields + b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    head = "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\n"
    head += "Content-Type: multipart/form-data; boundary=x\r\n"
    head += f"Content-Length: {len(body) + 1000}\r\n\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(CLIENTS):
            client = stack.enter_context(socket.create_connection(server.address, 60))
            with contextlib.suppress(OSError):
                client.sendall(head.encode() + body)
        deadline = time.monotonic() + DONE_SECONDS
        while (requests := server.ready()["requests"]) != accepted and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.2)
        assert requests == accepted
    # Three times what the fields of all clients may take, which is less than half of 7 fields of 1 MiB.
    check_growth(server, before, 3 * CLIENTS * MAX_FIELDS * MAX_FIELD_BYTES * 4 / MIB)


def test_chats_share_a_memory_budget(server: MonitoredServer) -> None:
    """A JSON body must be in memory to be parsed, so the bodies of all clients take turns."""
    before = server.reset_peaks()
    padding = b"\x7f" * ((MAX_UPLOAD - 2) * MIB * 3 // 4)  # an unknown chunk that ends behind the file's end
    audio = base64.b64encode(wav(voice(5)) + padding).decode()
    part = {"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{audio}"}}
    body = json.dumps({"model": "fake", "messages": [{"role": "user", "content": [part]}]}).encode()
    chunks = chunks_of(body)
    statuses = attack(
        lambda number: server.post("/v1/chat/completions", "application/json", chunks, len(body))
    )
    assert statuses == {200: CLIENTS}, statuses
    limit = 2 * JSON_MEMORY / MIB
    assert limit < CLIENTS * JSON_COPIES * len(body) / MIB * 0.6
    check_growth(server, before, limit)


def test_small_files_of_many_hours_are_not_decoded_into_memory(
    server: MonitoredServer, tmp_path: Path
) -> None:
    """Ten hours of silence, with the duration in the header and without it."""
    path = tmp_path / "silence.flac"
    with soundfile.SoundFile(path, "w", 8000, 1, "PCM_16", format="FLAC") as file:
        for _ in range(600):
            file.write(np.zeros(60 * 8000, np.int16))
    data = path.read_bytes()
    assert len(data) < 2 * MIB
    # STREAMINFO with an unknown number of samples.
    without_duration = bytes([*data[:21], data[21] & 0xF0, 0, 0, 0, 0, *data[26:]])
    second = 16_000 * 2 / MIB  # of decoded audio: int16 at 16 kHz

    def send(times: int) -> None:
        for file_data in (data, without_duration):
            content_type, body = form({"model": "fake"}, file_data)
            for _ in range(times):
                status = server.post("/v1/audio/transcriptions", content_type, [body], len(body))
                assert status in (400, 413)

    before, limit = server.reset_peaks(), 10 * 3600 * second / 2
    send(1)
    first = check_growth(server, before, limit)
    send(6)
    last = check_growth(server, before, limit)
    # A decoder keeps the memory of its first files, and needs no more for further ones. A leak of ten minutes
    # of each of the twelve files would be twice the limit.
    leak_limit = 12 * 600 * second / 2
    assert last[0] - first[0] < leak_limit and last[1] - first[1] < leak_limit, (before, first, last)


def test_streams_faster_than_the_models_are_not_read(server: MonitoredServer) -> None:
    """The server stops reading a client when the models are behind, and does not collect its audio."""
    before = server.reset_peaks()
    streams, events = 8, 100
    samples = voice(20).tobytes()
    event = json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(samples).decode()})

    def send(number: int) -> int:
        url = f"ws://127.0.0.1:{server.address[1]}/v1/realtime"
        with connect(url, proxy=None, max_size=None) as stream:
            deadline = time.monotonic() + 4
            sent = 0
            stream.socket.settimeout(1)
            with contextlib.suppress(Exception):
                while time.monotonic() < deadline and sent < events:
                    stream.send(event)
                    sent += 1
            stream.socket.close()
            return sent

    with ThreadPoolExecutor(streams) as pool:
        sent = sum(pool.map(send, range(streams)))
    assert sent >= streams
    check_growth(server, before, streams * events * len(samples) / MIB / 2)
