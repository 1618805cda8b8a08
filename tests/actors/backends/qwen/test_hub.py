"""What goes wrong with the hub, named: what may be better in a minute, what never will, and what is this machine's own."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("huggingface_hub", reason="the hub's client comes with the extra `transformers`")

from huggingface_hub import constants

from actors.backends.qwen import hub
from actors.errors import FatalError

NAME = "somebody/a-model"


class _Hub(BaseHTTPRequestHandler):
    status = 503

    def log_message(self, format: str, *args: Any) -> None: ...

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("content-length", "0")
        self.end_headers()


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[_Hub]]:
    """A hub on loopback that answers everything with one status, and an empty cache."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    handler = type("_", (_Hub,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield handler
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (429, "storage_unavailable", "the hub answers HTTP 429 for now: fetch it"),
        (500, "storage_unavailable", "the hub answers HTTP 500 for now: fetch it"),
        (403, "internal_error", "the hub refuses it: 403 Forbidden"),
    ],
)
def test_only_what_may_pass_is_called_so(status: int, code: str, said: str, answering: type[_Hub]) -> None:
    answering.status = status
    with pytest.raises(FatalError, match=said) as caught:
        hub.download(NAME, "asr", None)
    assert caught.value.code == code


def test_nobody_there_may_pass(answering: type[_Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(FatalError, match="the hub cannot be reached") as caught:
        hub.download(NAME, "asr", None)
    assert caught.value.code == "storage_unavailable"


def test_being_offline_by_choice_does_not_pass(
    answering: type[_Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FatalError, match="the hub cannot be reached") as caught:
        hub.download(NAME, "asr", None)
    assert caught.value.code == "internal_error"


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, r"No space left on device: '/models/x'"),
        (errno.EACCES, r"Permission denied: '/models/x'"),
    ],
)
def test_a_cache_that_takes_nothing_is_not_the_hubs_fault(
    number: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", _raising(OSError(number, said.partition(":")[0], "/models/x"))
    )
    with pytest.raises(
        FatalError, match=f"cannot be put into the hub's cache: .*{said}; see to room and rights"
    ) as caught:
        hub.download(NAME, "asr", None)
    assert caught.value.code == "internal_error"


def test_a_connection_that_breaks_under_the_download_may_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client raises what its HTTP library raised, which is no OSError."""
    httpx2 = pytest.importorskip("httpx2")
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", _raising(httpx2.ReadTimeout("in the middle of a file"))
    )
    with pytest.raises(FatalError, match="the hub cannot be reached") as caught:
        hub.download(NAME, "asr", None)
    assert caught.value.code == "storage_unavailable"


def _raising(error: Exception) -> Any:
    def fail(*args: Any, **kwargs: Any) -> str:
        raise error

    return fail
