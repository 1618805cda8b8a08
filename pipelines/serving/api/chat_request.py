"""The request body of a chat completion: checks, the audio, and the beginning of the response."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from actors.records import Row
from actors.text.languages import name_of
from pipelines.serving.service import Service
from pipelines.serving.web.errors import bad_request
from pipelines.serving.web.parameters import (
    MAX_PREFIX,
    checked_language,
    checked_prompt,
    checked_temperature,
    checked_text,
    decode_base64,
    decode_data_uri,
)
from pipelines.serving.web.tolerance import Tolerance

# The beginning of a response: its language, and the text behind it.
_RESPONSE_PREFIX = re.compile(r"\s*language\s+([^\s<>]{1,40})\s*<asr_text>(.*)", re.DOTALL)


@dataclass(frozen=True)
class ResponsePrefix:
    """The beginning of the response, given by the client."""

    language: str  # ISO code
    text: str

    def strip_from(self, text: str) -> str:
        """The part of a transcript behind the prefix."""
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(self.text, text, strict=False)))
        return text[same:]


@dataclass(frozen=True)
class ChatRequest:
    """The checked fields of a chat, without its audio."""

    model: str
    context: str | None
    prefix: ResponsePrefix | None
    stream: bool

    def content(self, language: str | None, text: str) -> str:
        """The response for a transcript in the model's format, or the rest of it behind the client's prefix.

        Args:
            language: ISO code.
            text: of the transcript.
        """
        if self.prefix is not None:
            return self.prefix.strip_from(text)
        return f"language {name_of(language) or 'None'}<asr_text>{text}"


def parse_chat(body: Row, service: Service, tolerance: Tolerance) -> tuple[ChatRequest, bytes | str]:
    """Check a chat.

    Args:
        body: the parsed request.
        service: the server's shared state.
        tolerance: ignores wrong values if the server is lenient, and gets the warnings.

    Returns:
        The request, and its audio as bytes or as a URL.

    Raises:
        Problem: 400 or 404, with the field that is wrong.
    """
    model = service.requested_model(body.get("model"), tolerance)
    tolerance.checked(lambda: checked_temperature(body.get("temperature")), None)
    if body.get("n") not in (None, 1):
        tolerance.refuse(bad_request("n must be 1", "n"))
    stream = body.get("stream") or False
    if not isinstance(stream, bool):
        raise bad_request("stream must be true or false", "stream")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise bad_request("messages must be a non-empty list", "messages", "missing_required_parameter")
    audio: list[bytes | str] = []
    context: list[str] = []
    for message in messages:
        if not isinstance(message, dict):
            raise bad_request("a message must be an object", "messages")
        for part in _parts(message.get("content")):
            if part.get("type") == "text" and message.get("role") in ("system", "developer"):
                context.append(str(part.get("text") or ""))
            elif part.get("type") in ("audio_url", "input_audio"):
                audio.append(_audio(part))
    if len(audio) != 1:
        raise bad_request(
            f"messages must have exactly one `audio_url` or `input_audio` part, not {len(audio)}", "messages"
        )
    prompt = checked_prompt("\n".join(filter(None, context)), service.config.serve.max_prompt, tolerance)
    return ChatRequest(model, prompt, _response_prefix(body, messages), stream), audio[0]


def _response_prefix(body: Row, messages: list[Row]) -> ResponsePrefix | None:
    """The beginning of the response that the client gives; None if there is none."""
    proceed = body.get("continue_final_message")
    if proceed is not None and not isinstance(proceed, bool):
        raise bad_request("continue_final_message must be true or false", "continue_final_message")
    if messages[-1].get("role") != "assistant":
        if proceed:
            raise bad_request(
                "continue_final_message requires a final assistant message", "continue_final_message"
            )
        return None
    prefix = "".join(
        str(part.get("text") or "")
        for part in _parts(messages[-1].get("content"))
        if part.get("type") == "text"
    )
    if proceed is False or not prefix.strip():
        return None
    match = _RESPONSE_PREFIX.fullmatch(checked_text(prefix, "messages", MAX_PREFIX) or "")
    if match is None:
        raise bad_request(
            "a final assistant message must be `language NAME<asr_text>`, optionally followed by text",
            "messages",
        )
    language = checked_language(match[1])
    if language is None:
        raise bad_request("a final assistant message must name a language", "messages")
    return ResponsePrefix(language, match[2].strip())


def _parts(content: Any) -> list[Row]:
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise bad_request("content must be a string or a list of objects", "messages")
    return content


def _audio(part: Row) -> bytes | str:
    """The audio in a part: its bytes or its URL."""
    kind = part["type"]
    source = part.get(kind)
    if isinstance(source, str):  # short for {"url": ...}
        source = {"url": source, "data": source}
    if not isinstance(source, dict):
        raise bad_request(f"{kind} must be an object", "messages")
    field = "url" if kind == "audio_url" else "data"
    value = source.get(field)
    if not isinstance(value, str):
        raise bad_request(f"{kind} has no {field}", "messages")
    if kind == "input_audio":
        return decode_base64(value, "input_audio")
    return decode_data_uri(value) if value[:5].lower() == "data:" else value
