"""Positions of units in the original text.

Units are cut from normalised text and have no punctuation. Their characters, in order, are the characters of
the normalised text that may be in units, so a unit is located by counting. Each normalised character has the
span of the original characters that it came from.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal

Form = Literal["NFC", "NFKC"]


@dataclass(frozen=True, slots=True)
class Surface:
    """A normalised text, and for each of its characters its span `[start, end)` in the original text."""

    text: str
    spans: tuple[tuple[int, int], ...]


def normalize(text: str, form: Form) -> Surface:
    """Normalise a text (Unicode NFC or NFKC) and keep the origin of each character."""
    if unicodedata.is_normalized(form, text):
        return Surface(text, tuple((i, i + 1) for i in range(len(text))))
    pieces: list[str] = []
    spans: list[tuple[int, int]] = []
    start = 0
    while start < len(text):
        # A cluster can be normalised by itself: it ends before a character that neither combines nor composes
        # with it.
        end, piece = start + 1, unicodedata.normalize(form, text[start])
        while end < len(text):
            joined = unicodedata.normalize(form, text[start : end + 1])
            separate = piece + unicodedata.normalize(form, text[end])
            if not unicodedata.combining(text[end]) and joined == separate:
                break
            end, piece = end + 1, joined
        pieces.append(piece)
        spans.extend([(start, end)] * len(piece))
        start = end
    return Surface("".join(pieces), tuple(spans))


def repair_apostrophes(text: str) -> str:
    """Replace U+2019 by the ASCII apostrophe where it is one.

    It is one inside a word, and at the edge of a word unless a single quotation is open. The reference drops
    U+2019, so that "I’m" becomes "Im" and the aligner gets a word that nobody said.
    """
    if "’" not in text:
        return text
    chars = list(text)
    quotation_open = False
    for i, char in enumerate(chars):
        if char == "‘":
            quotation_open = True
        elif char == "’":
            before = i > 0 and text[i - 1].isalnum()
            after = i + 1 < len(text) and text[i + 1].isalnum()
            if (before and after) or (before != after and not quotation_open):
                chars[i] = "'"
            else:
                quotation_open = False
    return "".join(chars)


def locate(
    units: list[str], surface: Surface, is_unit_char: Callable[[str], bool]
) -> list[tuple[str, int, int]] | None:
    """Find the span of each unit in the original text, from its first character to its last.

    Args:
        units: cut from the surface's text.
        surface: the normalised text.
        is_unit_char: whether a character may be in a unit.

    Returns:
        `(unit, start, end)` in order, not overlapping. Units cut out of one original character are joined
        ("㍻" is "平成" in NFKC). None where the units, in order, are not made of the unit characters of the
        surface.
    """
    indices = [i for i, char in enumerate(surface.text) if is_unit_char(char)]
    if "".join(units) != "".join(surface.text[i] for i in indices):
        return None
    located: list[tuple[str, int, int]] = []
    position = 0
    for unit in units:
        start = surface.spans[indices[position]][0]
        position += len(unit)
        end = surface.spans[indices[position - 1]][1]
        if located and start < located[-1][2]:
            unit, start = located[-1][0] + unit, located[-1][1]
            located.pop()
        located.append((unit, start, end))
    return located


def widen(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Extend words by the punctuation around them.

    Punctuation belongs to the word before it, opening marks to the word after them.

    Args:
        text: the text.
        spans: `(start, end)` of its words, in order, not overlapping.

    Returns:
        The extended spans; only white space is outside of them.
    """
    if not spans:
        return []
    starts = [len(text) - len(text.lstrip())]
    ends: list[int] = []
    for (_, left), (right, _) in pairwise(spans):
        end_of_left, start_of_right = _divide_gap(text[left:right])
        ends.append(left + end_of_left)
        starts.append(left + start_of_right)
    ends.append(len(text.rstrip()))
    # A word's own characters are never outside, not even if they count as white space.
    return [
        (min(start, own[0]), max(end, own[1])) for start, end, own in zip(starts, ends, spans, strict=True)
    ]


# Cached because nearly all gaps are one space.
@lru_cache(maxsize=1 << 12)
def _divide_gap(gap: str) -> tuple[int, int]:
    """Where in the text between two words the first word ends and the second one starts."""
    if not any(c.isspace() for c in gap):
        cut = len(gap)
        while cut and _is_opening(gap[cut - 1]):
            cut -= 1
        return cut, cut
    # Spans of the gap between white space.
    chunks: list[tuple[int, int]] = []
    start = 0
    for i, char in enumerate(gap + " "):
        if char.isspace():
            if i > start:
                chunks.append((start, i))
            start = i + 1
    end_of_left, start_of_right = 0, len(gap)
    # A chunk without white space before the next word belongs to it.
    if chunks and chunks[-1][1] == len(gap):
        start_of_right = chunks.pop()[0]
    while chunks and chunks[-1][0] and all(map(_is_opening, gap[slice(*chunks[-1])])):
        start_of_right = chunks.pop()[0]
    if chunks:
        end_of_left = chunks[-1][1]
    return end_of_left, start_of_right


def _is_opening(char: str) -> bool:
    return char in "¿¡#@" or unicodedata.category(char) in ("Ps", "Pi", "Sc")
