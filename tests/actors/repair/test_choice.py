"""Which text is kept: agreement, then guards passed, then confidence, and never one that is no better."""

from __future__ import annotations

from actors.repair.choice import Candidate, best
from tests.actors.repair.scripted import DOUBT, LOOP, text


def candidates(*hypotheses) -> list[Candidate]:
    return [Candidate(f"step{number}", one) for number, one in enumerate(hypotheses)]


def test_the_fewest_flags_win() -> None:
    assert best(candidates(text("a b", LOOP, DOUBT), text("c d", DOUBT), text("e f"))) == 2


def test_two_sound_texts_that_agree_win_over_one_with_fewer_flags() -> None:
    same = "we all go home now"
    found = candidates(text("x y", LOOP), text(same, DOUBT, confidence=0.3), text("z"), text(same, DOUBT))
    assert best(found) == 3


def test_loops_that_agree_are_no_argument() -> None:
    assert best(candidates(text("the the", LOOP), text("the the", LOOP), text("a clean one"))) == 2


def test_of_equals_the_original_stays_even_with_less_confidence() -> None:
    assert best(candidates(text("a b", LOOP, confidence=0.2), text("c d", LOOP, confidence=0.9))) == 0


def test_of_two_clean_ones_the_more_confident_wins_then_the_earlier() -> None:
    loop = text("the the", LOOP)
    assert best(candidates(loop, text("a b", confidence=0.6), text("c d", confidence=0.8))) == 2
    assert best(candidates(loop, text("a b"), text("c d"))) == 1


def test_a_language_that_is_not_allowed_weighs_more_than_any_doubt() -> None:
    assert best(candidates(text("a", "language_not_allowed"), text("b", DOUBT, "too_little_text"))) == 1
