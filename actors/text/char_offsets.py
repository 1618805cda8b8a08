"""From units back to the text as it was written: which characters of the original belong to which unit.

Units are cut from normalised text and carry no punctuation. Their characters, one after the other, are the kept characters of the
normalised text, so counting leads from a unit to its place; each normalised character knows the originals it came from.
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
    """A text, and for each of its characters the span `[start, end)` in the original text that it came from."""

    text: str
    spans: tuple[tuple[int, int], ...]


def normalize(text: str, form: Form) -> Surface:
    """Normalise a text (Unicode NFC or NFKC) without losing where each character came from."""
    if unicodedata.is_normalized(form, text):
        return Surface(text, tuple((i, i + 1) for i in range(len(text))))
    pieces: list[str] = []
    spans: list[tuple[int, int]] = []
    start = 0
    while start < len(text):
        # A cluster is what may be normalised by itself: it ends before a character that neither combines nor composes with it.
        end, piece = start + 1, unicodedata.normalize(form, text[start])
        while end < len(text):
            joined = unicodedata.normalize(form, text[start : end + 1])
            if not unicodedata.combining(text[end]) and joined == piece + unicodedata.normalize(
                form, text[end]
            ):
                break
            end, piece = end + 1, joined
        pieces.append(piece)
        spans.extend([(start, end)] * len(piece))
        start = end
    return Surface("".join(pieces), tuple(spans))


def mend_apostrophes(text: str) -> str:
    """Write U+2019 as the ASCII apostrophe where it is one: inside a word, and at its edge unless a single quotation is open.

    The reference drops U+2019, so that "I’m" becomes "Im" and the aligner is asked for a word that nobody said.
    """
    if "’" not in text:
        return text
    chars = list(text)
    opened = False
    for i, char in enumerate(chars):
        if char == "‘":
            opened = True
        elif char == "’":
            before = i > 0 and text[i - 1].isalnum()
            after = i + 1 < len(text) and text[i + 1].isalnum()
            if (before and after) or (before != after and not opened):
                chars[i] = "'"
            else:
                opened = False
    return "".join(chars)


def cores(
    units: list[str], surface: Surface, is_kept: Callable[[str], bool]
) -> list[tuple[str, int, int]] | None:
    """Place units on the original text, from each one's first kept character to its last.

    Returns `(unit, start, end)` in order, not overlapping. Units cut out of one original character ("㍻" is "平成" in NFKC) are
    joined. None when the units are not made of the surface's kept characters, in order.
    """
    kept = [i for i, char in enumerate(surface.text) if is_kept(char)]
    if "".join(units) != "".join(surface.text[i] for i in kept):
        return None
    placed: list[tuple[str, int, int]] = []
    position = 0
    for unit in units:
        start = surface.spans[kept[position]][0]
        position += len(unit)
        end = surface.spans[kept[position - 1]][1]
        if placed and start < placed[-1][2]:
            unit, start = placed[-1][0] + unit, placed[-1][1]
            placed.pop()
        placed.append((unit, start, end))
    return placed


def widen(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Let words take the punctuation around them: what follows belongs to the word before, opening marks to the word after."""
    if not spans:
        return []
    starts = [len(text) - len(text.lstrip())]
    ends: list[int] = []
    for (_, left), (right, _) in pairwise(spans):
        taken, given = _divide(text[left:right])
        ends.append(left + taken)
        starts.append(left + given)
    ends.append(len(text.rstrip()))
    # Only white space may stand outside; a word's own characters never do, not even if they count as white space.
    return [
        (min(start, own[0]), max(end, own[1])) for start, end, own in zip(starts, ends, spans, strict=True)
    ]


@lru_cache(maxsize=1 << 12)  # nearly all gaps are one space
def _divide(gap: str) -> tuple[int, int]:
    """How much of the text between two words the first one takes, and from where on it is the second one's."""
    if not any(c.isspace() for c in gap):
        cut = len(gap)
        while cut and _opens(gap[cut - 1]):
            cut -= 1
        return cut, cut
    chunks: list[tuple[int, int]] = []  # of the gap, between white space
    start = 0
    for i, char in enumerate(gap + " "):
        if char.isspace():
            if i > start:
                chunks.append((start, i))
            start = i + 1
    taken, given = 0, len(gap)
    if chunks and chunks[-1][1] == len(gap):  # written onto the next word
        given = chunks.pop()[0]
    while chunks and chunks[-1][0] and all(map(_opens, gap[slice(*chunks[-1])])):
        given = chunks.pop()[0]
    if chunks:
        taken = chunks[-1][1]
    return taken, given


def _opens(char: str) -> bool:
    return char in "¿¡#@" or unicodedata.category(char) in ("Ps", "Pi", "Sc")
