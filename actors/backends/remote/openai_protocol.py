"""What is said between us and an OpenAI-compatible server about one segment: requests, answers, and what an error status means. Pure.

Three ways to ask, the values of `asr.remote.endpoint`:

    chat            POST /chat/completions as vLLM, SGLang and `scriptorium serve` take it. The model's own answer `language X<asr_text>...` comes
                    back. Context is the system turn; a forced language is the beginning of the answer, which the server is asked to go on with.
    transcriptions  POST /audio/transcriptions. Only as good as the server: vLLM's leaves out the system turn that the model was trained with
                    and older ones ignore the language (read from its source, 0.33), hence `chat` for it.
    dashscope       POST /chat/completions as DashScope's compatible mode takes it (Alibaba Cloud Model Studio, "Qwen-ASR API reference"): audio as
                    `input_audio`, the language in `asr_options`; the text comes without tag, its language in `annotations`.
"""

from __future__ import annotations

import base64
import io
import json
import math
import re
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from actors.backends.qwen.prompts import clean_context
from actors.records import SAMPLING_RATE, Hypothesis, SegmentRequest
from actors.text.languages import code_of, normalize_language
from actors.text.parsing import parse_output, parse_output_compatible

Endpoint = Literal["chat", "transcriptions", "dashscope"]
CONFIDENCE_DIGITS = 4
_TAG = "<asr_text>"
_BROKEN_OFF = ("abort", "error", "cancelled", "canceled")  # reasons to finish of vLLM, SGLang and gateways
_HALF = re.compile(
    rb"\\u[dD][89abAB]|\\u[dD][c-fC-F]"
)  # of a surrogate pair: servers cut strings in the middle of one
_CONTROL = re.compile(r"<\|[a-z_]{1,40}\|>")


class Malformed(ValueError):
    """An answer that is not one of an OpenAI-compatible server, or was broken off."""


class Withheld(ValueError):
    """The server has an answer that it does not give."""


@dataclass(frozen=True)
class Question:
    """One HTTP request: JSON, or a form with a file."""

    path: str
    body: dict[str, Any] | None = None
    form: dict[str, str] | None = None
    file: bytes = b""


@dataclass(frozen=True)
class Usage:
    """What the server says that it counted, in tokens."""

    prompt: int = 0
    completion: int = 0


