"""What people type into the search, as an expression of SQLite's FTS5, and where a text matches it. Pure.

Scripts without spaces between words, and Korean, whose particles stick to words, are indexed character by
character. A search for several of them is a search for a phrase, so that every part of a text is found. The
tokenizer of the index folds case and accents.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

# Thai, Lao, Myanmar, Khmer, kana, Han, Hangul: each character is a token, with its marks.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"
)
_RUN = re.compile(f"[{_UNSPACED}]+")
_IS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_TERM = re.compile(r'(-?)"([^"]*)("?)|(\S+)')
# A word that is still being typed finds longer ones from this length on.
_MIN_PREFIX = 3
_MAX_TERMS = 20
# Only these are folded away; vowel signs are parts of words.
_ACCENTS = re.compile("[\u0300-\u036f]")
_SIGN = re.compile(r"[^\W_]")


@dataclass(frozen=True, slots=True)
class Term:
    """Consecutive tokens that a text must have.

    Attributes:
        tokens: folded, to be found in a text.
        written: the same as they were typed, for the index, which folds them in its own way.
        excluded: the text must not have them.
        prefix: the last token may go on.
    """

    tokens: tuple[str, ...]
    written: tuple[str, ...]
    excluded: bool = False
    prefix: bool = False


def spaced(text: str) -> str:
    """A text as it is indexed: characters of scripts without spaces stand alone."""
    return _RUN.sub(_apart, unicodedata.normalize("NFKC", text))


def _apart(run: re.Match[str]) -> str:
    # Marks stay with the character before them.
    signs = (sign if unicodedata.category(sign).startswith("M") else f" {sign}" for sign in run[0])
    return "".join(signs) + " "


def tokens_of(text: str) -> list[tuple[str, int, int]]:
    """The folded tokens of a text, each with its place [start, end) in the text."""
    found: list[tuple[str, int, int]] = []
    letters: list[str] = []
    begin = end = 0

    def finish() -> None:
        if letters:
            found.append(("".join(letters), begin, end))
            letters.clear()

    for place, sign in enumerate(text):
        folded = _ACCENTS.sub("", unicodedata.normalize("NFKD", sign.casefold()))
        is_mark = unicodedata.category(sign).startswith("M")
        if is_mark and letters:
            end = place + 1
            letters.append(folded)
            continue
        if not _SIGN.match(sign):
            finish()
            continue
        if _IS_UNSPACED.match(sign):
            finish()
            # Not decomposed: a syllable of Hangul is one sign.
            folded = unicodedata.normalize("NFKC", folded)
        elif letters and _IS_UNSPACED.match(text[begin]):
            finish()
        if not letters:
            begin = place
        end = place + 1
        letters.append(folded)
    finish()
    return found


def parse(query: str) -> list[Term]:
    """The terms of a query: words, "phrases in quotes", and each with `-` before it to exclude it."""
    terms: list[Term] = []
    for found in _TERM.finditer(query):
        minus, phrase, closed, word = found.groups()
        if word is not None:
            excluded = word.startswith("-") and len(word) > 1
            text = word[1:] if excluded else word
            prefix = not excluded and found.end() == len(query)
        else:
            excluded, text, prefix = bool(minus), phrase, not closed and not minus
        text = unicodedata.normalize("NFKC", text)
        found_tokens = [token for token in tokens_of(text) if token[0]]
        if found_tokens:
            tokens = tuple(token for token, _, _ in found_tokens)
            written = tuple(text[start:end] for _, start, end in found_tokens)
            long = len(tokens[-1]) >= _MIN_PREFIX and not _IS_UNSPACED.match(tokens[-1])
            terms.append(Term(tokens, written, excluded, prefix and long))
    return terms[:_MAX_TERMS]


def match_expression(terms: Sequence[Term], facets: Sequence[Sequence[str]]) -> str | None:
    """The FTS5 expression of a search.

    Args:
        terms: all of them must match.
        facets: tokens of the column `facets`; one of each group must match.

    Returns:
        None where neither says what is wanted.
    """
    wanted = [_phrase(term) for term in terms if not term.excluded]
    unwanted = [_phrase(term) for term in terms if term.excluded]
    parts = [f"body : ({' AND '.join(wanted)})"] if wanted else []
    parts += [f"facets : ({' OR '.join(map(_quoted, group))})" for group in facets]
    if not parts:
        return None
    expression = " AND ".join(parts)
    return f"({expression}) NOT body : ({' OR '.join(unwanted)})" if unwanted else expression


def marks(text: str, terms: Sequence[Term]) -> list[list[int]]:
    """The places [start, end) of a text that match the terms, in order, without overlaps."""
    tokens = tokens_of(text)
    words = [token for token, _, _ in tokens]
    found: list[list[int]] = []
    for term in terms:
        length = len(term.tokens)
        if term.excluded or not length:
            continue
        for place in range(len(words) - length + 1):
            last = words[place + length - 1]
            ends = last.startswith(term.tokens[-1]) if term.prefix else last == term.tokens[-1]
            if ends and tuple(words[place : place + length - 1]) == term.tokens[:-1]:
                found.append([tokens[place][1], tokens[place + length - 1][2]])
    merged: list[list[int]] = []
    for start, end in sorted(found):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(end, merged[-1][1])
        else:
            merged.append([start, end])
    return merged


def _phrase(term: Term) -> str:
    return _quoted(" ".join(term.written)) + ("*" if term.prefix else "")


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
