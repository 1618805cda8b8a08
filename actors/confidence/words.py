"""The confidence of words and segments, from the log-probabilities of their tokens. Pure."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

CONFIDENCE_DIGITS = 4


def word_confidences(
    ends: Sequence[int],
    log_probabilities: Sequence[float | None],
    text: str,
    words: Sequence[tuple[int, int]],
) -> list[float | None]:
    """The confidence of each word: the probability of its least certain token, 0..1.

    Tokens without a letter or a digit inside the word do not count, unless the word has no other: punctuation
    is much less certain than words, and says nothing about them. None: no token has a probability.

    Args:
        ends: see `actors.confidence.token_spans`.
        log_probabilities: of each token.
        text: the text.
        words: (first character, end) of each.
    """
    found: list[float | None] = []
    for start, end in words:
        spoken: list[float] = []
        others: list[float] = []
        for index in range(bisect_right(ends, start), len(ends)):
            first = min(ends[index - 1] if index else 0, ends[index] - 1)
            if first >= end:
                break
            score = log_probabilities[index]
            if score is not None:
                part = text[max(first, start) : min(ends[index], end)]
                (spoken if any(map(str.isalnum, part)) else others).append(score)
        scores = spoken or others
        found.append(probability(min(scores)) if scores else None)
    return found


def least_confidence(
    ends: Sequence[int], log_probabilities: Sequence[float | None], text: str
) -> float | None:
    """The confidence of the least certain word of a text; None where no token has a probability."""
    (value,) = word_confidences(ends, log_probabilities, text, [(0, len(text))])
    return value


def mean_confidence(log_probabilities: Sequence[float]) -> float | None:
    """The geometric mean of the probabilities of tokens; None without tokens."""
    if not log_probabilities:
        return None
    return probability(math.fsum(log_probabilities) / len(log_probabilities))


def joint_confidence(log_probabilities: Sequence[float]) -> float | None:
    """The probability of several tokens together; None without tokens."""
    return probability(math.fsum(log_probabilities)) if log_probabilities else None


def probability(log_probability: float) -> float:
    """A probability, rounded: more digits depend on what else was in the batch."""
    return round(math.exp(min(0.0, log_probability)), CONFIDENCE_DIGITS)
