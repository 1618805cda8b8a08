"""Flags of word times, one kind of fault at a time."""

from __future__ import annotations

from typing import Any

from actors.config.trust import GuardsConfig
from actors.guards.evidence import WordEvidence
from actors.guards.words import needs_speech, withdrawn_flags, word_flags

# Ten words of 0.4 s, every half second.
EVEN = tuple((f"w{number}", number / 2, number / 2 + 0.4) for number in range(10))
# Two syllables in each of them.
SYLLABLES = tuple(number / 4 + 0.1 for number in range(20))


def evidence(words: tuple[tuple[str, float, float], ...] = EVEN, **known: Any) -> WordEvidence:
    return WordEvidence(**{"words": words, "duration": 5.0, "heard_syllables": SYLLABLES, **known})


def test_good_words_have_no_flags() -> None:
    assert word_flags(evidence()) == ()
    assert not needs_speech(evidence())


def test_single_words_without_duration_are_no_run() -> None:
    words = (*EVEN[:4], ("w4", 2.1, 2.1), *EVEN[5:])
    assert word_flags(evidence(words)) == ()


def test_a_run_of_words_without_duration_is_flagged() -> None:
    words = (*EVEN[:4], ("a", 2.4, 2.4), ("b", 2.4, 2.4), ("c", 2.4, 2.4), *EVEN[5:])
    assert word_flags(evidence(words)) == ("zero_length_run",)


def test_words_at_one_place_are_flagged() -> None:
    pile = tuple((f"p{number}", 4.9 + number / 100, 4.91 + number / 100) for number in range(6))
    assert word_flags(evidence((*EVEN, *pile))) == ("words_piled_up",)


def test_words_in_silence_are_flagged() -> None:
    silent = {"silences": ((1.9, 3.0),), "heard_syllables": tuple(t for t in SYLLABLES if not 1.9 < t < 3)}
    assert word_flags(evidence(**silent)) == ("words_in_silence",)


def test_a_word_next_to_silence_is_not_in_it() -> None:
    assert word_flags(evidence(silences=((1.9, 2.2), (2.9, 3.1)))) == ()


def test_many_repairs_are_flagged() -> None:
    assert word_flags(evidence(repaired=4)) == ()
    assert word_flags(evidence(repaired=5)) == ("many_times_repaired",)


def test_speech_without_words_is_flagged() -> None:
    found = evidence(EVEN[:6])
    assert word_flags(found) == ("speech_without_words",)
    assert needs_speech(found)


def test_sound_that_is_no_speech_is_no_speech_without_words() -> None:
    found = evidence(EVEN[:6], speech_syllables=SYLLABLES[:12])
    assert word_flags(found) == ()
    assert not needs_speech(found)
    assert word_flags(evidence(EVEN[:6], speech_syllables=())) == ()


def test_sound_at_an_end_that_no_word_covers_is_told() -> None:
    assert word_flags(evidence(EVEN[1:])) == ("edge_without_words",)
    assert word_flags(evidence(EVEN[:-1])) == ("edge_without_words",)
    assert needs_speech(evidence(EVEN[1:]))
    assert word_flags(evidence(EVEN[1:], speech_syllables=SYLLABLES[2:])) == ()


def test_a_third_of_the_sound_of_a_short_segment_is_missing_text() -> None:
    short = {"heard_syllables": SYLLABLES[:8], "duration": 2.0}
    assert word_flags(evidence(EVEN[:4], **short)) == ()
    assert word_flags(evidence((EVEN[0], EVEN[2]), **short)) == ("speech_without_words",)


SHORT_TEXT = {"flags": ("too_little_text", "repair_refused")}


def test_a_text_whose_words_cover_all_that_is_heard_is_not_too_short() -> None:
    assert set(withdrawn_flags(evidence(**SHORT_TEXT))) == {"too_little_text", "repair_refused"}
    assert withdrawn_flags(evidence()) == ()


def test_what_words_leave_out_or_are_stretched_over_stays_missing() -> None:
    assert withdrawn_flags(evidence(EVEN[:9], **SHORT_TEXT)) == ()
    stretched = (*EVEN[:6], ("w", 3.0, 4.9))
    assert withdrawn_flags(evidence(stretched, **SHORT_TEXT)) == ()
    empty = (*EVEN[:4], ("w4", 2.1, 2.1), *EVEN[4:])
    assert withdrawn_flags(evidence(empty, **SHORT_TEXT)) == ()
    assert withdrawn_flags(evidence(flags=("too_little_text", "words_in_silence"))) == ()


def test_flags_are_given_once_and_only_if_guards_are_on() -> None:
    found = evidence(EVEN[:6], flags=("speech_without_words",))
    assert word_flags(found) == ()
    assert word_flags(evidence(EVEN[:6]), GuardsConfig(enabled=False)) == ()
