"""Hypotheses from texts of servers: outputs of the model, and texts made to look like one."""

from __future__ import annotations

from typing import Any

from actors.records import Hypothesis, SegmentRequest
from actors.text.languages import normalize_language
from actors.text.parsing import parse_output, parse_output_compatible

# Ends the language at the beginning of an output.
TAG = "<asr_text>"


def parse_raw(
    raw: str,
    segment: SegmentRequest,
    compatible: bool,
    *,
    confidence: float | None,
    tokens: int,
    truncated: bool = False,
    settled: str,
) -> Hypothesis:
    """A hypothesis from a raw output, parsed as any engine's; without text there is no confidence."""
    flags: tuple[str, ...] = ()
    if compatible:
        found, text = parse_output_compatible(raw, segment.language)
        language = found or None
    else:
        language, text, flags = parse_output(raw, segment.language)
    if truncated:
        flags = (*flags, "truncated")
    return Hypothesis(text, language, raw, confidence if text else None, tokens, flags, settled)


def with_language_tag(text: str, language: Any, segment: SegmentRequest) -> str:
    """A text as the model would write it: with the language that the server returns beside it as a tag.

    Where a language was forced, the text stays as it is.
    """
    if segment.language or TAG in text:
        return text
    if not text.strip():
        return f"language None{TAG}"
    if not isinstance(language, str) or not language.strip():
        return text
    try:
        name = normalize_language(language) or language
    except ValueError:
        # The model family does not have this language: the parser flags it.
        name = language
    return f"language {name}{TAG}{text}"
