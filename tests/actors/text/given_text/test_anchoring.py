"""A known text is cut to the segments of its recording."""

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.text.given_text.anchoring import assign_text
from actors.text.given_text.token_matching import match, tokenize


def noisy(words, vocabulary, errors, rng):
    """The output of a recogniser with this share of errors for some words."""
    recognised = []
    for word in words:
        chance = rng.random()
        if chance < errors / 3:
            continue
        recognised.append(rng.choice(vocabulary) if chance < errors * 2 / 3 else word)
        if chance > 1 - errors / 3:
            recognised.append(rng.choice(vocabulary))
    return recognised


@pytest.mark.parametrize(
    ("reference", "hypotheses", "pieces"),
    [
        ("Hello there. How are you?", ["hello there", "how are you"], ["Hello there. ", "How are you?"]),
        ("Hello there. How are you?", ["hello the", "Howard you"], ["Hello there. ", "How are you?"]),
        ("Hello there. How are you?", ["hello", "are you"], ["Hello there. ", "How are you?"]),
        (
            "“One,” he spoken. “Two.” (Three)",
            ["one he spoken", "two", "three"],
            ["“One,” he spoken. ", "“Two.” ", "(Three)"],
        ),
        (
            "今天下午三点，我们见面。“好的。”",
            ["今天下午三点", "我们见面", "好的"],
            ["今天下午三点，", "我们见面。", "“好的。”"],
        ),
        ("สวัสดีครับ ขอบคุณ", ["สวัสดีครับ", "ขอบคุณ"], ["สวัสดีครับ ", "ขอบคุณ"]),
        ("一 two 三", ["一 two", "三"], ["一 two ", "三"]),
        ("Nothing was heard here at all", ["", "", ""], ["Nothing was ", "heard here ", "at all"]),
        ("One two three", ["one two three", ""], ["One two three", ""]),
        ("One two three", ["", "one two three"], ["", "One two three"]),
        ("", ["a", "b"], ["", ""]),
        ("... !", ["a", "b"], ["", "... !"]),
        ("Whole", ["anything"], ["Whole"]),
        ("Whole", [], []),
    ],
)
def test_borders_follow_the_recognised_text(reference, hypotheses, pieces):
    assert assign_text(reference, hypotheses) == pieces


def test_unrecognised_text_is_divided_by_durations():
    assert assign_text("a b c d e f g h", ["", ""], [3.0, 1.0]) == ["a b c d e f ", "g h"]
    assert assign_text("x a b c d e f y", ["x", "", "", "y"], [1.0, 2.0, 4.0, 1.0]) == [
        "x ",
        "a b ",
        "c d e f ",
        "y",
    ]


def test_a_segment_without_words_takes_no_words_from_misrecognised_neighbours():
    assert assign_text("a b x y c d", ["a b q", "", "r c d"], [3.0, 30.0, 3.0]) == ["a b x ", "", "y c d"]


def test_case_width_punctuation_and_forms_of_accents_do_not_count():
    assert assign_text("CAFÉ, １２ ok", ["cafe\u0301", "12 OK!"]) == ["CAFÉ, ", "１２ ok"]


@pytest.mark.parametrize(("vocabulary", "errors"), [(10, 0.0), (10, 0.1), (2000, 0.1), (2000, 0.5)])
def test_in_long_recordings_with_errors_borders_are_at_most_a_few_words_off(vocabulary, errors):
    """20,000 words in 100 segments, also with a vocabulary of ten words."""
    rng = random.Random(7)
    words = [f"w{i}" for i in range(vocabulary)]
    spoken = [rng.choice(words) for _ in range(20_000)]
    cuts = sorted(rng.sample(range(20_000), 99))
    segments = [spoken[start:end] for start, end in zip([0, *cuts], [*cuts, 20_000], strict=True)]
    hypotheses = [" ".join(noisy(segment, words, errors, rng)) for segment in segments]
    pieces = assign_text(" ".join(spoken), hypotheses, [float(len(segment)) for segment in segments])
    assert "".join(pieces) == " ".join(spoken)
    found = np.cumsum([len(piece.split()) for piece in pieces])[:-1]
    off = np.abs(found - np.array(cuts))
    assert off.max() <= (0 if errors == 0 else 6)
    assert (off <= 1).mean() >= 0.9


@settings(deadline=None)
@given(st.text(), st.lists(st.text(max_size=20), min_size=1, max_size=5))
def test_every_character_is_in_exactly_one_piece(reference, hypotheses):
    pieces = assign_text(reference, hypotheses)
    assert len(pieces) == len(hypotheses)
    assert "".join(pieces) == reference


@settings(deadline=None)
@given(st.lists(st.text("ab ,.好", max_size=12), min_size=1, max_size=6), st.booleans())
def test_pieces_never_cut_a_word(parts, with_durations):
    reference = " ".join(parts)
    pieces = assign_text(reference, parts, [1.0] * len(parts) if with_durations else None)
    assert "".join(pieces) == reference
    assert [token.key for piece in pieces for token in tokenize(piece)] == [
        token.key for token in tokenize(reference)
    ]


@given(st.lists(st.integers(0, 3), max_size=30), st.lists(st.integers(0, 3), max_size=30))
def test_matches_are_equal_and_rise(left, right):
    pairs = match(np.array(left, dtype=np.int64), np.array(right, dtype=np.int64))
    assert all(left[i] == right[j] for i, j in pairs)
    assert all(a < c and b < d for (a, b), (c, d) in pairwise(pairs))
    if left == right:
        assert len(pairs) == len(left)
