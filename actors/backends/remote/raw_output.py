"""Hypotheses from texts of servers: outputs of the model, and texts made to look like one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from actors.confidence.token_spans import ends_of, locate
from actors.confidence.words import joint_confidence, mean_confidence
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


def with_tokens(
    hypothesis: Hypothesis, tokens: Sequence[tuple[bytes, float]], segment: SegmentRequest, prefix: str = ""
) -> Hypothesis:
    """A hypothesis with the probabilities of its tokens.

    Args:
        hypothesis: from `parse_raw`.
        tokens: the bytes of each token or word, and its log-probability, without those that end the output;
            spaces between words may be missing.
        segment: the request.
        prefix: what stands before them in the raw output.
    """
    if not hypothesis.text or not tokens:
        return hypothesis
    written, ends = ends_of([piece for piece, _ in tokens])
    scores = [score for _, score in tokens]
    before, tag = len(prefix), written.find(TAG)
    first = 0 if tag < 0 else next(at for at, end in enumerate(ends) if end >= tag + len(TAG)) + 1
    # The prefix is an entry without a probability.
    spans = locate(
        prefix + written,
        [*([before] if prefix else []), *(before + end for end in ends)],
        [*([None] if prefix else []), *scores],
        hypothesis.text,
    )
    return replace(
        hypothesis,
        confidence=mean_confidence(scores[first:]),
        language_confidence=None if segment.language else joint_confidence(scores[:first]),
        token_ends=spans.ends,
        token_log_probabilities=spans.log_probabilities,
    )


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
