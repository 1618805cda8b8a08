"""`scriptorium serve` as a user starts it, and OpenAI's client for it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

from tests.e2e.conftest import DEMO_CONFIG, ROOT

Demo = dict[str, dict[str, Any]]
START_SECONDS = 180.0  # for Ray and two models on a busy machine


class Server:
    """A running `scriptorium serve` with the demo's settings.

    Args:
        folder: for its logs.
        settings: further settings, as for `--set`.
    """

    def __init__(self, folder: Path, *settings: str) -> None:
        options = [option for setting in ("serve.port=0", *settings) for option in ("--set", setting)]
        command = [sys.executable, "-m", "pipelines", "serve", "--config", DEMO_CONFIG, *options]
        self.log, self.errors = folder / "access.jsonl", folder / "errors.txt"
        with self.log.open("wb") as out, self.errors.open("wb") as err:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=err)
        deadline = time.monotonic() + START_SECONDS
        while not self.log.read_bytes().count(b"\n"):
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.stop()
                pytest.fail(f"the server has not started: {self.errors.read_text()[-2000:]}")
            time.sleep(0.1)
        self.url = json.loads(self.log.read_text().splitlines()[0])["url"]

    def client(self, **options: Any) -> openai.OpenAI:
        """OpenAI's client for this server."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=120, **options)

    def ready(self) -> dict[str, Any]:
        """The response of /readyz."""
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=30) as response:
                body = response.read()
        except urllib.error.HTTPError as error:
            body = error.read()
        status: dict[str, Any] = json.loads(body)
        return status

    def replicas(self, name: str) -> list[psutil.Process]:
        """The processes of a model whose title contains `name`."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [process for process in children if name in "".join(_command_line(process))]

    def stop(self) -> int | None:
        """Stop the server; returns its exit code, or None if it had to be killed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(90)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                return None
        return self.process.returncode


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the demo models."""
    running = Server(tmp_path_factory.mktemp("serve"))
    yield running
    assert running.stop() == 0, running.errors.read_text()


def read_audio(path: str) -> tuple[str, bytes]:
    """A file as OpenAI's client takes it: its name and its contents."""
    return Path(path).name, Path(path).read_bytes()
