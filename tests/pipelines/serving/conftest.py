"""The real application, web server and model client in this process, with fake models and without Ray."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from actors.config import AlignerConfig, ASRConfig
from pipelines.config import RunConfig
from pipelines.serving.app import Application
from pipelines.serving.inference.deployments import Aligner, Recogniser
from pipelines.serving.inference.model_client import ModelClient
from pipelines.serving.server import web_server
from tests.pipelines.serving.browser import start_browser, until

Make = Callable[..., "Served"]


class LocalHandle:
    """A replica in this process with the interface of a Ray Serve handle."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.run_batch, self.model_info = (
            type("Method", (), {"remote": staticmethod(method)})
            for method in (actor.run_batch, actor.model_info)
        )


class Served:
    """A running server."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.application = Application(config, self._models)
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.server = web_server(self.application)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]}, daemon=True)
        self.thread.start()
        deadline = time.monotonic() + 30
        while not self.server.started:
            assert time.monotonic() < deadline and self.thread.is_alive(), "the server has not started"
            time.sleep(0.01)

    def _models(self) -> ModelClient:
        self.recogniser = Recogniser(self.config.asr)
        self.loop = asyncio.get_running_loop()
        has_aligner = self.config.aligner.backend != "none"
        aligner = LocalHandle(Aligner(self.config.aligner)) if has_aligner else None
        return ModelClient(self.config, LocalHandle(self.recogniser), aligner)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request; returns the status, the headers in lower case, and the body."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, body, names, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, {k.lower(): v for k, v in response.headers.items()}, response.read()
        except urllib.error.HTTPError as error:
            return error.code, {k.lower(): v for k, v in error.headers.items()}, error.read()

    def transcribe(
        self, audio: bytes, headers: dict[str, str] | None = None, **fields: str
    ) -> tuple[int, dict[str, str], Any]:
        """POST a file; a JSON body is returned parsed."""
        content_type, body = form({"model": "fake", **fields}, audio)
        status, received, data = self.ask(
            "POST", "/v1/audio/transcriptions", body, **{"Content-Type": content_type, **(headers or {})}
        )
        is_json = received.get("content-type", "").startswith("application/json")
        return status, received, json.loads(data) if is_json else data

    def post_json(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        """POST a JSON body; returns the status and the parsed response."""
        data = json.dumps(body).encode()
        status, _, response = self.ask("POST", path, data, Content_Type="application/json", **headers)
        return status, json.loads(response)


def form(fields: dict[str, str | list[str]], audio: bytes | None, name: str = "a.wav") -> tuple[str, bytes]:
    """A multipart form: content type and body."""
    boundary = uuid.uuid4().hex
    body = io.BytesIO()
    for field, values in fields.items():
        for value in values if isinstance(values, list) else [values]:
            body.write(
                f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode()
            )
    if audio is not None:
        disposition = f'form-data; name="file"; filename="{name}"'
        head = f"--{boundary}\r\nContent-Disposition: {disposition}\r\nContent-Type: audio/wav\r\n\r\n"
        body.write(head.encode() + audio + b"\r\n")
    body.write(f"--{boundary}--\r\n".encode())
    return f"multipart/form-data; boundary={boundary}", body.getvalue()


def wav(samples: np.ndarray, rate: int = 16_000) -> bytes:
    """Samples as a WAV file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def voice(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise modulated with three syllables per second, which passes as speech: int16 at 16 kHz."""
    count = round(seconds * 16_000)
    syllables = 0.55 + 0.45 * np.sin(2 * np.pi * 3 * np.arange(count) / 16_000)
    return (np.random.default_rng(seed).standard_normal(count) * 3000 * syllables).astype(np.int16)


def openai_client(served: Served) -> Any:
    """OpenAI's client for a server."""
    import openai

    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0, timeout=60)


def data_uri(audio: bytes) -> str:
    """Audio as a data: URI."""
    return "data:audio/wav;base64," + base64.b64encode(audio).decode()


@pytest.fixture(scope="module")
def serve() -> Iterator[Make]:
    """`serve(cost=..., **settings of serve)`: servers of a test module; equal settings share a server."""
    running: dict[str, Served] = {}

    def make(
        cost: str = "fake",
        aligner: str = "fake",
        segment: float = 15,
        speakers: str = "none",
        **settings: Any,
    ) -> Served:
        key = repr((cost, aligner, segment, speakers, settings))
        if key not in running:
            running[key] = Served(
                RunConfig.model_validate(
                    {
                        "asr": ASRConfig(backend="fake", model=cost),
                        "aligner": AlignerConfig(backend=aligner, model="fake"),
                        "segmenter": {"max_duration": segment, "backend": "energy"},
                        "speakers": {"backend": speakers},
                        "serve": {"decoders": 1, "model_names": ["fake"], **settings},
                    }
                )
            )
        return running[key]

    yield make
    for served in running.values():
        served.stop()


@pytest.fixture(scope="module")
def microphone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The audio of the browser's microphone, played in a loop: 5 s of voice, 3 s of silence."""
    path = tmp_path_factory.mktemp("microphone") / "voice.wav"
    path.write_bytes(wav(np.repeat(np.concatenate([voice(5), np.zeros(48_000, np.int16)]), 3), 48_000))
    return path


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def browser(microphone: Path, downloads: Path) -> Iterator[Any]:
    driver = start_browser(microphone, downloads)
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: Any, serve: Make) -> Iterator[tuple[Any, Served]]:
    """The page in the browser, and its server. It must log no errors and load nothing from other hosts."""
    served = serve(stream_window=8)
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(served.url + "/")
    until(lambda: len(browser.find_elements("css selector", "#language option")) > 20)
    yield browser, served
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
    messages = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
    requests = [message for message in messages if message["method"] == "Network.requestWillBeSent"]
    urls = [request["params"]["request"]["url"] for request in requests]
    assert urls and all(url.startswith((served.url, "blob:" + served.url, "data:")) for url in urls), urls
