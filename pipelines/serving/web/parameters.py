"""Checks and decodes parameter values that clients send."""

from __future__ import annotations

import binascii
from typing import Any

from actors.errors import UsageError
from actors.text.languages import code_of, normalize_language
from pipelines.serving.web.errors import bad_request

MAX_PROMPT = 10_000  # characters: the model reads the prompt again with every segment
# Characters of base64 decoded in one call: the call holds the GIL, which blocks all other threads.
_BASE64_CHUNK = 1 << 18


def checked_language(value: Any) -> str | None:
    """The ISO code of the requested language; None if the model is to detect it.

    Raises:
        Problem: 400 if the model does not support it.
    """
    if value is not None and not isinstance(value, str):
        raise bad_request("language must be a string", "language")
    try:
        return code_of(normalize_language(value))
    except UsageError as error:
        raise bad_request(error.message[:500], "language", "unsupported_language") from None


def checked_prompt(value: Any) -> str | None:
    """The prompt (background text) of a request; None if it is empty.

    Raises:
        Problem: 400 if it is too long or not valid Unicode.
    """
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise bad_request("prompt must be a string", "prompt")
    if not value.isascii() and value.encode("utf-8", "replace").decode() != value:
        raise bad_request("prompt contains a lone surrogate (half a character)", "prompt")
    if len(value) > MAX_PROMPT:
        raise bad_request(
            f"prompt has {len(value):,} characters; the limit is {MAX_PROMPT:,}",
            "prompt",
            "string_above_max_length",
        )
    return value


def checked_temperature(value: Any) -> None:
    """Accept greedy decoding only.

    Raises:
        Problem: 400 for anything but 0.
    """
    try:
        zero = value is None or value == "" or float(value) == 0
    except (TypeError, ValueError, OverflowError):
        raise bad_request("temperature must be a number", "temperature") from None
    if not zero:
        raise bad_request(
            "temperature must be 0: a transcript is the most probable text, not a sample", "temperature"
        )


def decode_data_uri(uri: str) -> bytes:
    """The contents of a `data:` URI.

    Raises:
        Problem: 400 if it is not base64.
    """
    comma = uri.find(",")
    if comma < 0 or not uri[:comma].lower().endswith(";base64"):
        raise bad_request("a data: URI must be `data:audio/...;base64,...`", "audio_url")
    return decode_base64(uri, "audio_url", comma + 1)


def decode_base64(text: str, param: str, start: int = 0) -> bytes:
    """Decode base64 in chunks, so that a thread with much to decode lets others run.

    Args:
        text: contains the base64.
        param: the request field, for error messages.
        start: index in `text` at which the base64 begins.

    Raises:
        Problem: 400 if it is not base64.
    """
    try:
        chunks = [
            binascii.a2b_base64(text[index : index + _BASE64_CHUNK], strict_mode=True)
            for index in range(start, len(text), _BASE64_CHUNK)
        ]
    except (binascii.Error, ValueError):
        raise bad_request(f"{param} is not base64", param) from None
    # Padding before the end, or too much padding, which the library accepts.
    if any(len(chunk) < _BASE64_CHUNK // 4 * 3 for chunk in chunks[:-1]) or (len(text) - start) % 4:
        raise bad_request(f"{param} is not base64", param)
    return b"".join(chunks)
