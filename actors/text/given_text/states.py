"""Which tokens of a given text are said, and which recognised tokens it has.

Each token belongs to a stretch that both have or to one that only its side has. The stretches are those of
the most probable sequence of two states: in a stretch that both have, most tokens are matched; elsewhere a
token is matched by chance, more often the more frequent it is. Recognisers make errors, so a few unmatched
tokens prove nothing.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from rapidfuzz.distance import Levenshtein

from actors.text.given_text.token_matching import Pairs, Token

# Share of the tokens of a stretch that both have which a recogniser gets right, at a guess.
_RIGHT = 0.75
# Natural logarithms of odds: that a text begins said, and a change from one state to the other.
_BEGINS_SAID, _CHANGE = 1.0, 3.0
# An unmatched token for which nothing else was recognised, not even wrongly, is so much stronger evidence.
_NOTHING_HEARD = 1.5
# How frequent a token is, is estimated from so many tokens on each side of its place, and so many tokens
# more, all different.
_NEIGHBOURS, _OTHER_TOKENS = 40, 80
# Largest chance that a token is matched by accident.
_MAX_CHANCE = 0.5
# Two texts of which less is alike have nothing in common: that is what unlike texts of one language have.
_ALIKE = 0.35
# Longest stretches of characters that are compared as a whole.
_MAX_COMPARED = 400


def find_states(
    tokens: Sequence[Token], heard: Sequence[Token], pairs: Pairs, unknown: set[int]
) -> tuple[list[bool], list[bool]]:
    """For each token of the text whether it is said, and for each recognised one whether it is written.

    Args:
        tokens: of the text.
        heard: recognised tokens.
        pairs: matched tokens of both.
        unknown: places between recognised tokens, by the number of tokens before, where recognition failed.
    """
    said, written = np.zeros(len(tokens)), np.zeros(len(heard))
    chance_said = _chances(tokens, heard, _places(pairs, len(tokens)))
    chance_written = _chances(heard, tokens, _places([(j, i) for i, j in pairs], len(heard)))
    for i, j in pairs:
        said[i] = math.log(_RIGHT / chance_said[i])
        written[j] = math.log(_RIGHT / chance_written[j])
    for (i, j), (k, m) in pairwise([(-1, -1), *pairs, (len(tokens), len(heard))]):
        block, other = tokens[i + 1 : k], heard[j + 1 : m]
        likeness = _likeness(block, other)
        judged = not any(j + 1 <= place <= m for place in unknown)
        for number in range(i + 1, k):
            said[number] = (
                _evidence(tokens[number], other, chance_said[number], likeness) if judged or other else 0.0
            )
        for number in range(j + 1, m):
            written[number] = _evidence(heard[number], block, chance_written[number], likeness)
    return _most_probable(said), _most_probable(written)


def _chances(tokens: Sequence[Token], among: Sequence[Token], places: Sequence[int]) -> list[float]:
    """The chance of each token to be matched with an unlike text.

    Of two random texts of k equally frequent tokens, about 2 / sqrt(k) can be matched (Kiwi, Loebl and
    Matousek, Expected length of the longest common subsequence for large alphabets, 2005). A token of
    frequency f counts as one of 1 / f. Frequencies are those of the neighbourhood, because what is said often
    in one place, such as digits, may be rare in the whole.

    Args:
        tokens: to be matched.
        among: tokens of the other side.
        places: for each token its place on the other side.
    """
    found: dict[str, list[int]] = {}
    for number, token in enumerate(among):
        found.setdefault(token.key, []).append(number)
    total = min(len(among), 2 * _NEIGHBOURS) + _OTHER_TOKENS
    chances = []
    for token, place in zip(tokens, places, strict=True):
        at = found.get(token.key, [])
        count = bisect_right(at, place + _NEIGHBOURS) - bisect_left(at, place - _NEIGHBOURS)
        chances.append(min(_MAX_CHANCE, 2 * math.sqrt((count + 0.5) / total)))
    return chances


def _places(pairs: Pairs, count: int) -> list[int]:
    """For each of so many tokens the place on the other side: that of the matched token before it."""
    places, last = [0] * count, 0
    matched = dict(pairs)
    for number in range(count):
        last = places[number] = matched.get(number, last)
    return places


def _evidence(token: Token, others: Sequence[Token], chance: float, likeness: float) -> float:
    """How much more probable an unmatched token is in a stretch that both have; natural logarithm."""
    against = math.log((1 - _RIGHT) / (1 - chance))
    if not others:
        return against * _NOTHING_HEARD
    if _has_digits([token]) != _has_digits(others):
        # "25" and "twenty five" cannot be compared.
        return 0.0
    return against + likeness * (math.log(_RIGHT / chance) - against)


def _has_digits(tokens: Iterable[Token]) -> bool:
    return any(char.isdigit() for token in tokens for char in token.key)


def _likeness(block: Sequence[Token], other: Sequence[Token]) -> float:
    """How alike two unmatched stretches sound by their letters: 0 as unlike texts, 1 equal."""
    ours, theirs = ("".join(token.key for token in side) for side in (block, other))
    if not ours or not theirs or max(len(ours), len(theirs)) > _MAX_COMPARED:
        return 0.0
    alike = Levenshtein.normalized_similarity(ours, theirs)
    return max(0.0, (alike - _ALIKE) / (1 - _ALIKE))


def _most_probable(evidence: np.ndarray) -> list[bool]:
    """The most probable sequence of two states (Viterbi): whether each token is of the first one."""
    inside, outside = _BEGINS_SAID, 0.0
    came: list[tuple[bool, bool]] = []
    for value in evidence.tolist():
        stays_in, stays_out = inside >= outside - _CHANGE, outside >= inside - _CHANGE
        came.append((stays_in, stays_out))
        inside, outside = (
            (inside if stays_in else outside - _CHANGE) + value,
            outside if stays_out else inside - _CHANGE,
        )
    states: list[bool] = []
    state = inside >= outside
    for stays_in, stays_out in reversed(came):
        states.append(state)
        state = stays_in if state else not stays_out
    return states[::-1]