def wav(samples: Any) -> bytes:
    """A WAV file of a mono int16 waveform at 16 kHz, shape (samples,)."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(SAMPLING_RATE)
        writer.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()


def question(
    request: SegmentRequest,
    endpoint: Endpoint,
    model: str,
    budget: int,
    *,
    compatible: bool = False,
    verbose: bool = True,
) -> Question:
    """How a server is asked about one segment.

    Args:
        request: the segment.
        endpoint: see the head of this file.
        model: its name on the server.
        budget: most tokens of the answer (chat only: the others have no field for it).
        compatible: put the context in as it is, as the reference does.
        verbose: ask for segments and language (transcriptions).
    """
    audio = wav(request.waveform)
    context = request.context if compatible else clean_context(request.context)
    if endpoint == "transcriptions":
        form = {"model": model, "response_format": "verbose_json" if verbose else "json", "temperature": "0"}
        form |= {"language": code_of(request.language) or ""} if request.language else {}
        form |= {"prompt": context} if context else {}
        return Question("/audio/transcriptions", form=form, file=audio)
    address = "data:audio/wav;base64," + base64.b64encode(audio).decode()
    messages: list[dict[str, Any]] = []
    if endpoint == "dashscope":
        options = {"enable_itn": False} | (
            {"language": code_of(request.language)} if request.language else {}
        )
        if context:
            messages.append({"role": "system", "content": [{"type": "text", "text": context}]})
        messages.append(
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": address}}]}
        )
        return Question(
            "/chat/completions",
            {"model": model, "messages": messages, "stream": False, "asr_options": options},
        )
    messages.append(
        {"role": "system", "content": context}
    )  # empty too: the model was trained with a system turn
    messages.append({"role": "user", "content": [{"type": "audio_url", "audio_url": {"url": address}}]})
    body = {
        "model": model,
        "messages": messages,
        "temperature": 0,
        "max_completion_tokens": budget,
        "logprobs": True,
    }
    if begun := (f"language {request.language}{_TAG}" if request.language else "") + request.prefix:
        messages.append({"role": "assistant", "content": begun})
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    return Question("/chat/completions", body)


def parsed(data: bytes) -> dict[str, Any]:
    """The JSON object of an answer; half characters in it, which no table can hold, become question marks.

    Raises:
        Malformed: it is something else.
    """
    try:
        answer = json.loads(data)
    except ValueError:  # UnicodeDecodeError among them
        raise Malformed(f"the answer is not JSON: {data[:80]!r}") from None
    if not isinstance(answer, dict):
        raise Malformed(f"the answer is no JSON object: {data[:80]!r}")
    if _HALF.search(data):
        answer = json.loads(json.dumps(answer, ensure_ascii=False).encode(errors="replace"))
    return answer


def hypothesis(
    answer: dict[str, Any], request: SegmentRequest, endpoint: Endpoint, *, compatible: bool = False
) -> Hypothesis:
    """What an answer says.

    `raw` is the model's own output where the server gives it (chat), else what the model would have written. The confidence is
    exp(mean log-probability) of the text's tokens, None where the server does not tell any.

    Raises:
        Malformed: it does not say anything, or not all.
        Withheld: it may not be said.
    """
    if endpoint == "transcriptions":
        return _of_transcription(answer, request, compatible)
    try:
        choice = answer["choices"][0]
        message = choice["message"]
        reason, content = choice.get("finish_reason"), message["content"] or ""
        annotations = [
            entry
            for entry in message.get("annotations") or []
            if isinstance(entry, dict) and entry.get("language")
        ]
        entries = [
            (str(entry["token"]), float(entry["logprob"]), entry.get("bytes")) for entry in _logprobs(choice)
        ]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise Malformed(
            f"the answer has no choices[0].message.content as chat completions have it: {error!r}"
        ) from None
    if reason == "content_filter":
        raise Withheld("the server's filter keeps the answer back (finish_reason content_filter)")
    if reason in _BROKEN_OFF or (reason not in (None, "stop") and not content):
        raise Malformed(f"the answer was broken off (finish_reason {reason})")
    if not isinstance(content, str):
        raise Malformed(f"choices[0].message.content is a {type(content).__name__}, not a string")
    told = bool(entries)
    while entries and (not entries[-1][0] or _CONTROL.fullmatch(entries[-1][0])):
        entries.pop()  # the decision to end
    if endpoint == "dashscope":
        content = tagged(content, annotations[0]["language"] if annotations else None, request)
    scores = [score for _, score, _ in entries[_text_start([token for token, _, _ in entries]) :]]
    settled = request.prefix
    if request.unsettled_tokens:
        settled += _joined(entries[: -request.unsettled_tokens])
    return read(
        (request.prefix if endpoint == "chat" else "") + content,
        request,
        compatible,
        confidence=round(math.exp(math.fsum(scores) / len(scores)), CONFIDENCE_DIGITS) if scores else None,
        tokens=len(entries) if told else usage(answer).completion,
        truncated=choice.get("finish_reason") == "length",
        settled=settled if request.unsettled_tokens else "",
    )


def usage(answer: Mapping[str, Any]) -> Usage:
    """The tokens that an answer says were used; none where it does not say."""
    said = answer.get("usage")
    if not isinstance(said, dict):
        return Usage()

    def count(*names: str) -> int:
        return next((value for name in names if isinstance(value := said.get(name), int) and value > 0), 0)

    return Usage(count("prompt_tokens", "input_tokens"), count("completion_tokens", "output_tokens"))


def _of_transcription(answer: dict[str, Any], request: SegmentRequest, compatible: bool) -> Hypothesis:
    text = answer.get("text")
    if not isinstance(text, str):
        raise Malformed("the answer has no text as transcriptions have it")
    languages = [
        entry["code"]
        for entry in answer.get("languages") or []
        if isinstance(entry, dict) and entry.get("code")
    ]
    segments = [segment for segment in answer.get("segments") or [] if isinstance(segment, dict)]
    said = [(_confidence(segment), len(str(segment.get("text") or ""))) for segment in segments]
    known = [(math.log(value), weight) for value, weight in said if value and weight]
    confidence = (
        math.exp(sum(score * weight for score, weight in known) / sum(weight for _, weight in known))
        if known
        else None
    )
    return read(
        tagged(text, answer.get("language") or (languages[0] if languages else None), request),
        request,
        compatible,
        confidence=None if confidence is None else round(confidence, CONFIDENCE_DIGITS),
        tokens=usage(answer).completion,
        settled=request.prefix,
    )


def _confidence(segment: dict[str, Any]) -> float | None:
    """Of a segment of verbose_json: ours, or what OpenAI's `avg_logprob` makes."""
    own, mean = segment.get("confidence"), segment.get("avg_logprob")
    if isinstance(own, int | float):
        return min(1.0, float(own)) if own > 0 else None
    return math.exp(min(0.0, mean)) if isinstance(mean, int | float) else None


def read(
    raw: str,
    request: SegmentRequest,
    compatible: bool,
    *,
    confidence: float | None,
    tokens: int,
    truncated: bool = False,
    settled: str,
) -> Hypothesis:
    """A hypothesis of a raw answer, parsed as any engine's; without text there is no confidence."""
    flags: tuple[str, ...] = ()
    if compatible:
        found, text = parse_output_compatible(raw, request.language)
        language = found or None
    else:
        language, text, flags = parse_output(raw, request.language)
    if truncated:
        flags = (*flags, "truncated")
    return Hypothesis(text, language, raw, confidence if text else None, tokens, flags, settled)


def tagged(text: str, language: Any, request: SegmentRequest) -> str:
    """A text as the model writes it, where the server tells its language beside it; as it is where a language was forced."""
    if request.language or _TAG in text:
        return text
    if not text.strip():
        return f"language None{_TAG}"
    if not isinstance(language, str) or not language.strip():
        return text
    try:
        name = normalize_language(language) or language
    except ValueError:  # a language that the model family does not have: the parser flags it
        name = language
    return f"language {name}{_TAG}{text}"


def _logprobs(choice: dict[str, Any]) -> list[dict[str, Any]]:
    return (choice.get("logprobs") or {}).get("content") or []


def _text_start(tokens: Sequence[str]) -> int:
    """Number of the first token behind the tag; 0 where there is none. The tag may be several tokens."""
    end = ""
    for number, token in enumerate(tokens):
        end = (end + token)[-len(_TAG) - len(token) :]
        if _TAG in end:
            return number + 1
    return 0


def _joined(entries: Sequence[tuple[str, float, Any]]) -> str:
    """The text of tokens, without half a character at its end."""
    data = b"".join(bytes(raw) if isinstance(raw, list) else token.encode() for token, _, raw in entries)
    return data.decode(errors="replace").rstrip("\ufffd")
