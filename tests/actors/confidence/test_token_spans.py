"""The spans of tokens index the text, whatever was removed from the answer."""

from __future__ import annotations

import random

import pytest

from actors.confidence.token_spans import TokenSpans, ends_of, locate, matching_runs, spans
from actors.text.parsing import parse_output

LOOP = "one two three four five six seven eight nine ten eleven twelve "
PIECES = ["no", "nobody", "0", "ha", "wörld", "你好", "b.", "😀", "<asr_text>", "language German<asr_text>"]


def located(answer: str, text: str, cuts: int = 1) -> TokenSpans:
    """Spans of tokens of one character, or of `cuts` bytes; the score of a token is its number below 0."""
    data = answer.encode()
    tokens = [char.encode() for char in answer]
    if cuts > 1:
        tokens = [data[first : first + cuts] for first in range(0, len(data), cuts)]
    source, ends = ends_of(tokens)
    assert source == answer
    return locate(source, ends, [-1.0 - number for number in range(len(tokens))], text)


def test_tokens_that_end_within_a_character_end_behind_it() -> None:
    text, ends = ends_of(["a😀".encode()[:2], "a😀".encode()[2:4], "a😀".encode()[4:], b"b"])
    assert (text, ends) == ("a😀b", [2, 2, 2, 3])
    assert [(start, end) for start, end, _ in spans(ends, [0.0] * 4)] == [(0, 2), (1, 2), (1, 2), (2, 3)]


def test_bytes_that_are_no_text_are_one_character_each() -> None:
    text, ends = ends_of([b"a\xff", b"b", b"\xe4"])
    assert (text, ends) == ("a\ufffdb\ufffd", [2, 3, 4])


def test_the_language_and_its_tag_are_not_in_the_text() -> None:
    found = located("language English<asr_text>Hi. ", "Hi.")
    assert found.ends == (1, 2, 3) and found.log_probabilities == (-27.0, -28.0, -29.0)


def test_a_text_of_the_same_letters_as_its_language_is_found_behind_the_tag() -> None:
    assert located("language English<asr_text>a", "a").log_probabilities == (-27.0,)


def test_a_settled_beginning_has_no_probability() -> None:
    assert locate("Hi you", [3, 6], [None, -0.5], "Hi you") == TokenSpans((3, 6), (None, -0.5))


def test_a_collapsed_loop_keeps_the_tokens_on_both_sides() -> None:
    answer = "so " + "no, " * 30 + "nobody"
    _, text, flags = parse_output("language English<asr_text>" + answer)
    assert flags == ("loop_collapsed",)
    assert holds("language English<asr_text>" + answer, text, 3)


def test_spans_lose_what_is_cut_from_the_text() -> None:
    found = TokenSpans((2, 5, 9), (-1.0, -2.0, -3.0))
    assert found.shifted(3, 4) == TokenSpans((2, 4), (-2.0, -3.0))
    assert found.shifted(0, 9) == found
    assert TokenSpans().shifted(1, 3) == TokenSpans()


def test_characters_that_are_not_in_the_source_are_in_no_run() -> None:
    assert list(matching_runs("ab", "aXb")) == [(0, 0, 1), (1, 2, 1)]
    assert list(matching_runs("ab", "")) == []


def holds(answer: str, text: str, cuts: int) -> bool:
    """Whether every visible character of a text belongs to a token that has this character."""
    data, found = answer.encode(), located(answer, text, cuts)
    assert list(found.ends) == sorted(found.ends) and (found.ends[-1] if found.ends else 0) == len(text)
    for start, end, score in spans(found.ends, found.log_probabilities):
        visible = "".join(text[start:end].split())
        number = -1 if score is None else int(-score - 1)
        token = b"" if score is None else data[max(0, number * cuts - 3) : (number + 1) * cuts + 3]
        chars = iter(token.decode(errors="ignore"))
        if not all(char in chars for char in visible):
            return False
    return True


@pytest.mark.parametrize("seed", range(8))
def test_every_visible_character_belongs_to_a_token_that_has_it(seed: int) -> None:
    rnd = random.Random(seed)
    for _ in range(60):
        body = " ".join(rnd.choices(PIECES, k=rnd.randint(0, 12)))
        loop = rnd.choice([LOOP, "ha", "no "]) * rnd.choice([0, 6, 25])
        answer = f"language English<asr_text> {body} {loop}{rnd.choice(['', 'end'])}"
        _, text, _ = parse_output(answer)
        assert holds(answer, text, rnd.randint(2, 5)), (answer, text)
