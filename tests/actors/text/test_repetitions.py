"""Loops of models are cut, repetitions of people are kept."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.text.repetitions import collapse_loops, fix_repetitions, is_repetitive


def simple_fix(text: str, threshold: int) -> str:
    """The reference's rules as described, in cubic time."""
    text = re.sub(rf"(.)\1{{{threshold},}}", r"\1", text, flags=re.DOTALL)
    result, i = "", 0
    while i <= len(text) - 2 * threshold:
        for unit in range(1, 21):
            pattern = text[i : i + unit]
            if text[i:].startswith(pattern * threshold):
                result += pattern
                while text[i:].startswith(pattern):
                    i += unit
                break
        else:
            result += text[i]
            i += 1
    return result + text[i:]


loops = st.lists(
    st.tuples(st.text("ab1 \n好", min_size=1, max_size=22), st.sampled_from([1, 1, 2, 3, 4, 5, 9])),
    max_size=6,
)


@settings(max_examples=300)
@given(loops, st.sampled_from([2, 3, 4]))
def test_the_fast_fix_equals_the_simple_one(parts, threshold):
    text = "".join(unit * copies for unit, copies in parts)
    assert fix_repetitions(text, threshold) == simple_fix(text, threshold)


@pytest.mark.parametrize(
    "text",
    [
        "0" * 25,
        "0 " * 40,
        "1, 2, 3, " * 30,
        "零" * 30,
        "٣ " * 25,
        "12" * 40,
        "7." * 30,
        "no " * 19,
        "Yes. " * 10,
        "na-na " * 19,
        "She loves you, yeah, yeah, yeah. " * 4,
        "Row, row, row your boat, gently down the stream, merrily merrily " * 5 + "the end",
        "a" * 19,
        "",
    ],
)
def test_repetitions_of_people_are_kept(text):
    assert collapse_loops(text) == (text, False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I think. " * 30, "I think."),
        (
            "So. " + "The quick brown fox jumps over it. " * 9 + "The quick",
            "So. The quick brown fox jumps over it.",
        ),
        (
            "a b c d e f g h i j k l m n o p q r s t u v w x y z. " * 20 + "End.",
            "a b c d e f g h i j k l m n o p q r s t u v w x y z. End.",
        ),
        ("no " * 30 + "nobody", "no nobody"),
        ("No, no. NO " * 10 + "nobody", "No, nobody"),
        ("know " + "no " * 30 + "nobody", "know no nobody"),
        ("你好" * 30 + "吗", "你好吗"),
        ("今天天气很好我们去公园玩吧。" * 12, "今天天气很好我们去公园玩吧。"),
        ("ha" * 40, "ha"),
        ("." * 50, "."),
        ("😂" * 40 + "ok", "😂ok"),
        ("ab1" * 30, "ab1"),
        ("0 " * 400, "0"),
        ("x" + " " * 30 + "y", "x y"),
    ],
)
def test_loops_are_cut_to_one_copy(text, expected):
    assert collapse_loops(text) == (expected, True)


def test_long_phrases_are_cut_and_numbers_kept_unlike_in_the_reference():
    phrase = "I think we should go home now. " * 30
    assert fix_repetitions(phrase) == phrase
    assert collapse_loops(phrase) == ("I think we should go home now.", True)
    assert fix_repetitions("0" * 25) == "0"
    assert collapse_loops("0" * 25) == ("0" * 25, False)


@given(st.text())
def test_cutting_never_adds_text(text):
    shortened, changed = collapse_loops(text)
    assert changed == (shortened != text)
    assert len(shortened) <= len(text)
    rest = iter(text)
    # A subsequence of the text.
    assert all(char in rest for char in shortened)


@pytest.mark.parametrize("unit", ["a", "ab ", " ", "你", "0", "abcdefghij" * 2, "x" * 19 + "y"])
def test_long_outputs_take_linear_time(unit):
    """20,000 characters: quadratic code would take minutes and exceed the timeout."""
    text = (unit * 20_000)[:20_000]
    assert len(fix_repetitions(text)) < 100
    collapse_loops(text)


def test_repetitive_text_is_detected():
    assert is_repetitive("la la la " * 200)
    assert not is_repetitive("la la la")
    assert not is_repetitive(" ".join(str(i * i) for i in range(1000)))
