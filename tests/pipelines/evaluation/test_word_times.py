"""AAS and the shares of words within limits, against numbers computed by hand."""

import pytest

from pipelines.evaluation.metrics.word_times import Shifts, compare


def test_equal_times_have_no_shift() -> None:
    words = [("hello", 0.0, 0.5), ("world", 0.6, 1.0)]
    assert compare(words, words) == Shifts(2, 2, 0.0, (2, 2, 2))


def test_the_shift_is_the_sum_over_starts_and_ends() -> None:
    reference = [("hello", 0.0, 0.5), ("big", 0.6, 0.9), ("world", 1.0, 1.5)]
    hypothesis = [("Hello,", 0.05, 0.55), ("big", 0.68, 0.9), ("world.", 1.0, 1.8)]
    found = compare(reference, hypothesis)
    # 50 + 50, 80 + 0, 0 + 300 ms. The worse time of each word: 50, 80 and 300 ms.
    assert found.shift_ms == pytest.approx(480)
    assert found.within == (1, 2, 2)


def test_a_word_that_is_not_in_the_hypothesis_is_not_matched() -> None:
    reference = [("one", 0.0, 0.4), ("two", 0.5, 0.9), ("three", 1.0, 1.4)]
    hypothesis = [("one", 0.0, 0.4), ("three", 1.1, 1.4)]
    found = compare(reference, hypothesis)
    assert (found.words, found.matched, found.within) == (3, 2, (1, 2, 2))
    assert found.shift_ms == pytest.approx(100)


def test_a_chinese_word_has_the_times_of_its_characters() -> None:
    reference = [("左邊", 0.9, 1.4), ("四", 1.6, 1.9)]
    hypothesis = [("左", 0.88, 1.12), ("邊", 1.12, 1.44), ("四。", 1.6, 1.84)]
    found = compare(reference, hypothesis)
    # 20 + 40 and 0 + 60 ms.
    assert (found.matched, found.within) == (2, (1, 2, 2))
    assert found.shift_ms == pytest.approx(120)


def test_a_word_inside_a_longer_unit_has_no_times_of_its_own() -> None:
    found = compare([("ice", 0.0, 0.3), ("cream", 0.3, 0.8)], [("icecream", 0.0, 0.8)])
    assert (found.words, found.matched) == (2, 0)


def test_without_hypothesis_the_words_count_as_unmatched() -> None:
    assert compare([("one", 0.0, 0.4)], []) == Shifts(words=1)


def test_punctuation_alone_is_no_word() -> None:
    assert compare([("-", 0.0, 0.1)], [("-", 0.0, 0.1)]) == Shifts()
