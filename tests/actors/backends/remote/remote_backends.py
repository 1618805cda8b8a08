"""Segments and backends for the faulty server; conftest.py registers the fixtures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from actors.backends.fake import FakeASR
from actors.config import ASRConfig, RemoteConfig
from actors.records import Hypothesis, SegmentRequest
from tests.actors.backends.remote.openai_server import FaultyOpenAIServer, running_openai_server

if TYPE_CHECKING:
    from actors.backends.remote.openai import OpenAIASR

FAKE = FakeASR(ASRConfig(backend="fake"))
KEY = "sk-a-key-that-nobody-may-see"
Make = Callable[..., "OpenAIASR"]


@pytest.fixture
def fast_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of this machine, no key, and waits that are short enough for tests."""
    from actors.backends.remote import dashscope_files, retry_policy

    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(retry_policy, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(retry_policy, "LONGEST_DELAY", 0.05)
    monkeypatch.setattr(dashscope_files, "FIRST_POLL", 0.01)


@pytest.fixture
def server() -> Iterator[FaultyOpenAIServer]:
    with running_openai_server(FAKE) as running:
        yield running


@pytest.fixture
def make(server: FaultyOpenAIServer) -> Iterator[Make]:
    """Creates backends in front of the server; keywords are settings of `asr.remote`."""
    from actors.backends import create_asr
    from actors.backends.remote.openai import OpenAIASR

    made: list[OpenAIASR] = []

    def create(
        model: str = "asr", language: str | None = None, compatible: bool = False, **remote: Any
    ) -> OpenAIASR:
        settings = {"base_url": server.url, "retries": 3, "timeout": 5.0, "patience": 20.0} | remote
        config = ASRConfig(
            backend="openai",
            model=model,
            language=language,
            compatible=compatible,
            remote=RemoteConfig(**settings),
        )
        backend = create_asr(config)
        assert isinstance(backend, OpenAIASR)
        made.append(backend)
        return backend

    yield create
    for backend in made:
        backend.close()


def noise(seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(round(seconds * 16_000)) * 3000).astype(np.int16)


def segments(*contexts: str) -> list[SegmentRequest]:
    """A segment for each context, each a little longer than the one before."""
    return [
        SegmentRequest(noise(1 + number / 8, number), context=context)
        for number, context in enumerate(contexts)
    ]


def expected_texts(requests: list[SegmentRequest]) -> list[str]:
    """The text of the fake for each request."""
    return [FAKE.transcribe([SegmentRequest(request.waveform)])[0].text for request in requests]


def texts(results: list[Hypothesis | Exception]) -> list[str]:
    """The texts of hypotheses, and the names of errors."""
    return [result.text if isinstance(result, Hypothesis) else type(result).__name__ for result in results]
