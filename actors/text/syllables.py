"""How many syllables a text has, counted by script: close enough to compare it with what is heard."""

from __future__ import annotations

import re
import unicodedata

# Vowels of the Latin, Cyrillic and Greek scripts, without marks.
_VOWELS = "aeiouyæøœıаеиоуыэюяіїєαεηιουω"
# A syllable: a group of vowels, a Han character, a kana that is no small one, or a Korean syllable.
_SYLLABLE = re.compile(
    rf"[{_VOWELS}]+|[\u3400-\u9fff\uf900-\ufaff\U00020000-\U000323af]"
    r"|[あいうえおか-ぢつ-もやゆよら-ろわ-んアイウエオカ-ヂツ-モヤユヨラ-ロワ-ンー]|[\uac00-\ud7a3]"
)
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
_MORAS_OF_HAN = 1.9
# Letters of scripts that write few vowels as letters: Arabic, Devanagari, Thai.
_CONSONANTS = re.compile(r"[\u0620-\u064a\u066e-\u06d3\u0904-\u0939\u0e01-\u0e30]")
_CONSONANT_SYLLABLES = 0.55
# Digits are read: "7" has one or two syllables, "2026" six.
_DIGIT = re.compile(r"\d")
_DIGIT_SYLLABLES = 1.7
# Upper-case abbreviations are spelled: each letter is a syllable.
_SPELLED = re.compile(r"\b[A-ZÄÖÜА-Я]{2,6}\b")


def count_syllables(text: str, language: str | None = None) -> float:
    """The number of syllables of a text, as read aloud; 0 for a text without letters and digits.

    It is exact for Chinese and Korean, where a syllable is a character. In Japanese a kana is a mora, and a
    Chinese character is two on average. Elsewhere groups of vowels are counted: English has silent ones, and
    Arabic, Hindi and Thai are counted by their consonants.

    Args:
        text: any.
        language: ISO code.
    """
    # A text in upper case only has no abbreviations that could be told from words.
    shouted = text.isupper() and len(text.split()) > 2
    spelled = 0 if shouted else sum(map(len, _SPELLED.findall(text)))
    if spelled:
        text = _SPELLED.sub("", text)
    plain = unicodedata.normalize("NFC", _without_marks(text).lower())
    more = _MORAS_OF_HAN - 1 if language == "ja" else 0.0
    return (
        spelled
        + (more * len(_HAN.findall(plain)) if more else 0.0)
        + len(_SYLLABLE.findall(plain))
        + _CONSONANT_SYLLABLES * len(_CONSONANTS.findall(plain))
        + _DIGIT_SYLLABLES * len(_DIGIT.findall(plain))
    )


def _without_marks(text: str) -> str:
    """A text without the marks on Latin, Cyrillic and Greek letters: "é" becomes "e"."""
    if text.isascii():
        return text
    decomposed = unicodedata.normalize("NFD", text)
    return "".join(c for c in decomposed if not "\u0300" <= c <= "\u036f")
