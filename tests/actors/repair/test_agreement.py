"""Agreement of texts by words, and merging span by span."""

from __future__ import annotations

import pytest

from actors.repair.agreement import Word, agreement, merged, words_of


def test_case_and_punctuation_do_not_count() -> None:
    assert agreement("Well, he's gone.", "well he's GONE") == 1.0


def test_edits_per_word_of_the_longer_text() -> None:
    assert agreement("one two three four", "one two tree four") == pytest.approx(0.75)
    assert agreement("", "") == 1.0 and agreement("", "one") == 0.0


def test_characters_of_scripts_without_spaces_are_words() -> None:
    assert [word.key for word in words_of("我们 iPhone")] == ["我", "们", "iphone"]
    assert agreement("今天很好", "今天不好") == pytest.approx(0.75)


def with_confidence(text: str, *values: float | None) -> list[Word]:
    return [
        Word(word.start, word.end, word.key, value)
        for word, value in zip(words_of(text), values, strict=True)
    ]


def test_each_span_comes_from_the_more_confident_model() -> None:
    first, second = "The cat sat on a mat.", "The hat sat on the mat."
    found, kept = merged(
        first,
        second,
        with_confidence(first, 0.9, 0.95, 0.9, 0.9, 0.2, 0.9),
        with_confidence(second, 0.9, 0.3, 0.9, 0.9, 0.8, 0.9),
    )
    assert (found, kept) == ("The cat sat on the mat.", 1)


def test_words_that_only_one_has_are_kept_by_confidence() -> None:
    first, second = "we really go home", "we go home now"
    words = words_of(first), words_of(second)
    assert merged(first, second, *words, (0.9, 0.5)) == ("we really go home", 2)
    assert merged(first, second, *words, (0.5, 0.9)) == ("we go home now", 0)


def test_equal_texts_and_empty_ones() -> None:
    assert merged("a b", "a b", words_of("a b"), words_of("a b"), (1.0, 0.1)) == ("a b", 0)
    assert merged("", "a b", [], words_of("a b"), (None, 0.5)) == ("a b", 0)
    assert merged("a b", "", words_of("a b"), [], (0.9, 0.5)) == ("a b", 1)


def test_nothing_known_means_the_second_text() -> None:
    assert merged("a x", "a y", words_of("a x"), words_of("a y")) == ("a y", 0)
