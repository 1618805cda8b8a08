"""The language of a text by its script and its words, compared with the language that the model named.

The words are judged by py3langid, which is naive Bayes over n-grams of bytes (Lui and Baldwin, "langid.py",
ACL 2012, retrained), restricted to the languages of the model.
"""

from __future__ import annotations

import math
import re
import threading
import unicodedata
from functools import cache, lru_cache
from typing import Any

from actors.text.languages import CODES

# Bytes of text below which nothing is concluded from its words.
_SHORTEST = 16
# Bytes of the parts of a long text that are judged one by one: about twelve words.
_PART = 96
# Languages that share most of their words, and are not told apart.
_ALIKE = {"ms": "id", "yue": "zh", "mk": "ru"}
# The script in which each language is written; Latin where it is none of these.
_SCRIPTS = {
    **dict.fromkeys(("zh", "yue"), "CJK"),
    "ja": "HIRAGANA",
    "ko": "HANGUL",
    **dict.fromkeys(("ru", "mk"), "CYRILLIC"),
    **dict.fromkeys(("ar", "fa"), "ARABIC"),
    "hi": "DEVANAGARI",
    "th": "THAI",
    "el": "GREEK",
}
_LATIN = "LATIN"
# Scripts in which a language may be written as well.
_ALSO = {"HIRAGANA": {"KATAKANA", "CJK"}}
_LETTER = re.compile(r"[^\W\d_]")
# Letters that decide about the script of a text.
_LETTERS = 400


def doubt(text: str, language: str) -> float:
    """How much more probable another language is than the one that was named.

    Args:
        text: of a segment.
        language: ISO code.

    Returns:
        The logarithm of the ratio of the probabilities of the most probable language and this one, of the
        part of the text that speaks most against it. Infinite if the text is in another script; 0 where
        nothing speaks against it, the text is too short, or the language is not one of the model's.
    """
    if language not in CODES.values():
        return 0.0
    scripts = _scripts(text)
    total = sum(scripts.values())
    own = _SCRIPTS.get(language, _LATIN)
    fitting = sum(scripts.get(script, 0) for script in {own, *_ALSO.get(own, ())})
    # Names and terms in Latin letters occur in any language.
    foreign = total - fitting - (scripts.get(_LATIN, 0) if own != _LATIN else 0)
    if total >= 2 and (2 * foreign > total or (total >= 8 and 10 * fitting < total)):
        return math.inf
    return max((_doubt_of(part, language) for part in _parts(text)), default=0.0)


def most_probable(text: str, allowed: tuple[str, ...] = ()) -> str | None:
    """The most probable language of a text by its words; None for a text that is too short.

    Args:
        text: of a segment.
        allowed: ISO codes of the languages to choose from; empty: all of the model's.
    """
    if len(text.encode()) < _SHORTEST:
        return None
    codes = allowed or tuple(CODES.values())
    scores = _scores(text)
    return max(codes, key=lambda code: scores.get(_label(code), -math.inf))


def _doubt_of(text: str, language: str) -> float:
    scores = _scores(text)
    same = {language, _ALIKE.get(language, language), *(a for a, b in _ALIKE.items() if b == language)}
    own = max(scores.get(_label(code), -math.inf) for code in same)
    return max(0.0, max(scores.values()) - own)


def _parts(text: str) -> list[str]:
    """A text in parts of about twelve words; what is too short has none."""
    words = text.split()
    if len(words) < len(text) // 20:
        # A script without spaces.
        step = max(1, _PART * len(text) // len(text.encode()))
        starts = range(0, max(1, len(text) - step + 1), step)
        return [part for start in starts if len((part := text[start : start + step]).encode()) >= _SHORTEST]
    parts: list[list[str]] = [[]]
    size = 0
    for number, word in enumerate(words):
        parts[-1].append(word)
        size += len(word.encode()) + 1
        if size >= _PART and len(words) - number > 6:
            parts.append([])
            size = 0
    # A word that is repeated says nothing more about the language.
    joined = (" ".join(dict.fromkeys(part)) for part in parts)
    return [part for part in joined if len(part.encode()) >= _SHORTEST]


def _scripts(text: str) -> dict[str, int]:
    """How many letters there are of each script, by the first word of their Unicode names."""
    found: dict[str, int] = {}
    for letter in _LETTER.findall(text)[:_LETTERS]:
        script = _script(letter)
        found[script] = found.get(script, 0) + 1
    return found


@lru_cache(maxsize=8192)
def _script(letter: str) -> str:
    if letter.isascii():
        return _LATIN
    return unicodedata.name(letter, "UNKNOWN").partition(" ")[0]


def _label(code: str) -> str:
    """The code under which py3langid has a language."""
    return "tl" if code == "fil" else code


def _scores(text: str) -> dict[str, float]:
    """The logarithm of the probability of each language, softened by the square root of the length."""
    with _LOCK:
        ranking = _identifier().rank(text)
    return {code: math.log(max(probability, 1e-30)) for code, probability in ranking}


def load() -> None:
    """Load the model, which takes a second, before it is needed."""
    with _LOCK:
        _identifier()


_LOCK = threading.Lock()


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages([_label(code) for code in CODES.values()])
    return identifier
