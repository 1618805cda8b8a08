"""The real page over stored transcripts: its web server in this process, without a run and without Ray."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from pipelines.browsing import guard, index
from pipelines.browsing.app import Browser
from pipelines.browsing.audio import AudioStore
from pipelines.browsing.library import Library
from pipelines.serving.web.http_server import http_server
from tests.pipelines.export.transcripts import demo_rows, interview, made_rows, write_output


class Page:
    """A running page over an output directory."""

    def __init__(self, out: str, editor: str | None = "ada") -> None:
        self.out = out
        path = index.index_path(out)
        index.create(path)
        self.library, self.audio = Library(out, path), AudioStore()
        self.library.refresh()
        self.token = guard.make_token()
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        browser = Browser(self.library, self.audio, self.port, editor)
        self.server = http_server(guard.guarded(browser.api, self.token, "127.0.0.1", self.port), 1 << 16)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listener]}, daemon=True)
        self.thread.start()
        deadline = time.monotonic() + 30
        while not self.server.started:
            assert time.monotonic() < deadline and self.thread.is_alive(), "the server has not started"
            time.sleep(0.01)

    def stop(self) -> None:
        self.server.should_exit = self.server.force_exit = True
        self.thread.join(20)
        self.audio.close()

    def ask(
        self, path: str, body: Any = None, method: str | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """One request, with the token unless `authorization` is given: status, lower-case headers, body."""
        given = {"authorization": f"Bearer {self.token}", **headers}
        given = {name.replace("_", "-"): value for name, value in given.items() if value}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, given, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, {k.lower(): v for k, v in error.headers.items()}, error.read()

    def get(self, path: str, **parameters: Any) -> Any:
        """The JSON of a successful GET."""
        status, _, body = self.ask(f"/api/{path}?{urlencode(parameters, doseq=True)}")
        assert status == 200, body
        return json.loads(body)

    def found(self, **parameters: Any) -> list[str]:
        """The recordings that a search finds, each once."""
        hits = self.get("search", **parameters)["hits"]
        return list(dict.fromkeys(hit["recording_id"] for hit in hits))


@pytest.fixture(scope="session")
def browsed_rows() -> list[dict[str, Any]]:
    """Made transcripts, those of the demo, and one with doubtful words over the demo's audio."""
    demo = demo_rows()
    front_desk = next(row for row in demo if row["recording_id"] == "front-desk")
    doubted = {**interview(), "audio": front_desk["audio"]}
    return [doubted, *(row for row in made_rows() if row["recording_id"] != doubted["recording_id"]), *demo]


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory, browsed_rows: list[dict[str, Any]]) -> str:
    return write_output(tmp_path_factory.mktemp("browsed") / "out", browsed_rows, files=2)


@pytest.fixture(scope="module")
def page(pristine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page over a copy that the tests of a module may change."""
    out = tmp_path_factory.mktemp("page") / "out"
    shutil.copytree(pristine, out)
    served = Page(str(out))
    yield served
    served.stop()


@pytest.fixture
def copied(pristine: str, tmp_path: Path) -> Path:
    out = tmp_path / "out"
    shutil.copytree(pristine, out)
    return out
