"""User names, passwords and signatures in addresses are stored in the plan only, and shown nowhere."""

from __future__ import annotations

import base64
import json
import stat
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.faults.environment.commands import FAKE, ROOT, Result, scriptorium

pytestmark = pytest.mark.faults

AUDIO = ROOT / "configs/demo/audio/hotline-8khz.wav"
SECRETS = ("me-user", "hush-password", "hush-signature", "hush-sig", "hush-token")
LOGIN = "Basic " + base64.b64encode(b"me-user:hush-password").decode()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Serves `/audio.wav` to those with the right login or signature, and refuses all others."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            allowed = self.headers.get("Authorization") == LOGIN or "hush-sig" in self.path
            if not allowed or "/missing" in self.path:
                self.send_error(403 if not allowed else 404, f"refused: {self.path}")
                return
            data = AUDIO.read_bytes()
            start, end = 0, len(data) - 1
            if asked := self.headers.get("Range"):
                first, _, last = asked.removeprefix("bytes=").partition("-")
                start, end = int(first), min(int(last or end), end)
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{end}/{len(data)}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(end + 1 - start))
            self.send_header("Accept-Ranges", "bytes")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data[start : end + 1])

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{listening.server_port}"
    listening.shutdown()


@pytest.fixture(scope="module")
def run(server: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Result]]:
    """A run over signed addresses, its report and its state: OUT and what the commands printed."""
    folder = tmp_path_factory.mktemp("credentials")
    login, host = f"http://me-user:hush-password@{server}", f"http://{server}"
    addresses = [
        f"{login}/audio.wav?file=1",
        f"{host}/audio.wav?file=2&X-Amz-Credential=hush-token&X-Amz-Signature=hush-signature&sig=hush-sig",
        f"{host}/audio.wav?sv=2026&se=2026-11-27T00:00:00Z&sig=hush-sig",
        f"{login}/missing/audio.wav",
        f"{host}/audio.wav?token=hush-token",
        f"{host}/missing/audio.wav?sig=hush-sig",
    ]
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps({"audio": address}) + "\n" for address in addresses))
    out, options = folder / "out", (*FAKE, "--set", "audio.retries=0")
    return out, [
        scriptorium("plan", manifest, *options),
        scriptorium("transcribe", manifest, out, "--show", *options),
        scriptorium("status", out),
        scriptorium("report", out),
    ]


@pytest.mark.ray
def test_a_run_fetches_with_credentials_and_says_nothing_of_them(run: tuple[Path, list[Result]]) -> None:
    _, results = run
    assert [result.code for result in results] == [0, 3, 0, 0], results
    assert "6 recordings = 3 transcripts + 3 dead letters" in results[1].out
    for result in results:
        assert not [secret for secret in SECRETS if secret in result.out + result.err], result


@pytest.mark.ray
def test_only_the_plan_has_credentials_and_only_its_owner_can_read_it(run: tuple[Path, list[Result]]) -> None:
    out, _ = run
    leaks = []
    for path in (path for path in out.rglob("*") if path.is_file()):
        is_parquet = path.suffix in (".parquet", ".index")
        text = str(pq.read_table(path).to_pylist()) if is_parquet else path.read_text(errors="replace")
        found = [secret for secret in SECRETS if secret in text]
        if path.parent.name == "plan":
            assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
        elif found:
            leaks.append((path.name, found))
    assert not leaks


@pytest.mark.ray
def test_stored_addresses_still_tell_files_apart(run: tuple[Path, list[Result]], server: str) -> None:
    out, _ = run
    files = (out / "transcripts").glob("*.parquet")
    rows = [row for path in files for row in pq.read_table(path).to_pylist()]
    assert sorted(row["audio"] for row in rows) == [
        f"http://***@{server}/audio.wav?file=1",
        f"http://{server}/audio.wav?file=2&X-Amz-Credential=***&X-Amz-Signature=***&sig=***",
        f"http://{server}/audio.wav?sv=***&se=***&sig=***",
    ]
    assert {row["recording_id"] for row in rows} == {row["audio"] for row in rows}
