"""The protocol of OpenAI-compatible servers for one segment: requests and responses. Pure.

There are three protocols, values of `asr.remote.endpoint`:

- `chat`: POST /chat/completions as vLLM, SGLang and `scriptorium serve` accept it. The response is the
  model's own output, `language X<asr_text>...`. Context is the system turn. A forced language is the
  beginning of the output, which the server is asked to continue.
- `transcriptions`: POST /audio/transcriptions. Its quality depends on the server: vLLM leaves out the system
  turn that the model was trained with, and older versions ignore the language (read from its source, 0.33),
  so use `chat` for it. Its requests and responses are in `transcriptions_protocol`.
- `dashscope`: POST /chat/completions as DashScope's compatible mode accepts it (Alibaba Cloud Model Studio,
  "Qwen-ASR API reference"): audio as `input_audio`, the language in `asr_options`. The text comes without the
  tag, its language in `annotations`.
"""

from __future__ import annotations

import base64
import io
import json
import re
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from actors.backends.qwen.prompts import clean_context
from actors.backends.remote.raw_output import TAG, parse_raw, with_language_tag, with_tokens
from actors.records import SAMPLING_RATE, Hypothesis, SegmentRequest
from actors.text.languages import code_of

Endpoint = Literal["chat", "dashscope"]
CONFIDENCE_DIGITS = 4
# Values of `finish_reason` in vLLM, SGLang and gateways for an incomplete output.
_INCOMPLETE = ("abort", "error", "cancelled", "canceled")
# An escaped half of a surrogate pair: servers cut strings in the middle of one.
_HALF_PAIR = re.compile(rb"\\u[dD][89abAB]|\\u[dD][c-fC-F]")
_CONTROL_TOKEN = re.compile(r"<\|[a-z_]{1,40}\|>")


class Malformed(ValueError):
    """A response that no OpenAI-compatible server should send, or an incomplete one."""


class Withheld(ValueError):
    """The server has an output that it does not return."""


@dataclass(frozen=True)
class HTTPRequest:
    """A POST request: JSON, or a form with a file."""

    path: str
    body: dict[str, Any] | None = None
    form: dict[str, str | list[str]] | None = None
    file: bytes = b""


@dataclass(frozen=True)
class TokenCounts:
    """The numbers of tokens that the server has counted."""

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


def build_request(
    segment: SegmentRequest,
    endpoint: Endpoint,
    model: str,
    max_tokens: int,
    *,
    compatible: bool = False,
) -> HTTPRequest:
    """The HTTP request for one segment; for `transcriptions` see `transcriptions_protocol`.

    Args:
        segment: the segment.
        endpoint: see the head of this file.
        model: name of the model on the server.
        max_tokens: most tokens of the output (only `chat` has a field for it).
        compatible: send the context unchanged, as the reference does.
    """
    audio = wav(segment.waveform)
    context = segment.context if compatible else clean_context(segment.context)
    data_uri = "data:audio/wav;base64," + base64.b64encode(audio).decode()
    if endpoint == "dashscope":
        return HTTPRequest("/chat/completions", _dashscope_body(segment, model, context, data_uri))
    return HTTPRequest("/chat/completions", _chat_body(segment, model, context, data_uri, max_tokens))


def _dashscope_body(segment: SegmentRequest, model: str, context: str, data_uri: str) -> dict[str, Any]:
    options: dict[str, Any] = {"enable_itn": False}
    options |= {"language": code_of(segment.language)} if segment.language else {}
    messages: list[dict[str, Any]] = []
    if context:
        messages.append({"role": "system", "content": [{"type": "text", "text": context}]})
    audio = {"type": "input_audio", "input_audio": {"data": data_uri}}
    messages.append({"role": "user", "content": [audio]})
    return {"model": model, "messages": messages, "stream": False, "asr_options": options}


def _chat_body(
    segment: SegmentRequest, model: str, context: str, data_uri: str, max_tokens: int
) -> dict[str, Any]:
    messages: list[dict[str, Any]] = [
        # Also where it is empty: the model was trained with a system turn.
        {"role": "system", "content": context},
        {"role": "user", "content": [{"type": "audio_url", "audio_url": {"url": data_uri}}]},
    ]
    body = {
        "model": model,
        "messages": messages,
        "temperature": 0,
        "max_completion_tokens": max_tokens,
        "logprobs": True,
    } | penalty_field(segment)
    forced = f"language {segment.language}{TAG}" if segment.language else ""
    if beginning := forced + segment.prefix:
        messages.append({"role": "assistant", "content": beginning})
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    return body


