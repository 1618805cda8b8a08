"""SIGTERM: what is in work ends well, nothing new begins, and the process is gone with exit code 0."""

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
def running() -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "tests.pipelines.serving.inference.single_process"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.stderr.read() if process.stderr else ""
    yield process, json.loads(line)["url"]
    process.kill()
    process.communicate()


def post(url: str, seconds: float) -> tuple[int, Any]:
    kind, body = form({"model": "fake"}, wav(voice(seconds)))
    request = urllib.request.Request(f"{url}/v1/audio/transcriptions", body, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def ready(url: str) -> Any:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=30) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return json.loads(error.read())


def test_work_ends_and_nothing_new_begins(running: tuple[subprocess.Popen[str], str]) -> None:
    process, url = running
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(post, url, 10)  # three seconds of work
        deadline = time.monotonic() + 30
        while ready(url).get("requests") != 1:
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGTERM)
        while ready(url)["status"] != "draining":
            assert time.monotonic() < deadline
        status, body = post(url, 1)
        assert (status, body["error"]["code"]) == (503, "draining") and not slow.done()
        status, body = slow.result(60)
        assert status == 200 and len(body["text"].split()) == 20
    assert process.wait(30) == 0
    lines = [json.loads(line) for line in process.communicate()[0].splitlines()]
    assert sorted(line["status"] for line in lines if line["path"] == "/v1/audio/transcriptions") == [
        200,
        503,
    ]


def test_a_second_signal_does_not_wait(running: tuple[subprocess.Popen[str], str]) -> None:
    process, url = running
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(post, url, 14)
        deadline = time.monotonic() + 30
        while ready(url).get("requests") != 1:
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGINT)
        while ready(url)["status"] != "draining":
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGINT)
        assert process.wait(30) is not None
        status, body = slow.result(30)
        assert (status, body["error"]["code"]) == (503, "draining")
