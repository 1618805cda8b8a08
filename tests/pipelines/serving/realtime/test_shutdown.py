"""SIGTERM: running requests are finished, new ones are refused, and the process exits with code 0."""

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.serving.conftest import form, voice, wav

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def server() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in a process of its own, and its URL."""
    command = [sys.executable, "-m", "tests.pipelines.serving.inference.single_process", "fake:0.6"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.stderr.read() if process.stderr else ""
    yield process, json.loads(line)["url"]
    process.kill()
    process.communicate()


def fetch_json(request: urllib.request.Request | str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def post(url: str, seconds: float) -> tuple[int, Any]:
    """Transcribe a file of some seconds."""
    content_type, body = form({"model": "fake"}, wav(voice(seconds)))
    headers = {"Content-Type": content_type}
    return fetch_json(urllib.request.Request(f"{url}/v1/audio/transcriptions", body, headers))


def ready(url: str) -> Any:
    return fetch_json(f"{url}/readyz")[1]


def test_sigterm_finishes_running_requests_and_refuses_new_ones(
    server: tuple[subprocess.Popen[str], str],
) -> None:
    process, url = server
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(post, url, 10)  # six seconds of work, in which the steps below must be done
        deadline = time.monotonic() + 60
        while ready(url).get("requests") != 1:
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGTERM)
        while ready(url)["status"] != "draining":
            assert time.monotonic() < deadline
        status, body = post(url, 1)
        assert (status, body["error"]["code"]) == (503, "draining") and not slow.done()
        status, body = slow.result(60)
        assert status == 200 and len(body["text"].split()) == 20
    assert process.wait(60) == 0
    lines = [json.loads(line) for line in process.communicate()[0].splitlines()]
    statuses = [line["status"] for line in lines if line["path"] == "/v1/audio/transcriptions"]
    assert sorted(statuses) == [200, 503]


def test_a_second_signal_ends_the_server_at_once(server: tuple[subprocess.Popen[str], str]) -> None:
    process, url = server
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(post, url, 14)
        deadline = time.monotonic() + 60
        while ready(url).get("requests") != 1:
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGINT)
        while ready(url)["status"] != "draining":
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGINT)
        assert process.wait(60) is not None
        status, body = slow.result(60)
        assert (status, body["error"]["code"]) == (503, "draining")
