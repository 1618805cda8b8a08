"""A segment in shorter pieces, cut at other pauses, and their texts as one. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from actors.confidence.words import CONFIDENCE_DIGITS
from actors.config import SegmenterConfig
from actors.records import SAMPLING_RATE, Hypothesis, Piece, Span
from actors.segmentation.endings import end_in_silence
from actors.segmentation.energy import cut_regions, find_cut
from actors.segmentation.levels import frame_levels, smoothed
from actors.text.languages import is_spaced

# Seconds. Longest piece; where languages mix; and of what is not worth a cut.
LONGEST, LONGEST_MIXED, SHORTEST = 15.0, 10.0, 2.0
# A segment that is not longer than 1.6 pieces is cut near its middle (`energy`): the longest piece of a short
# one, as a share of it.
_HALF = 1 / 1.6
# Other cuts: where a short segment is cut in two, and how long the pieces of a long one are, by variant.
VARIANTS = 3
_WINDOWS, _SHARES = ((0.4, 0.6), (0.55, 0.85), (0.15, 0.45)), (1.0, 0.8, 0.65)


def pieces_of(waveform: np.ndarray, *, mixed: bool = False, variant: int = 0) -> list[Span]:
    """Where to cut a segment; one span where it is too short to be cut.

    Args:
        waveform: int16, mono, 16 kHz.
        mixed: whether it may have several languages: pieces are shorter then.
        variant: 0 to VARIANTS - 1: other pauses of the same segment.
    """
    total = len(waveform)
    seconds = total / SAMPLING_RATE
    if seconds < SHORTEST:
        return [Span(0, total)]
    longest = LONGEST_MIXED if mixed else LONGEST
    if variant and seconds * _HALF <= longest:
        first, last = (round(share * total) for share in _WINDOWS[variant])
        cut = first + find_cut(waveform[first:last], (last - first) // 2)
        return [Span(0, cut), Span(cut, total)]
    limit = min(longest * _SHARES[variant], max(SHORTEST / 2, seconds * _HALF))
    config = SegmenterConfig(max_duration=max(1.0, limit))
    spans = cut_regions([Span(0, total)], smoothed(frame_levels(waveform)), [], config)
    return spans or [Span(0, total)]


def joined(spans: Sequence[Span], hypotheses: Sequence[Hypothesis]) -> Hypothesis:
    """The answers to the pieces of a segment as one answer.

    Its language is that of most characters, its confidence the mean of the pieces' over their tokens. Flags
    of any piece are flags of the whole.
    """
    pieces = [(span, one) for span, one in zip(spans, hypotheses, strict=True) if one.text.strip()]
    text = ""
    ends: list[int] = []
    scores: list[float | None] = []
    before: Hypothesis | None = None
    for _, one in pieces:
        same = before is not None and before.language == one.language
        own = one.text.strip()
        if before is not None and is_spaced(one.language if same else None, text, own):
            text += " "
        shift = len(text) - (len(one.text) - len(one.text.lstrip()))
        if one.token_ends:
            if len(text) > (ends[-1] if ends else 0):
                ends.append(len(text))
                scores.append(None)
            ends += [min(max(end + shift, len(text)), len(text) + len(own)) for end in one.token_ends]
            scores += one.token_log_probabilities
        text += own
        before = one
    weights: dict[str, int] = {}
    for _, one in pieces:
        if one.language:
            weights[one.language] = weights.get(one.language, 0) + len(one.text)
    known = [(math.log(max(one.confidence, 1e-9)), max(1, one.tokens)) for _, one in pieces if one.confidence]
    total = sum(weight for _, weight in known)
    mean = sum(score * weight for score, weight in known) / total if total else None
    tags = [one.language_confidence for _, one in pieces if one.language_confidence is not None]
    return Hypothesis(
        text=text,
        language=max(weights, key=lambda name: weights[name]) if weights else None,
        raw=" ".join(one.raw for one in hypotheses if one.raw),
        confidence=None if mean is None else round(math.exp(mean), CONFIDENCE_DIGITS),
        tokens=sum(one.tokens for one in hypotheses),
        flags=tuple(dict.fromkeys(flag for one in hypotheses for flag in one.flags)),
        language_confidence=min(tags) if tags else None,
        token_ends=tuple(ends),
        token_log_probabilities=tuple(scores),
    )


def in_languages(spans: Sequence[Span], hypotheses: Sequence[Hypothesis]) -> tuple[Piece, ...]:
    """The parts of a segment that are in different languages, each as long as its language goes on.

    Returns:
        Nothing where all of it is in one language. A piece without text belongs to the part before it.
    """
    groups: list[tuple[list[Span], list[Hypothesis]]] = []
    for span, one in zip(spans, hypotheses, strict=True):
        spoken = [other.language for other in groups[-1][1] if other.text] if groups else []
        if groups and (not one.text or not spoken or one.language == spoken[-1]):
            groups[-1][0].append(span)
            groups[-1][1].append(one)
        else:
            groups.append(([span], [one]))
    if len(groups) < 2:
        return ()
    return tuple(
        Piece(Span(spans[0].start, spans[-1].end), joined(spans, of_part)) for spans, of_part in groups
    )


def piece(waveform: np.ndarray, span: Span) -> np.ndarray:
    """The audio of a piece, with silence behind it where it ends within sound."""
    return end_in_silence(waveform[span.start : span.end])
