"""Leaks: a text that is the context, or mostly words of it, instead of what is said."""

from __future__ import annotations

import re
from dataclasses import dataclass

from actors.text.languages import is_unspaced_script
from actors.text.repetitions import TOKEN

# What stands between the terms of a list.
_BETWEEN_TERMS = re.compile(r"[,;:|/•\n\r\t、，；：。．.!?！？]+")
# Words in a row that count as copied: of a few words, and of running text, whose phrases occur in any speech.
_RUN, _RUN_OF_PROSE = 2, 5
# Words from which a part of the context without separators is running text.
_PROSE = 12
# Words, or terms of a list, in a text beyond which it is no coincidence that all of them are in the context.
_MANY_WORDS, _MANY_TERMS = 4, 2


@dataclass(frozen=True, slots=True)
class Copied:
    """What of a text is copied from its context."""

    share: float  # of the text's words, 0 to 1
    much: bool  # more than somebody may say by chance, such as one term alone


def copied(text: str, context: str) -> Copied:
    """Compare a text with its context.

    Args:
        text: of a segment.
        context: what the model was given as background: a list of terms, running text, or both.
    """
    words = _words(text)
    terms = [term for term in map(_words, _BETWEEN_TERMS.split(context)) if term]
    if not words or not terms:
        return Copied(0.0, False)
    covered = [False] * len(words)
    found = 0
    for term in terms:
        found += _mark(words, term, min(len(term), _RUN if len(term) < _PROSE else _RUN_OF_PROSE), covered)
    # A list that was copied without its separators, or across them.
    everything = [word for term in terms for word in term]
    if len(terms) > 1 and len(everything) < _PROSE:
        _mark(words, everything, min(_RUN, len(everything)), covered)
    share = sum(covered) / len(words)
    # Chinese words have two characters or more, and each is one of the words here.
    count = sum(
        0.5 if is_unspaced_script(word[0]) else 1.0
        for word, is_copied in zip(words, covered, strict=True)
        if is_copied
    )
    return Copied(share, found >= _MANY_TERMS or count >= _MANY_WORDS)


def _mark(words: list[str], term: list[str], run: int, covered: list[bool]) -> bool:
    """Mark the words that stand in a term in runs of at least `run`; whether there are any."""
    runs = {tuple(term[start : start + run]) for start in range(len(term) - run + 1)}
    found = False
    for start in range(len(words) - run + 1):
        if tuple(words[start : start + run]) in runs:
            covered[start : start + run] = [True] * run
            found = True
    return found


def _words(text: str) -> list[str]:
    return [match.group().casefold() for match in TOKEN.finditer(text)]
