"""Recordings that refer to other files and servers: nothing but the file itself is ever opened."""

from __future__ import annotations

import ctypes
import http.server
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile

from actors.decoder import Decoder
from tests.faults.harness.hostile_audio import DEMO, NOISE, REFUSALS, boxes, decode, outcome

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


class RequestRecorder(http.server.BaseHTTPRequestHandler):
    """Records the requests that arrive."""

    requested: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.requested.append(self.path)
        self.send_error(404)

    do_HEAD = do_GET

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server_url() -> Iterator[str]:
    RequestRecorder.requested.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), RequestRecorder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class Watch:
    """Reports whether a file was opened, from the kernel's inotify events."""

    def __init__(self, path: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor = libc.inotify_init1(os.O_NONBLOCK)
        assert libc.inotify_add_watch(self.descriptor, os.fsencode(path), 0x20 | 0x01) >= 0, (
            "IN_OPEN, IN_ACCESS"
        )

    def opened(self) -> bool:
        try:
            return bool(os.read(self.descriptor, 4096))
        except BlockingIOError:
            return False


def with_reference(data: bytes, target: str) -> bytes:
    """An mp4 that declares its samples to be in another file (an `alis` entry); all box sizes are right."""
    name = target.encode()
    alias = (
        bytes(10)
        + b"\x01v"
        + bytes(26)
        + bytes(12)
        + bytes([min(63, len(name))])
        + name[:63].ljust(63, b"\0")
        + bytes(16)
    )
    alias += (
        struct.pack(">hh", -1, -1)
        + bytes(16)
        + struct.pack(">hH", 2, len(name))
        + name
        + bytes(len(name) % 2)
        + struct.pack(">hH", -1, 0)
    )
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    place = data.index(b"dref") - 4
    size = struct.unpack(">I", data[place : place + 4])[0]
    box = struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry
    result = bytearray(data[:place] + box + data[place + size :])
    for start, kind in [*boxes(data, 0, len(data))]:
        length = struct.unpack(">I", data[start : start + 4])[0]
        if kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf") and start < place < start + length:
            result[start : start + 4] = struct.pack(">I", length + len(box) - size)
    return bytes(result)


@pytest.mark.parametrize("name", ["a.wav", "a.m3u8", "a.mp4"])
def test_no_recording_makes_us_open_another_file(
    name: str, tmp_path: Path, decoder: Decoder, server_url: str
) -> None:
    """Playlists, references and session descriptions: neither a neighbouring file nor a server is accessed,
    whatever the name.
    """
    secret = tmp_path / "secret.wav"
    soundfile.write(secret, NOISE, 16_000)
    watch = Watch(secret)
    contents = {
        "hls": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n"
        f"{server_url}/hls.ts\n#EXTINF:9,\nfile://{secret}\n#EXT-X-ENDLIST\n",
        "hls key": f'#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXT-X-KEY:METHOD=AES-128,URI="{server_url}/key"\n'
        f"#EXTINF:9,\n{secret}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile '{secret}'\n",
        "concat beside": "ffconcat version 1.0\nfile secret.wav\n",
        "concat web": f"ffconcat version 1.0\nfile {server_url}/concat.wav\n",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 45678 RTP/AVP 0\n",
        "rtsp": "RTSP/1.0 302 Found\r\nLocation: rtsp://127.0.0.1/\r\n",
        "dash": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'mediaPresentationDuration="PT9S"><Period><AdaptationSet mimeType="audio/mp4">'
        '<Representation id="1" bandwidth="1">'
        f"<BaseURL>{server_url}/dash.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>",
        "pls": f"[playlist]\nFile1={server_url}/pls.mp3\nNumberOfEntries=1\n",
        "asx": f'<ASX version="3.0"><Entry><Ref href="{server_url}/asx.mp3"/></Entry></ASX>',
        "svg": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{server_url}/svg.png"/></svg>',
        "mov text": f"RTSPtext\r\n{server_url}/mov\r\n",
    }
    path = tmp_path / name
    for kind, text in contents.items():
        path.write_text(text)
        row = decode(decoder, path)
        assert outcome(row) == "not_audio", (kind, outcome(row), row["error_message"])
    for target in (str(secret), f"{server_url}/track.mov", f"file://{secret}"):
        path.write_bytes(with_reference((DEMO / "memo.m4a").read_bytes(), target))
        assert outcome(decode(decoder, path)) in REFUSALS | {"ok", "partial", "no_speech"}
    assert not watch.opened(), "the other file was opened"
    assert RequestRecorder.requested == [], "the server was asked"
    secret.read_bytes()
    assert watch.opened(), "the watch does not see"
