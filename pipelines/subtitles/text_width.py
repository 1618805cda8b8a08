"""Text as it is drawn: the width of characters, and the places where a line may break. Pure.

Widths are cells of a terminal, as in Unicode's UAX 11: full-width characters have two, marks that are drawn
over others none. A line breaks at white space. Chinese, Japanese and Thai are written without it: they break
between phrases, which BudouX finds, but not before a closing or after an opening mark (JIS X 4051).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache

import budoux

# Marks that no line begins with, and marks that no line ends with.
_NOT_AT_START = frozenset(
    "、。，．・：；？！ー゛゜ヽヾゝゞ々’”）〕］｝〉》」』】°′″℃％‰,.:;?!)]}»ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶ…‥—～〜ฯๆ"
)
_NOT_AT_END = frozenset("‘“（〔［｛〈《「『【([{«¿¡")
# Ideographs, kana, and Thai: written without spaces. Hangul is not: Korean has spaces between its words.
_UNSPACED = re.compile(
    r"[\u0e00-\u0e7f\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]"
)
_THAI = re.compile(r"[\u0e00-\u0e7f]")
# A phrase of more cells is cut between characters.
_LONGEST_PHRASE = 16
_LATIN = re.compile(r"[0-9A-Za-z\u00c0-\u024f]")


def cells(text: str) -> int:
    """The width of a text in cells."""
    return len(text) if text.isascii() else sum(map(_cells_of, text))


@lru_cache(maxsize=1 << 16)
def _cells_of(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def pieces(text: str, language: str | None, longest: int) -> Iterator[tuple[int, int, bool]]:
    """The parts of a text between which a line may break.

    Args:
        text: with white space where the script has it.
        language: ISO code.
        longest: cells; a part that is wider is cut anyway, as it would fit on no line.

    Yields:
        Start and end of each part in `text`, and whether a break before it is a good one: not within a word.
    """
    for chunk in re.finditer(r"\S+", text):
        word, offset = chunk[0], chunk.start()
        if len(word) * 2 <= longest and (word.isascii() or not _UNSPACED.search(word)):
            yield offset, chunk.end(), True
            continue
        phrases = _phrases(word, language) if _UNSPACED.search(word) else [word]
        for phrase in phrases:
            good = True
            for part in _cut(phrase, longest):
                yield offset, offset + len(part), good
                offset, good = offset + len(part), False


def _phrases(word: str, language: str | None) -> list[str]:
    found = _parser(language, bool(_THAI.search(word))).parse(word)
    joined: list[str] = []
    for phrase in found:
        before = joined[-1] if joined else ""
        if before and (
            phrase[0] in _NOT_AT_START
            or before[-1] in _NOT_AT_END
            or unicodedata.category(phrase[0]) in ("Mn", "Mc", "Me")
            or (_LATIN.match(phrase[0]) and _LATIN.match(before[-1]))
        ):
            joined[-1] += phrase
        else:
            joined.append(phrase)
    return [part for phrase in joined for part in _without_long_runs(phrase)]


def _without_long_runs(phrase: str) -> list[str]:
    """A phrase without punctuation that the model took for one may be very long: it is cut after clauses."""
    if cells(phrase) <= _LONGEST_PHRASE:
        return [phrase]
    return [
        part
        for part in re.findall(r"[^、。，！？]*[、。，！？]+[」』）】〉》”’]*|[^、。，！？]+", phrase)
        if part
    ]


def _cut(word: str, longest: int) -> Iterator[str]:
    """Cut a word that is too wide: after hyphens and slashes if there are any, else between characters."""
    limit = min(longest, _LONGEST_PHRASE) if _UNSPACED.search(word) else longest
    while cells(word) > limit:
        end = width = 0
        while end < len(word) and width + _cells_of(word[end]) <= limit:
            width += _cells_of(word[end])
            end += 1
        end = max(end, 1)
        places = [place for place in range(end, end // 2, -1) if _may_cut(word, place)]
        better = [place for place in places if word[place - 1] in "-/_.@&=?、。，"]
        end = (better or places or [end])[0]
        yield word[:end]
        word = word[end:]
    if word:
        yield word


def _may_cut(word: str, place: int) -> bool:
    if not 0 < place < len(word):
        return False
    after = word[place]
    return (
        after not in _NOT_AT_START
        and word[place - 1] not in _NOT_AT_END
        and unicodedata.category(after) not in ("Mn", "Mc", "Me", "Cf")
        and not ("\u0e40" <= word[place - 1] <= "\u0e44")  # vowels of Thai that stand before their consonant
    )


@cache
def _load(name: str) -> budoux.Parser:
    loaders = {
        "ja": budoux.load_default_japanese_parser,
        "zh": budoux.load_default_simplified_chinese_parser,
        "yue": budoux.load_default_traditional_chinese_parser,
        "th": budoux.load_default_thai_parser,
    }
    return loaders[name]()


def _parser(language: str | None, is_thai: bool) -> budoux.Parser:
    if is_thai:
        return _load("th")
    return _load(language if language in ("ja", "yue") else "zh")
