"""The units that the aligner times: words, ideographs, Korean stems and particles.

Text is cut as the reference cuts it (qwen_asr 0.0.6), because the model was trained on that: units consist of
letters, numbers and the ASCII apostrophe. Japanese is cut by nagisa, Korean after the longest known stem, all
other languages at white space and around each ideograph.
"""

from __future__ import annotations

import gzip
import unicodedata
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from actors.text.char_offsets import locate, normalize, repair_apostrophes, widen

# NOTICE in the same folder has its licence.
_KOREAN_WORDS = Path(__file__).parent / "data" / "korean_words.txt.gz"
# The reference's ideographs: blocks A to E and the compatibility block, without U+2F800 to U+2FA1F and
# without blocks from G on.
_IDEOGRAPHS = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2A700, 0x2CEAF))


@dataclass(frozen=True, slots=True)
class Unit:
    """An input unit of the aligner, and its characters in the original text, punctuation included."""

    text: str
    char_start: int
    char_end: int


def split_units(text: str, language_name: str | None) -> list[str]:
    """Cut a text into the reference's units.

    Args:
        text: the text.
        language_name: English name of its language, in any case. Languages that the aligner does not know are
            cut at spaces.
    """
    language = (language_name or "").strip().lower()
    if language == "japanese":
        return [unit for unit in map(_unit_text, _japanese_words(text)) if unit]
    if language == "korean":
        return [unit for token in text.split() for unit in map(_unit_text, _split_stem(token)) if unit]
    return [unit for token in text.split() for unit in _split_ideographs(_unit_text(token))]


def locate_units(text: str, language_name: str | None) -> list[Unit]:
    """Cut a text into units with their positions in it.

    The text is composed (NFC) first, and U+2019 becomes "'" where it is an apostrophe. The reference would
    drop accents that are separate characters, and "I’m" would become "Im".

    Args:
        text: the text.
        language_name: see `split_units`.

    Returns:
        Units with positions in the original `text`. Their spans are in order, never overlap, and together
        contain every character except the white space between words.
    """
    # As long as the original text.
    with_apostrophes = repair_apostrophes(text)
    is_japanese = (language_name or "").strip().lower() == "japanese"
    surface = normalize(with_apostrophes, "NFKC" if is_japanese else "NFC")
    located = locate(split_units(surface.text, language_name), surface, _is_unit_char)
    if located is None:
        # The tokenizer changed the text in a way that cannot be traced back. Cuts at spaces and ideographs
        # always can.
        located = locate(split_units(surface.text, None), surface, _is_unit_char) or []
    spans = widen(text, [(start, end) for _, start, end in located])
    return [Unit(unit, start, end) for (unit, _, _), (start, end) in zip(located, spans, strict=True)]


# Cached because it is called three times for each character.
@lru_cache(maxsize=1 << 16)
def _is_unit_char(char: str) -> bool:
    return char == "'" or unicodedata.category(char)[0] in "LN"


def _unit_text(token: str) -> str:
    return "".join(filter(_is_unit_char, token))


def _is_ideograph(char: str) -> bool:
    point = ord(char)
    return any(first <= point <= last for first, last in _IDEOGRAPHS)


def _split_ideographs(token: str) -> list[str]:
    if token.isascii():
        return [token] if token else []
    units: list[str] = []
    unit_is_open = False
    for char in token:
        is_ideograph = _is_ideograph(char)
        if unit_is_open and not is_ideograph:
            units[-1] += char
        else:
            units.append(char)
        unit_is_open = not is_ideograph
    return units


def _japanese_words(text: str) -> list[str]:
    # Here, because the import loads a model.
    import nagisa

    return nagisa.tagging(text).words if text else []


def _split_stem(token: str) -> tuple[str, ...]:
    """Cut an eojeol after its longest known beginning of two characters or more.

    This is what soynlp's LTokenizer does with equal scores.
    """
    words = _korean_words()
    end = next((end for end in range(len(token), 1, -1) if token[:end] in words), len(token))
    return token[:end], token[end:]


@cache
def _korean_words() -> frozenset[str]:
    return frozenset(gzip.decompress(_KOREAN_WORDS.read_bytes()).decode("utf-8").split("\n")) - {""}
