"""Text normalisation before a comparison: Whisper's normalisers under their names, and none.

- none: Unicode NFC and single spaces, nothing else: case and punctuation count as errors.
- basic: Whisper's for all languages. Lower case, NFKC, no punctuation and no symbols, nothing in brackets. It
  also removes combining marks, which are vowels in Hindi and Thai.
- english: Whisper's for English. It also spells out contractions, writes numbers in digits, and British words
  in American spelling.
- auto: english for English, and basic with combining marks kept for every other language.

Source of basic and english: Radford et al., Robust Speech Recognition via Large-Scale Weak Supervision,
2022, appendix C, in the package `whisper-normalizer`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Any

from actors.errors import UsageError
from pipelines.evaluation.protocol import UNSPACED

# (text, ISO code of its language or None) -> normalised text
Normalizer = Callable[[str, str | None], str]


def normalizer(name: str) -> Normalizer:
    """The normaliser of this name, one of `protocol.NORMALIZERS`.

    Raises:
        UsageError: the package with Whisper's normalisers is not installed.
    """
    if name == "none":
        return lambda text, language: _collapsed(unicodedata.normalize("NFC", text))
    basic_class, english_class = _whisper()
    if name == "english":
        english = english_class()
        return lambda text, language: _collapsed(english(text))
    if name == "basic":
        basic = basic_class()
        return lambda text, language: _collapsed(basic(text))
    english, marked = english_class(), basic_class(preserve_marks=True)
    return lambda text, language: _collapsed((english if language == "en" else marked)(text))


def segment_normalizer(name: str) -> Normalizer:
    """The normaliser for segments one by one: it never joins words, as `english` joins digits.

    Args:
        name: the normaliser of the whole texts.
    """
    if name in ("none", "basic"):
        return normalizer(name)
    marked = _whisper()[0](preserve_marks=True)
    return lambda text, language: _collapsed(marked(text))


def words_of(text: str, language: str | None) -> list[str]:
    """The words of a normalised text; none for a language without spaces, where only characters count."""
    return [] if language in UNSPACED else text.split()


def characters_of(text: str, without_spaces: bool) -> list[str]:
    """The characters of a normalised text.

    Args:
        text: with single spaces.
        without_spaces: leave the spaces out, as is usual where characters are the main metric.
    """
    return list(text.replace(" ", "") if without_spaces else text)


def comparable(word: str) -> str:
    """One word without case, punctuation and spaces, to find it again in another transcript."""
    folded = unicodedata.normalize("NFKC", word).casefold()
    return "".join(char for char in folded if unicodedata.category(char)[0] in "LNM")


def _collapsed(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _whisper() -> tuple[Any, Any]:
    try:
        from whisper_normalizer.basic import BasicTextNormalizer
        from whisper_normalizer.english import EnglishTextNormalizer
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed: pip install 'scriptorium[evaluate]'") from None
    return BasicTextNormalizer, EnglishTextNormalizer
