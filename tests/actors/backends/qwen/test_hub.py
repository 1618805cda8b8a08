"""Errors of the hub say what to do, and whether another attempt may succeed."""

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
    """A hub on loopback that answers all requests with one status, and an empty cache."""
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
    ("status", "code", "message"),
    [
        (429, "storage_unavailable", "the hub currently answers HTTP 429: fetch it"),
        (500, "storage_unavailable", "the hub currently answers HTTP 500: fetch it"),
        (403, "internal_error", "the hub refuses it: 403 Forbidden"),
    ],
)
def test_only_transient_statuses_are_storage_unavailable(
    status: int, code: str, message: str, answering: type[_Hub]
) -> None:
    answering.status = status
    with pytest.raises(FatalError, match=message) as caught:
        hub.download(NAME, "asr", None)
    assert caught.value.code == code


def test_an_unreachable_hub_is_storage_unavailable(
    answering: type[_Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(FatalError, match="the hub cannot be reached") as caught:
        hub.download(NAME, "asr", None)
    assert caught.value.code == "storage_unavailable"


def test_being_offline_by_choice_is_not_transient(
    answering: type[_Hub], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FatalError, match="the hub cannot be reached") as caught:
        hub.download(NAME, "asr", None)
    assert caught.value.code == "internal_error"


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, r"No space left on device: '/models/x'"),
        (errno.EACCES, r"Permission denied: '/models/x'"),
    ],
)
def test_an_unwritable_cache_is_not_an_error_of_the_hub(
    number: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", _raising(OSError(number, message.partition(":")[0], "/models/x"))
    )
    with pytest.raises(
        FatalError,
        match=f"cannot be written to the hub's cache: .*{message}; check free space and permissions",
    ) as caught:
        hub.download(NAME, "asr", None)
    assert caught.value.code == "internal_error"


def test_a_connection_lost_during_the_download_is_storage_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The client raises the exception of its HTTP library, which is no OSError."""
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
