"""Headers of many files: one that hangs or kills its reader affects only itself."""

import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from actors.config import AudioConfig
from actors.errors import UsageError
from pipelines.config_sections import PlanConfig
from pipelines.planning import header_scan
from pipelines.planning.header_scan import plausible, read_headers


def recordings(folder: Path, count: int) -> list[str]:
    for number in range(count):
        soundfile.write(folder / f"{number}.wav", np.zeros(1600 * (number + 1)), 16_000)
    return [str(folder / f"{number}.wav") for number in range(count)]


def read(addresses: list[str], timeout: float = 60, isolate: bool = True) -> list[dict]:
    plan, audio = PlanConfig(probe_timeout=timeout, probe_concurrency=4), AudioConfig(isolate=isolate)
    return read_headers(
        pa.chunked_array([addresses], pa.string()), np.ones(len(addresses), bool), plan, audio
    ).to_pylist()


def children(parent: int | None = None) -> list[int]:
    """Child processes (by default of this one) that read headers."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == (
                parent or os.getpid()
            ):
                found += (
                    [int(entry.name)]
                    if b"actors.process.isolation" in (entry / "cmdline").read_bytes()
                    else []
                )
        except OSError:
            continue
    return found


@pytest.mark.parametrize("isolate", [True, False])
def test_headers_come_in_order_with_errors_as_codes(tmp_path: Path, isolate: bool) -> None:
    paths = recordings(tmp_path, 5)
    (tmp_path / "empty.wav").write_bytes(b"")
    paths.insert(2, str(tmp_path / "empty.wav"))
    rows = read([*paths, str(tmp_path / "absent.wav")], isolate=isolate)
    assert [row["duration"] for row in rows] == pytest.approx([0.1, 0.2, None, 0.3, 0.4, 0.5, None])
    assert [row["probe_error"] for row in rows] == [
        None,
        None,
        "empty_file",
        None,
        None,
        None,
        "audio_not_found",
    ]
    assert children() == []


@pytest.mark.timeout(240)
def test_a_header_that_hangs_affects_only_itself(tmp_path: Path) -> None:
    paths = recordings(tmp_path, 9)
    # More than are read at the same time. Opening a pipe waits for a writer that never comes.
    for number in range(5):
        os.mkfifo(tmp_path / f"pipe{number}")
        paths.insert(2 * number, str(tmp_path / f"pipe{number}"))
    rows = read(paths, timeout=2)
    assert {row["probe_error"] for path, row in zip(paths, rows, strict=True) if "pipe" in path} == {
        "decode_timeout"
    }
    assert [
        row["duration"] for path, row in zip(paths, rows, strict=True) if "pipe" not in path
    ] == pytest.approx([0.1 * number for number in range(1, 10)])
    assert children() == []


STOPPED = """
import signal, sys, numpy, pyarrow
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that run in the background ignore SIGINT
from actors.config import AudioConfig
from pipelines.supervision import shutdown
from pipelines.config_sections import PlanConfig
from pipelines.planning.header_scan import read_headers
try:
    with shutdown.handle_signals():
        addresses = pyarrow.chunked_array([sys.argv[1:]], pyarrow.string())
        read_headers(addresses, numpy.ones(len(addresses), bool), PlanConfig(probe_timeout=3600),
        AudioConfig())
except KeyboardInterrupt:
    print("stopped in order")
"""


@pytest.mark.timeout(240)
def test_a_stop_does_not_wait_for_headers_that_hang(tmp_path: Path) -> None:
    """After Ctrl-C during a request that gets no answer, no waiting thread and no child process is left."""
    pytest.importorskip("aiohttp", reason="http addresses need aiohttp")
    with socket.create_server(("127.0.0.1", 0)) as store:
        store.settimeout(120)
        address = f"http://127.0.0.1:{store.getsockname()[1]}/a.wav"
        environment = {**os.environ, "NO_PROXY": "127.0.0.1"}
        process = subprocess.Popen(
            [sys.executable, "-c", STOPPED, address], stdout=subprocess.PIPE, text=True, env=environment
        )
        try:
            connection, _ = store.accept()
            readers = children(process.pid)
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=60)
            connection.close()
        finally:
            process.kill()
            process.wait()
    assert (process.returncode, said) == (0, "stopped in order\n")
    assert readers and not any(Path(f"/proc/{pid}").exists() for pid in readers)


class Killer(http.server.BaseHTTPRequestHandler):
    """A server that kills the child processes of this process that read headers."""

    killed: ClassVar[list[int]] = []

    def do_GET(self) -> None:
        for pid in children():
            os.kill(pid, signal.SIGKILL)
            self.killed.append(pid)

    do_HEAD = do_GET

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.mark.timeout(240)
def test_a_header_that_kills_its_reader_affects_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiohttp", reason="http addresses need aiohttp")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    paths = recordings(tmp_path, 6)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Killer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        paths.insert(3, f"http://127.0.0.1:{server.server_address[1]}/a.wav")
        rows = read(paths)
        server.shutdown()
    assert len(Killer.killed) >= 2, "the file was not read again in isolation"
    assert [row["probe_error"] for row in rows] == [None] * 3 + ["decoder_crashed"] + [None] * 3
    assert [row["duration"] for row in rows if not row["probe_error"]] == pytest.approx(
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    )


def test_an_implausible_duration_counts_as_unknown() -> None:
    assert (
        plausible(100.0, 800) == 100.0
        and plausible(101.0, 800) is None
        and plausible(101.0, 800, counted=True) == 101.0
    )
    assert (
        plausible(-1.0, 800) is None
        and plausible(float("nan"), None) is None
        and plausible(None, 800) is None
    )
    assert plausible(86400.0 * 61, None) is None and plausible(86400.0 * 61, 10**12) is None, (
        "no recording is longer than two months"
    )


def test_without_a_temporary_folder_a_plan_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError("No usable temporary directory")

    monkeypatch.setattr("tempfile.gettempdir", none)
    with pytest.raises(UsageError, match="TMPDIR"):
        header_scan._require_temporary_folder()
