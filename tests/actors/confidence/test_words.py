"""Words and segments are as certain as their tokens."""

from __future__ import annotations

import math

import pytest

from actors.confidence.words import joint_confidence, least_confidence, mean_confidence, word_confidences

HALF, QUARTER, SURE = math.log(0.5), math.log(0.25), 0.0


def test_a_word_is_as_certain_as_its_least_certain_token() -> None:
    text = "Hello world"
    assert word_confidences([3, 5, 11], [HALF, QUARTER, SURE], text, [(0, 5), (6, 11)]) == [0.25, 1.0]


def test_punctuation_does_not_count_unless_there_is_nothing_else() -> None:
    text = "Yes, – no"
    ends, scores = [3, 4, 6, 9], [HALF, QUARTER, QUARTER, SURE]
    assert word_confidences(ends, scores, text, [(0, 4), (5, 6), (7, 9)]) == [0.5, 0.25, 1.0]


def test_a_token_of_two_words_counts_for_both() -> None:
    assert word_confidences([1, 3], [SURE, HALF], "你好吗", [(0, 1), (1, 2), (2, 3)]) == [1.0, 0.5, 0.5]


def test_bytes_of_one_character_are_one_word() -> None:
    assert word_confidences([1, 1, 2], [HALF, QUARTER, SURE], "世a", [(0, 1), (1, 2)]) == [0.25, 1.0]


def test_words_without_tokens_have_no_confidence() -> None:
    assert word_confidences([], [], "a b", [(0, 1), (2, 3)]) == [None, None]
    assert word_confidences([2, 5], [None, HALF], "a bcd", [(0, 1), (2, 5)]) == [None, 0.5]


def test_figures_of_a_segment() -> None:
    assert least_confidence([3, 4, 9], [HALF, QUARTER, SURE], "Yes, it is") == 0.5
    assert least_confidence([], [], "") is None
    assert mean_confidence([HALF, HALF]) == 0.5 and mean_confidence([]) is None
    assert joint_confidence([HALF, HALF]) == 0.25 and joint_confidence([]) is None


@pytest.mark.parametrize("score", [1e-9, -math.inf, -9999.0])
def test_a_probability_is_never_outside_0_and_1(score: float) -> None:
    assert mean_confidence([score]) in (0.0, 1.0)
