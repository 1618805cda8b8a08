"""POST /audio/transcriptions for one segment: requests and responses. Pure.

Servers differ in what they return beside the text, and no endpoint says what a server can do. So a request
has one of several forms, the most telling first, until the server accepts one:

- `words`: verbose_json with segments and words. faster-whisper's servers and ours give each word a
  probability; OpenAI's whisper-1 gives words without one, and segments with `avg_logprob`.
- `segments`: verbose_json with segments.
- `tokens`: json with the log-probabilities of the tokens, as OpenAI's gpt-4o-transcribe has them.
- `text`: json.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal, get_args

from actors.backends.qwen.prompts import clean_context
from actors.backends.remote.openai_protocol import (
    CONFIDENCE_DIGITS,
    HTTPRequest,
    Malformed,
    bytes_of,
    penalty_field,
    token_counts,
    wav,
)
from actors.backends.remote.raw_output import parse_raw, with_language_tag, with_tokens
from actors.records import Hypothesis, SegmentRequest, ServerJudgement
from actors.text.languages import code_of

Form = Literal["words", "segments", "tokens", "text"]
# In the order in which they are tried.
FORMS: tuple[Form, ...] = get_args(Form)
_FIELDS: dict[Form, dict[str, str | list[str]]] = {
    "words": {"response_format": "verbose_json", "timestamp_granularities[]": ["segment", "word"]},
    "segments": {"response_format": "verbose_json"},
    "tokens": {"response_format": "json", "include[]": "logprobs"},
    "text": {"response_format": "json"},
}


def build_request(
    segment: SegmentRequest, model: str, form: Form, *, compatible: bool = False
) -> HTTPRequest:
    """The HTTP request for one segment.

    Args:
        segment: the segment.
        model: name of the model on the server.
        form: see the head of this file.
        compatible: send the context unchanged, as the reference does.
    """
    context = segment.context if compatible else clean_context(segment.context)
    fields: dict[str, str | list[str]] = {"model": model, "temperature": "0", **_FIELDS[form]}
    if segment.language:
        fields["language"] = code_of(segment.language) or ""
    if context:
        fields["prompt"] = context
    fields |= {key: str(value) for key, value in penalty_field(segment).items()}
    return HTTPRequest("/audio/transcriptions", form=fields, file=wav(segment.waveform))


def parse_response(
    response: dict[str, Any], segment: SegmentRequest, *, compatible: bool = False
) -> Hypothesis:
    """The hypothesis in a response; `raw` is what the model would have written.

    The confidence is that of the server's segments where they have one, else exp(mean log-probability) of the
    tokens or words; None where the server returns nothing of the kind.

    Raises:
        Malformed: the response has no text.
    """
    text = response.get("text")
    if not isinstance(text, str):
        raise Malformed("the response has no text as transcriptions have it")
    languages = [
        entry["code"]
        for entry in response.get("languages") or []
        if isinstance(entry, dict) and entry.get("code")
    ]
    language = response.get("language") or (languages[0] if languages else None)
    parts = [part for part in response.get("segments") or [] if isinstance(part, dict)]
    confidence = _mean_confidence(parts)
    hypothesis = parse_raw(
        with_language_tag(text, language, segment),
        segment,
        compatible,
        confidence=confidence,
        tokens=token_counts(response).completion,
        settled=segment.prefix,
    )
    scores = _word_probabilities(response, parts) or _token_probabilities(response)
    found = with_tokens(hypothesis, scores, segment)
    judgements = tuple(_judgement(part) for part in parts if part.get("text"))
    found = replace(found, server_judgements=judgements)
    return found if confidence is None else replace(found, confidence=hypothesis.confidence)


def _mean_confidence(parts: list[dict[str, Any]]) -> float | None:
    """The geometric mean of the confidences of segments, weighted by their characters."""
    weighted = [(_confidence(part), len(str(part.get("text") or ""))) for part in parts]
    known = [(math.log(value), weight) for value, weight in weighted if value and weight]
    if not known:
        return None
    total = sum(weight for _, weight in known)
    return round(math.exp(sum(score * weight for score, weight in known) / total), CONFIDENCE_DIGITS)


def _confidence(part: dict[str, Any]) -> float | None:
    """Confidence of a segment of verbose_json: our own field, or from OpenAI's `avg_logprob`."""
    own, mean = part.get("confidence"), part.get("avg_logprob")
    if isinstance(own, int | float):
        return min(1.0, float(own)) if own > 0 else None
    return math.exp(min(0.0, mean)) if isinstance(mean, int | float) else None


def _judgement(part: dict[str, Any]) -> ServerJudgement:
    """What a part of verbose_json says about its text, as OpenAI's Whisper does."""
    names = ("no_speech_prob", "compression_ratio", "avg_logprob")
    values = (part.get(name) for name in names)
    return ServerJudgement(*(value if isinstance(value, int | float) else None for value in values))


def _word_probabilities(response: dict[str, Any], parts: list[dict[str, Any]]) -> list[tuple[bytes, float]]:
    """The words of verbose_json and their log-probabilities; empty where one has none.

    Servers list words at the top, or in each segment, and call the value `probability` or `confidence`.
    """
    words = response.get("words") or [word for part in parts for word in part.get("words") or []]
    found = []
    for word in words if isinstance(words, list) else []:
        entry = word if isinstance(word, dict) else {}
        value = entry.get("probability", entry.get("confidence"))
        if not isinstance(value, int | float) or not 0 < value <= 1:
            return []
        found.append((str(entry.get("word") or entry.get("text") or "").encode(), math.log(value)))
    return found


def _token_probabilities(response: dict[str, Any]) -> list[tuple[bytes, float]]:
    """The tokens of json with log-probabilities; empty where one has none."""
    entries = response.get("logprobs")
    found = []
    for entry in entries if isinstance(entries, list) else []:
        value = entry.get("logprob") if isinstance(entry, dict) else None
        if not isinstance(value, int | float):
            return []
        found.append((bytes_of(str(entry.get("token") or ""), entry.get("bytes")), float(value)))
    return found
