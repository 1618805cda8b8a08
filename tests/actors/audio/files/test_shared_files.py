"""A remote file that holds several recordings is fetched once: counted at a web server."""

import contextlib
import http.server
import io
import tarfile

import numpy as np
import pytest
import soundfile

from actors.audio.files.slices import Slice
from actors.audio.files.tar_members import walk_members
from actors.audio.sources import open_audio
from actors.config import AudioConfig, SegmenterConfig
from actors.decoder import Decoder
from tests.actors.audio.loopback_http import running

RATE, SECONDS = 16_000, 600


@pytest.fixture(scope="module")
def speech():
    """Ten minutes of noise as WAV: 19.2 MB, more than is fetched in one request."""
    noise = np.random.default_rng(0).integers(-9000, 9000, RATE * SECONDS, np.int16)
    sink = io.BytesIO()
    soundfile.write(sink, noise, RATE, format="WAV", subtype="PCM_16")
    return sink.getvalue()


@contextlib.contextmanager
def serve(files):
    """A web server with range requests; yields its address and what it sent: (method, path, bytes)."""
    sent = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, body=True):
            data, span = files[self.path], self.headers.get("Range")
            first, last = 0, len(data) - 1
            if span:
                low, _, high = span.removeprefix("bytes=").partition("-")
                first, last = int(low), min(last, int(high or last))
            self.send_response(206 if span else 200)
            self.send_header("Content-Length", str(last + 1 - first))
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", '"v1"')
            if span:
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
            self.end_headers()
            sent.append((self.command, self.path, last + 1 - first if body else 0))
            if body:
                self.wfile.write(data[first : last + 1])

        def do_GET(self):
            self.answer()

        def do_HEAD(self):
            self.answer(body=False)

        def log_message(self, *arguments):
            pass

    with running(Handler) as address:
        yield address, sent


def decode_all(rows, isolate=False):
    decoder = Decoder(
        AudioConfig(isolate=isolate, retries=0), SegmenterConfig(backend="energy", max_duration=60)
    )
    try:
        return decoder(rows)
    finally:
        decoder.close()


def row(audio, start, end, **more):
    window = {"start": start, "end": end}
    return {"audio": audio, "start": start, "end": end, "duration": end - start, "window": window, **more}


@pytest.mark.parametrize("isolate", [False, True])
def test_neighbouring_windows_of_a_large_file_cost_its_bytes_once(speech, isolate):
    with serve({"/long.wav": speech}) as (address, sent):
        rows = decode_all([row(f"{address}/long.wav", t, t + 5.0) for t in range(0, 100, 5)], isolate)
    assert [one["status"] for one in rows] == ["ok"] * 20
    # 100 s of 16-bit samples at 16 kHz are 3.2 MB.
    assert sum(size for *_, size in sent) < 3.2e6 + (2 << 20)
    assert len([command for command, *_ in sent if command == "GET"]) <= 8


def test_windows_of_a_small_file_cost_one_transfer(speech):
    small = speech[: 44 + 2 * RATE * 60]
    with serve({"/small.wav": small}) as (address, sent):
        decode_all([row(f"{address}/small.wav", t, t + 5.0) for t in range(0, 40, 5)])
    assert sum(size for *_, size in sent) <= len(small) + 64


def test_members_of_an_archive_cost_its_bytes_once(speech):
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for number in range(60):
            info = tarfile.TarInfo(f"{number}.wav")
            data = io.BytesIO()
            start = 44 + 2 * RATE * 5 * number
            samples = np.frombuffer(speech[start : start + 2 * RATE * 5], np.int16)
            soundfile.write(data, samples, RATE, format="WAV", subtype="PCM_16")
            info.size = len(data.getvalue())
            tar.addfile(info, io.BytesIO(data.getvalue()))
    with serve({"/x.tar": sink.getvalue()}) as (address, sent):
        uri = f"{address}/x.tar"
        with open_audio(uri) as file:
            members = list(walk_members(file))
        assert sum(size for *_, size in sent) < len(sink.getvalue()) + (2 << 20)
        sent.clear()
        rows = [
            {"audio": f"{uri}#{member.name}", "location": str(Slice(uri, member.start, member.end))}
            | {"start": 0.0, "end": None, "duration": 5.0}
            for member in members
        ]
        found = decode_all(rows)
        assert [one["status"] for one in found] == ["ok"] * 60
        assert sum(size for *_, size in sent) < len(sink.getvalue()) + (2 << 20)


def test_a_file_is_not_kept_for_another_one(speech):
    small = speech[: 44 + 2 * RATE * 60]
    with serve({"/a.wav": small, "/b.wav": small}) as (address, sent):
        order = ["a", "b", "a"]
        rows = decode_all([row(f"{address}/{name}.wav", 1.0, 2.0) for name in order])
    assert [one["status"] for one in rows] == ["ok"] * 3
    assert sum(size for *_, size in sent) >= 3 * len(small)
