"""The units that the aligner puts times on: words, ideographs, Korean stems and particles.

The cut is the reference's (qwen_asr 0.0.6), because the model was trained on it: only letters, numbers and the ASCII apostrophe are
kept; Japanese is cut by nagisa, Korean by the longest known stem, everything else at white space and around each ideograph.
"""

from __future__ import annotations

import gzip
import unicodedata
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from actors.text.char_offsets import cores, mend_apostrophes, normalize, widen

_KOREAN_WORDS = Path(__file__).parent / "data" / "korean_words.txt.gz"  # licence: NOTICE beside it
# The reference's ideographs: blocks A to E and the compatibility block, without U+2F800 to U+2FA1F and without blocks from G on.
_IDEOGRAPHS = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2A700, 0x2CEAF))


@dataclass(frozen=True, slots=True)
class Unit:
    """What the aligner reads, and its characters in the text that people read, punctuation included."""

    text: str
    char_start: int
    char_end: int


def split_units(text: str, language_name: str | None) -> list[str]:
    """Cut a text into the reference's units. Any case of the language's name will do; a language outside the 11 is cut at spaces."""
    language = (language_name or "").strip().lower()
    if language == "japanese":
        return [kept for kept in map(_keep, _japanese_words(text)) if kept]
    if language == "korean":
        return [kept for token in text.split() for kept in map(_keep, _stem(token)) if kept]
    return [unit for token in text.split() for unit in _around_ideographs(_keep(token))]


def locate_units(text: str, language_name: str | None) -> list[Unit]:
    """Cut a text into units and say where each stands in it.

    Before the cut, text is composed (NFC) and U+2019 written as "'" where it is an apostrophe; the reference would drop accents that
    are written as separate characters, and "I’m" would become "Im". Positions are those of `text` as given: spans rise, never
    overlap, and together hold every character but the white space between words.
    """
    mended = mend_apostrophes(text)  # as long as the text
    surface = normalize(mended, "NFKC" if (language_name or "").strip().lower() == "japanese" else "NFC")
    placed = cores(split_units(surface.text, language_name), surface, _is_kept)
    if (
        placed is None
    ):  # the tokenizer changed the text in a way that we cannot follow: spaces and ideographs are always followed
        placed = cores(split_units(surface.text, None), surface, _is_kept) or []
    spans = widen(text, [(start, end) for _, start, end in placed])
    return [Unit(unit, start, end) for (unit, _, _), (start, end) in zip(placed, spans, strict=True)]


@lru_cache(maxsize=1 << 16)  # asked for every character three times over
def _is_kept(char: str) -> bool:
    return char == "'" or unicodedata.category(char)[0] in "LN"


def _keep(token: str) -> str:
    return "".join(filter(_is_kept, token))


def _is_ideograph(char: str) -> bool:
    point = ord(char)
    return any(first <= point <= last for first, last in _IDEOGRAPHS)


def _around_ideographs(token: str) -> list[str]:
    if token.isascii():
        return [token] if token else []
    units: list[str] = []
    glue = False  # whether the next character may still join the last unit
    for char in token:
        alone = _is_ideograph(char)
        if glue and not alone:
            units[-1] += char
        else:
            units.append(char)
        glue = not alone
    return units


def _japanese_words(text: str) -> list[str]:
    import nagisa  # loads a model of its own

    return nagisa.tagging(text).words if text else []


def _stem(token: str) -> tuple[str, ...]:
    """Cut an eojeol after its longest known beginning of two characters or more (what soynlp's LTokenizer does with equal scores)."""
    words = _korean_words()
    end = next((end for end in range(len(token), 1, -1) if token[:end] in words), len(token))
    return token[:end], token[end:]


@cache
def _korean_words() -> frozenset[str]:
    return frozenset(gzip.decompress(_KOREAN_WORDS.read_bytes()).decode("utf-8").split("\n")) - {""}
