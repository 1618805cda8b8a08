"""The endpoint `transcriptions`: what a server is asked for beside the text, by what it can do."""

from __future__ import annotations

import pytest

pytest.importorskip("httpx2", reason="the backend openai needs httpx2 (extra `openai`)")

from actors.confidence.words import word_confidences
from actors.errors import RowError
from actors.records import Hypothesis
from tests.actors.backends.remote.openai_server import FaultyOpenAIServer
from tests.actors.backends.remote.remote_backends import Make, segments

pytestmark = pytest.mark.usefixtures("fast_retries")


@pytest.mark.parametrize(
    ("has_words", "has_verbose_json", "has_logprobs", "form", "requests", "confidence"),
    [
        (True, True, False, "timestamp_granularities[]", 1, 0.5),
        (False, True, False, "verbose_json", 2, None),
        (False, False, True, "include[]", 3, 0.6065),
        (False, False, False, "json", 4, None),
    ],
)
def test_a_server_is_asked_for_what_it_can_do(
    has_words: bool,
    has_verbose_json: bool,
    has_logprobs: bool,
    form: str,
    requests: int,
    confidence: float | None,
    server: FaultyOpenAIServer,
    make: Make,
) -> None:
    """What it cannot do is found out once, in the check of the server."""
    server.has_words, server.has_verbose_json, server.has_logprobs = (
        has_words,
        has_verbose_json,
        has_logprobs,
    )
    backend = make(endpoint="transcriptions")
    assert len(server.bodies) == requests
    [found] = backend.transcribe(segments(""))
    assert len(server.bodies) == requests + 1
    assert form in {*server.bodies[-1], server.bodies[-1]["response_format"]}
    assert isinstance(found, Hypothesis)
    words = _confidences(found)
    assert {*words} == {confidence} and len(words) == len(found.text.split())


def _confidences(found: Hypothesis) -> list[float | None]:
    spans, at = [], 0
    for word in found.text.split():
        spans.append((found.text.index(word, at), found.text.index(word, at) + len(word)))
        at = spans[-1][1]
    return word_confidences(found.token_ends, found.token_log_probabilities, found.text, spans)


def test_a_refused_segment_changes_nothing_about_the_others(server: FaultyOpenAIServer, make: Make) -> None:
    server.has_words = True
    backend = make(endpoint="transcriptions", retries=0)
    [refused, _] = backend.transcribe(segments("server:413", ""))
    assert isinstance(refused, RowError)
    assert server.times["server:413"] == 1
    assert "timestamp_granularities[]" in server.bodies[-1]
