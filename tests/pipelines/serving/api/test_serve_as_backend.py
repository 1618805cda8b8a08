"""Our server as the recogniser of a job: what `asr.backend=openai` makes of its answers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("httpx2", reason="the backend openai needs httpx2 (extra `openai`)")

from actors.backends import create_asr
from actors.backends.fake import FakeASR
from actors.config import ASRConfig, RemoteConfig
from actors.errors import FatalError
from actors.records import SegmentRequest
from tests.pipelines.serving.conftest import Served, voice

KEY = "the server's key"


@pytest.fixture
def recogniser(serve: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`recogniser(endpoint)`: a remote backend for a server that requires a key."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("SERVER_KEY", KEY)
    server: Served = serve(aligner="none", api_keys=[hashlib.sha256(KEY.encode()).hexdigest()])
    made = []

    def make(endpoint: str, model: str = "fake", variable: str = "SERVER_KEY") -> Any:
        remote = RemoteConfig(
            base_url=f"{server.url}/v1", endpoint=endpoint, key_variable=variable, retries=1
        )
        made.append(create_asr(ASRConfig(backend="openai", model=model, remote=remote)))
        return made[-1]

    yield make
    for backend in made:
        backend.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("endpoint", ["chat", "transcriptions"])
def test_the_hypotheses_equal_those_of_the_model(endpoint: str, recogniser: Callable[..., Any]) -> None:
    requests = [SegmentRequest(voice(seconds, seed)) for seed, seconds in enumerate((3.0, 1.5, 0.7, 6.2))]
    silence = SegmentRequest(np.zeros(16_000, np.int16))
    *found, nothing = recogniser(endpoint).transcribe([*requests, silence])
    expected = FakeASR(ASRConfig(backend="fake")).transcribe(requests)
    assert [(each.text, each.language, each.flags) for each in found] == [
        (each.text, each.language, each.flags) for each in expected
    ]
    assert (nothing.text, nothing.language, nothing.confidence) == ("", None, None)
    if endpoint == "transcriptions":
        assert [each.confidence for each in found] == [each.confidence for each in expected]


@pytest.mark.parametrize("endpoint", ["chat", "transcriptions"])
def test_a_language_can_be_forced(endpoint: str, recogniser: Callable[..., Any]) -> None:
    [found] = recogniser(endpoint).transcribe([SegmentRequest(voice(2.0), "German", "Ada, Bob")])
    assert (found.language, found.flags) == ("German", ()) and len(found.text.split()) == 4
    [silent] = recogniser(endpoint).transcribe([SegmentRequest(np.zeros(16_000, np.int16), "German")])
    assert (silent.text, silent.language) == ("", None)


@pytest.mark.parametrize("language", ["German", None])
def test_a_chat_continues_a_prefix(language: str | None, recogniser: Callable[..., Any]) -> None:
    expected = FakeASR(ASRConfig(backend="fake")).transcribe([SegmentRequest(voice(4.0), language)])[0]
    start = " ".join(expected.text.split()[:3])
    prefix = start if language else f"language English<asr_text>{start}"
    [found] = recogniser("chat").transcribe([SegmentRequest(voice(4.0), language, prefix=prefix)])
    assert (found.text, found.language) == (expected.text, expected.language)
    assert found.raw == prefix + expected.text[len(start) :]


def test_an_unknown_model_and_a_missing_key_are_fatal(recogniser: Callable[..., Any]) -> None:
    with pytest.raises(FatalError, match=r"'other' the server's name of the model.*it offers fake"):
        recogniser("chat", model="other")
    with pytest.raises(FatalError, match=r"an API key is required.*no key was sent, as UNSET is not set"):
        recogniser("chat", variable="UNSET")
