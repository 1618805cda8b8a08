"""Checks and decodes parameter values that clients send."""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from typing import Any

from actors.errors import UsageError
from actors.text.languages import code_of, normalize_language
from pipelines.serving.web.errors import bad_request
from pipelines.serving.web.tolerance import Tolerance

MAX_PREFIX = 10_000  # characters of the beginning of a response that the client gives
_WORD_SEARCH = 100  # characters at the beginning of a cut prompt in which a space is looked for
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


def chosen_language(language: Any, languages: Sequence[str]) -> Any:
    """The language of a request that has OpenAI's `language`, or `languages`, the possible ones.

    The model cannot be restricted to several languages: it detects the language then.
    """
    return languages[0] if language in (None, "") and len(languages) == 1 else language


def with_keywords(prompt: Any, keywords: Sequence[str]) -> Any:
    """The prompt of a request that may also have OpenAI's `keywords`."""
    if not keywords or not (prompt is None or isinstance(prompt, str)):
        return prompt
    return "\n".join(filter(None, [prompt, ", ".join(keywords)]))


def checked_prompt(value: Any, max_chars: int, tolerance: Tolerance) -> str | None:
    """The prompt (background text) of a request; None if it is empty.

    Of a prompt that is too long the end is kept, from the beginning of a word, as Whisper does: clients that
    send the text so far as the prompt have the nearest text there.

    Args:
        value: as given.
        max_chars: longest prompt (`serve.max_prompt`).
        tolerance: gets a warning if the prompt is cut.

    Raises:
        Problem: 400 if it is not valid Unicode.
    """
    text = checked_text(value, "prompt")
    if text is None or len(text) <= max_chars:
        return text
    end = text[len(text) - max_chars :]
    space = re.search(r"\s", end[:_WORD_SEARCH])
    # A cut between two words needs no search.
    if space is not None and not text[len(text) - max_chars - 1].isspace():
        end = end[space.end() :]
    end = end.strip()
    tolerance.warn(
        f"prompt is cut: it has {len(text)} characters, the model takes {max_chars}; "
        f"the last {len(end)} are used"
    )
    return end or None


def checked_text(value: Any, name: str, max_chars: int | None = None) -> str | None:
    """A field with text; None if it is empty.

    Raises:
        Problem: 400 if it is no string, too long, or not valid Unicode.
    """
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise bad_request(f"{name} must be a string", name)
    if not value.isascii() and value.encode("utf-8", "replace").decode() != value:
        raise bad_request(f"{name} contains a lone surrogate (half a character)", name)
    if max_chars is not None and len(value) > max_chars:
        raise bad_request(
            f"{name} has {len(value):,} characters; the limit is {max_chars:,}",
            name,
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
