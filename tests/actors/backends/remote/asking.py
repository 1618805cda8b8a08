"""Segments for recognisers on other machines, and one in front of our misbehaving server; conftest.py makes the fixtures known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from actors.backends.fake import FakeASR
from actors.config import ASRConfig, RemoteConfig
from actors.records import Hypothesis, SegmentRequest
from tests.actors.backends.remote.speaking_server import SpeakingServer, serving

if TYPE_CHECKING:
    from actors.backends.remote.openai import OpenAIASR

FAKE = FakeASR(ASRConfig(backend="fake"))
KEY = "sk-a-key-that-nobody-may-see"
Make = Callable[..., "OpenAIASR"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of this machine, no key, and waits that a test can wait for."""
    from actors.backends.remote import dashscope_files, retry_policy

    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(retry_policy, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(retry_policy, "LONGEST_DELAY", 0.05)
    monkeypatch.setattr(dashscope_files, "FIRST_LOOK", 0.01)


@pytest.fixture
def server() -> Iterator[SpeakingServer]:
    with serving(FAKE) as running:
        yield running


@pytest.fixture
def make(server: SpeakingServer) -> Iterator[Make]:
    """A backend in front of the server; `asr.remote` as keywords."""
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


def asked(*contexts: str) -> list[SegmentRequest]:
    """A segment for each context, each a little longer."""
    return [
        SegmentRequest(noise(1 + number / 8, number), context=context)
        for number, context in enumerate(contexts)
    ]


def said(requests: list[SegmentRequest]) -> list[str]:
    """What the fake says to each."""
    return [FAKE.transcribe([SegmentRequest(request.waveform)])[0].text for request in requests]


def texts(results: list[Hypothesis | Exception]) -> list[str]:
    """Texts, and the names of errors."""
    return [result.text if isinstance(result, Hypothesis) else type(result).__name__ for result in results]
