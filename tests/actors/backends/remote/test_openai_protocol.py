"""Parsing of a recognition server's responses, and what its statuses mean; without a server."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from actors.backends.remote import http, openai_protocol, transcriptions_protocol
from actors.records import Hypothesis, SegmentRequest

SILENCE = np.zeros(16_000, np.int16)  # these tests do not use it


def chat(content: Any, tokens: list[tuple[str, float]] | None = None, **choice: Any) -> dict[str, Any]:
    logprobs = (
        {
            "content": [
                {"token": token, "logprob": score, "bytes": list(token.encode())} for token, score in tokens
            ]
        }
        if tokens
        else None
    )
    return {
        "choices": [{"message": {"content": content}, "logprobs": logprobs, "finish_reason": "stop"} | choice]
    }


def parse(
    response: dict[str, Any], endpoint: Any = "chat", compatible: bool = False, **request: Any
) -> Hypothesis:
    segment = SegmentRequest(SILENCE, **request)
    if endpoint == "transcriptions":
        return transcriptions_protocol.parse_response(response, segment, compatible=compatible)
    return openai_protocol.parse_response(response, segment, endpoint, compatible=compatible)


def test_the_confidence_is_that_of_the_text_alone() -> None:
    head = [("language", -1.0), (" English", -1.0), ("<asr", -2.0), ("_text", -2.0), (">", -2.0)]
    hypothesis = parse(
        chat(
            "language English<asr_text>one two", [*head, ("one", -0.1), (" two", -0.3), ("<|im_end|>", -9.0)]
        )
    )
    assert (hypothesis.confidence, hypothesis.tokens, hypothesis.language) == (0.8187, 7, "English")
    assert parse(chat("one two", [("one", -0.1), (" two", -0.3)]), language="English").confidence == 0.8187
    assert parse(chat("language None<asr_text>", head)).confidence is None
    assert parse(chat("language English<asr_text>one")).confidence is None


@pytest.mark.parametrize("endpoint", ["chat", "dashscope"])
def test_an_incomplete_or_withheld_output_is_neither_silence_nor_complete(endpoint: str) -> None:
    for reason, content in (
        ("abort", "language English<asr_text>one"),
        ("error", None),
        ("tool_calls", None),
        ("length", ""),
    ):
        with pytest.raises(openai_protocol.Malformed, match=f"incomplete .finish_reason {reason}"):
            parse(chat(content, finish_reason=reason), endpoint)
    with pytest.raises(openai_protocol.Withheld):
        parse(chat(None, finish_reason="content_filter"), endpoint)
    assert [parse(chat(None, finish_reason=reason), endpoint).text for reason in ("stop", None)] == ["", ""]


def test_half_of_a_surrogate_pair_becomes_a_question_mark() -> None:
    """Servers that cut strings in the middle of a pair write one half."""
    response = openai_protocol.parse_json(
        b'{"choices": [{"message": {"content": "one \\ud83d"}, "finish_reason": "stop"}], '
        b'"x": "\\uD83D\\uDE00"}'
    )
    assert (parse(response).text, response["x"]) == ("one ?", "\U0001f600")
    message = http.meaning_of(500, b'{"error": {"message": "bad \\ud83d"}}')[1]
    assert message.encode() == b"HTTP 500: bad ?"


def test_a_truncated_output_is_flagged() -> None:
    assert parse(chat("language English<asr_text>one", finish_reason="length")).flags == ("truncated",)


def test_outputs_of_streams_continue_their_prefix() -> None:
    tokens = [(" two", -0.1), (" thr", -0.1), ("ee", -0.1)]
    hypothesis = parse(chat(" two three", tokens), prefix="language English<asr_text>one", unsettled_tokens=2)
    assert (hypothesis.text, hypothesis.settled) == ("one two three", "language English<asr_text>one two")
    without_tokens = parse(chat(" two three"), prefix="language English<asr_text>one", unsettled_tokens=2)
    assert without_tokens.settled == "language English<asr_text>one"
    halves = chat("é", [("é", -0.1)])
    halves["choices"][0]["logprobs"]["content"] = [
        {"token": "\ufffd", "logprob": -0.1, "bytes": [byte]} for byte in "é".encode()
    ]
    assert parse(halves, unsettled_tokens=1).settled == ""


@pytest.mark.parametrize(
    ("code", "language", "flags"),
    [("zh", "Chinese", ()), ("xx", None, ("unknown_language:xx",)), (None, None, ("no_language_tag",))],
)
def test_languages_returned_beside_the_text(
    code: str | None, language: str | None, flags: tuple[str, ...]
) -> None:
    response = chat("你好。")
    response["choices"][0]["message"]["annotations"] = (
        [{"type": "audio_info", "language": code}] if code else None
    )
    hypothesis = parse(response, "dashscope")
    assert (hypothesis.text, hypothesis.language, hypothesis.flags) == ("你好。", language, flags)
    assert parse(response, "dashscope", language="Japanese").language == "Japanese"


def test_silence_at_each_endpoint() -> None:
    for hypothesis in (
        parse(chat("language None<asr_text>")),
        parse(chat(None), "dashscope"),
        parse({"text": "", "language": ""}, "transcriptions"),
    ):
        assert (hypothesis.text, hypothesis.language, hypothesis.confidence) == ("", None, None)


def test_a_language_that_the_server_did_not_force_is_flagged() -> None:
    hypothesis = parse(chat("language French<asr_text>un deux"), language="German")
    assert (hypothesis.language, hypothesis.text, hypothesis.flags) == (
        "German",
        "un deux",
        ("language_not_forced",),
    )


def test_compatible_parsing_is_that_of_the_reference() -> None:
    assert (
        parse(chat("language None<asr_text>"), language="German", compatible=True).text
        == "language None<asr_text>"
    )


@pytest.mark.parametrize(
    "response",
    [
        {},
        {"choices": []},
        {"choices": [{}]},
        {"choices": "no"},
        chat(["parts"]),
        {"choices": [{"message": {"content": "x"}, "logprobs": 3}]},
    ],
)
def test_malformed_responses_are_refused(response: dict[str, Any]) -> None:
    with pytest.raises(openai_protocol.Malformed):
        parse(response)
    with pytest.raises(openai_protocol.Malformed):
        parse(response, "transcriptions")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("Mon, 23 Nov 2026 05:00:30 GMT", 30.0),
        ("Mon, 23 Nov 2026 04:00:00 GMT", 0.0),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    now = datetime(2026, 11, 23, 5, 0, 0, tzinfo=UTC)
    assert http.retry_after({"retry-after": value}, now) == seconds


@pytest.mark.parametrize(
    ("status", "body", "meaning", "message"),
    [
        (200, b"", "fine", ""),
        (429, b"", "busy", "HTTP 429"),
        (
            429,
            b'{"error": {"message": "no money", "code": "insufficient_quota"}}',
            "fatal",
            "HTTP 429: no money",
        ),
        (400, b'{"code": "Arrearage", "message": "overdue"}', "fatal", "HTTP 400: overdue"),
        (400, b'{"detail": "too\\n long"}', "refused", "HTTP 400: too long"),
        (400, b'{"error": "bad audio"}', "refused", "HTTP 400: bad audio"),
        (422, b"<html>", "refused", "HTTP 422"),
        (500, b"[1]", "failing", "HTTP 500: [1]"),
        (501, b"", "fatal", "HTTP 501"),
    ],
)
def test_what_a_status_means(status: int, body: bytes, meaning: str, message: str) -> None:
    assert http.meaning_of(status, body) == (meaning, message)


def test_tokens_of_a_server_give_words_their_confidence() -> None:
    head = [("language", -0.1), (" English", -0.2), ("<asr_text>", 0.0)]
    found = parse(
        chat("language English<asr_text>one two.", [*head, ("one", -0.3), (" two", -0.4), (".", -2)])
    )
    assert (found.token_ends, found.token_log_probabilities) == ((3, 7, 8), (-0.3, -0.4, -2.0))
    assert found.language_confidence == 0.7408
    forced = parse(chat(" two", [(" two", -0.4)]), language="English", prefix="one")
    assert (forced.text, forced.token_ends, forced.token_log_probabilities) == (
        "one two",
        (3, 7),
        (None, -0.4),
    )
    assert forced.language_confidence is None


def test_bytes_that_are_no_bytes_are_ignored() -> None:
    response = chat("one", [("one", -0.3)])
    response["choices"][0]["logprobs"]["content"][0]["bytes"] = [999, "x"]
    assert parse(response, language="English").token_ends == (3,)


@pytest.mark.parametrize("place", ["top", "segments"])
@pytest.mark.parametrize("name", ["probability", "confidence"])
def test_probabilities_of_words_are_taken_over(place: str, name: str) -> None:
    words = [{"word": " One", name: 0.5}, {"word": "two.", name: 0.25}]
    response = {"text": "One two.", "language": "en"}
    response |= {"words": words} if place == "top" else {"segments": [{"text": "One two.", "words": words}]}
    found = parse(response, "transcriptions")
    assert (found.token_ends, found.confidence) == ((3, 8), 0.3536)
    assert [round(score, 4) for score in found.token_log_probabilities if score] == [-0.6931, -1.3863]


def test_words_without_probabilities_leave_the_confidence_of_the_segment() -> None:
    segments = [{"text": "One", "avg_logprob": -0.1, "words": [{"word": "One"}]}]
    found = parse({"text": "One", "language": "en", "segments": segments}, "transcriptions")
    assert (found.confidence, found.token_ends) == (0.9048, ())


def test_tokens_of_a_transcription_give_words_their_confidence() -> None:
    tokens = [("One", -0.1), (" t", -0.2), ("wo.", -0.3)]
    logprobs = [{"token": token, "logprob": score, "bytes": list(token.encode())} for token, score in tokens]
    found = parse({"text": "One two.", "logprobs": logprobs}, "transcriptions")
    assert (found.token_ends, found.token_log_probabilities) == ((3, 5, 8), (-0.1, -0.2, -0.3))
    assert found.confidence == 0.8187
    for broken in ([*logprobs, {"token": "x"}], "none", [3]):
        assert parse({"text": "One two.", "logprobs": broken}, "transcriptions").token_ends == ()
