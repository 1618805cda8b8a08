"""Agreement of texts, word by word, and the merging of two of them, span by span. Pure.

The merging follows ROVER (Fiscus, "A post-processing system to yield reduced word error rates", ASRU 1997)
for two recognisers: where both have the same words, these stand; elsewhere those of the more confident one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rapidfuzz.distance import Levenshtein

# A word, or one character of a script without spaces.
_SINGLE = r"\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_WORD = re.compile(rf"[{_SINGLE}]|[^\W_{_SINGLE}]+(?:['’][^\W_{_SINGLE}]+)*")
# Share of equal words from which two texts agree.
AGREEMENT = 0.9


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a text, and how sure its recogniser is; None: it does not say."""

    start: int  # first character
    end: int
    key: str  # what is compared
    confidence: float | None = None


def words_of(text: str) -> list[Word]:
    """The words of a text, compared without case and punctuation."""
    return [Word(found.start(), found.end(), found.group().casefold()) for found in _WORD.finditer(text)]


def agreement(left: str, right: str) -> float:
    """The share of equal words of two texts, 0..1: one less the edits per word of the longer one."""
    keys = [[word.key for word in words_of(text)] for text in (left, right)]
    return Levenshtein.normalized_similarity(*keys)


def merged(
    first: str,
    second: str,
    first_words: Sequence[Word],
    second_words: Sequence[Word],
    confidences: tuple[float | None, float | None] = (None, None),
) -> tuple[str, int]:
    """Two texts of the same speech as one.

    A span in which they differ is taken from the recogniser that is more confident about it: by the geometric
    mean of its words there, or by that of its whole text where words have none. Of equals, and where neither
    says anything, the second one counts.

    Args:
        first: a text.
        second: another one.
        first_words: its words, in order.
        second_words: likewise.
        confidences: of both texts.

    Returns:
        The text, and how many spans of it come from the first one although the second one differs.
    """
    codes = Levenshtein.opcodes([word.key for word in first_words], [word.key for word in second_words])
    pieces: list[str] = []
    place, kept = 0, 0
    for first_span, second_span in _differences(codes):
        own, other = first_words[slice(*first_span)], second_words[slice(*second_span)]
        ours, theirs = _confidence(own, confidences[0]), _confidence(other, confidences[1])
        if ours is None or theirs is None or ours <= theirs:
            continue
        start, end = _span(second, second_words, *second_span)
        words = _text(first, own)
        before = second[place:start]
        if words and not other:
            words = f" {words}" if before and not before[-1].isspace() else f"{words} "
        pieces += [before, words]
        place, kept = end, kept + 1
        if not words and before.endswith(" ") and second[place : place + 1] == " ":
            place += 1
    return ("".join([*pieces, second[place:]])).strip(), kept


def _differences(codes: Iterable[Any]) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Words of both texts that differ, as (start, end) in each; a word for a word is one difference."""
    for code in codes:
        first, second = (code.src_start, code.src_end), (code.dest_start, code.dest_end)
        if code.tag == "replace" and first[1] - first[0] == second[1] - second[0]:
            for offset in range(first[1] - first[0]):
                yield (first[0] + offset, first[0] + offset + 1), (second[0] + offset, second[0] + offset + 1)
        elif code.tag != "equal":
            yield first, second


def _confidence(words: Sequence[Word], whole: float | None) -> float | None:
    """Geometric mean of the confidence of words; that of the whole text where it is not known."""
    known = [word.confidence for word in words if word.confidence is not None]
    if not known or len(known) < len(words):
        return whole
    product = 1.0
    for value in known:
        product *= value
    return float(product ** (1 / len(known)))


def _span(text: str, words: Sequence[Word], start: int, end: int) -> tuple[int, int]:
    """The characters of words; where there are none, the place behind the word before them."""
    if end > start:
        return words[start].start, words[end - 1].end
    place = words[start - 1].end if start else (words[0].start if words else len(text))
    return place, place


def _text(text: str, words: Sequence[Word]) -> str:
    return text[words[0].start : words[-1].end] if words else ""