def penalty_field(segment: SegmentRequest) -> dict[str, Any]:
    """The field of vLLM and SGLang; other servers are never asked for a penalty of 1."""
    return {} if segment.repetition_penalty == 1 else {"repetition_penalty": segment.repetition_penalty}


def parse_json(data: bytes) -> dict[str, Any]:
    """The JSON object in a response; half of a surrogate pair, which no table can hold, becomes "?".

    Raises:
        Malformed: the response is no JSON object.
    """
    try:
        value = json.loads(data)
    except ValueError:  # UnicodeDecodeError is one of them
        raise Malformed(f"the response is not JSON: {data[:80]!r}") from None
    if not isinstance(value, dict):
        raise Malformed(f"the response is no JSON object: {data[:80]!r}")
    if _HALF_PAIR.search(data):
        value = json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
    return value


def parse_response(
    response: dict[str, Any], segment: SegmentRequest, endpoint: Endpoint, *, compatible: bool = False
) -> Hypothesis:
    """The hypothesis in a response.

    `raw` is the model's own output where the server returns it (`chat`), else what the model would have
    written. The confidence is exp(mean log-probability) of the text's tokens, None where the server returns
    no log-probabilities.

    Raises:
        Malformed: the response has no output, or an incomplete one.
        Withheld: the server's filter withholds the output.
    """
    try:
        choice = response["choices"][0]
        message = choice["message"]
        reason, content = choice.get("finish_reason"), message["content"] or ""
        annotations = [
            entry
            for entry in message.get("annotations") or []
            if isinstance(entry, dict) and entry.get("language")
        ]
        tokens = [
            (str(entry["token"]), float(entry["logprob"]), entry.get("bytes")) for entry in _logprobs(choice)
        ]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise Malformed(
            f"the response has no choices[0].message.content as chat completions have it: {error!r}"
        ) from None
    if reason == "content_filter":
        raise Withheld("the server's filter withholds the output (finish_reason content_filter)")
    if reason in _INCOMPLETE or (reason not in (None, "stop") and not content):
        raise Malformed(f"the output is incomplete (finish_reason {reason})")
    if not isinstance(content, str):
        raise Malformed(f"choices[0].message.content is a {type(content).__name__}, not a string")
    has_tokens = bool(tokens)
    # Tokens that end the output are no part of the text.
    while tokens and (not tokens[-1][0] or _CONTROL_TOKEN.fullmatch(tokens[-1][0])):
        tokens.pop()
    if endpoint == "dashscope":
        content = with_language_tag(content, annotations[0]["language"] if annotations else None, segment)
    settled = segment.prefix
    if segment.unsettled_tokens:
        settled += _text_of(tokens[: -segment.unsettled_tokens])
    prefix = segment.prefix if endpoint == "chat" else ""
    hypothesis = parse_raw(
        prefix + content,
        segment,
        compatible,
        confidence=None,
        tokens=len(tokens) if has_tokens else token_counts(response).completion,
        truncated=choice.get("finish_reason") == "length",
        settled=settled if segment.unsettled_tokens else "",
    )
    pieces = [(bytes_of(token, raw), score) for token, score, raw in tokens]
    return with_tokens(hypothesis, pieces, segment, prefix)


def token_counts(response: Mapping[str, Any]) -> TokenCounts:
    """The tokens that a response says were used; 0 where it does not say."""
    usage = response.get("usage")
    if not isinstance(usage, dict):
        return TokenCounts()

    def count(*names: str) -> int:
        return next((value for name in names if isinstance(value := usage.get(name), int) and value > 0), 0)

    return TokenCounts(count("prompt_tokens", "input_tokens"), count("completion_tokens", "output_tokens"))


def _logprobs(choice: dict[str, Any]) -> list[dict[str, Any]]:
    return (choice.get("logprobs") or {}).get("content") or []


def bytes_of(token: str, raw: Any) -> bytes:
    """The bytes of a token, which the server may list, because a token may end within a character."""
    try:
        return bytes(raw) if isinstance(raw, list) else token.encode()
    except (TypeError, ValueError):  # not numbers, or not of bytes
        return token.encode()


def _text_of(tokens: Sequence[tuple[str, float, Any]]) -> str:
    """The text of tokens, without an incomplete character at its end."""
    data = b"".join(bytes_of(token, raw) for token, _, raw in tokens)
    return data.decode(errors="replace").rstrip("\ufffd")
