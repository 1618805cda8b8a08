"""Flags of texts, one kind of fault at a time, and when a VAD is asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from actors.config.trust import GuardsConfig
from actors.guards.evidence import TextEvidence
from actors.guards.text import DEFAULTS, SUSPECT_TEXT_FLAGS, is_suspect, needs_speech, text_flags
from actors.records import ServerJudgement

TEXT = "Two five seven hello music water garden please and thanks"  # 16 syllables
GOOD = TextEvidence(text=TEXT, duration=6, language="en", heard_syllables=14, confidence=0.9)
SPOKEN = {"speech_probability": 0.99, "speech_seconds": 4.0}


def flags(**known: Any) -> tuple[str, ...]:
    return text_flags(replace(GOOD, **known))


def test_a_good_text_has_no_flags_and_needs_no_vad() -> None:
    assert flags() == ()
    assert not needs_speech(GOOD)


@pytest.mark.parametrize(
    ("known", "flag"),
    [
        ({"budget_spent": True}, "truncated"),
        ({"text": TEXT + " and thanks" * 5, "heard_syllables": 30}, "repetitive"),
        ({"duration": 1.0}, "too_much_text"),
        ({"heard_syllables": 4}, "too_much_text"),
        ({"heard_syllables": 30}, "too_little_text"),
        ({"speech_probability": 0.02, "speech_seconds": 0.0}, "text_without_speech"),
        ({"flags": ("speech_unlikely",)}, "text_without_speech"),
        (
            {"context": "Words: two, five, seven, hello, music, water, garden, please, and, thanks"},
            "context_leaked",
        ),
        ({"language": "fr"}, "language_doubtful"),
        ({"allowed_languages": ("de", "fr")}, "language_not_allowed"),
        ({"confidence": 0.3}, "low_confidence"),
    ],
)
def test_each_fault_has_its_flag(known: dict[str, Any], flag: str) -> None:
    assert flags(**known) == (flag,)
    assert flag in SUSPECT_TEXT_FLAGS


def test_noise_hides_syllables_but_not_seconds_of_speech() -> None:
    assert flags(heard_syllables=4, **SPOKEN) == ()
    assert flags(heard_syllables=4, speech_probability=0.9, speech_seconds=0.5) == ("too_much_text",)


def test_sounds_that_are_no_speech_are_no_missing_text() -> None:
    assert flags(heard_syllables=40, speech_syllables=15, **SPOKEN) == ()
    assert flags(heard_syllables=40, speech_syllables=38, **SPOKEN) == ("too_little_text",)


def test_silence_has_no_flags_unless_there_is_speech() -> None:
    silence = {"text": "", "language": None, "confidence": None}
    assert flags(**silence) == ()
    assert needs_speech(replace(GOOD, **silence))
    assert flags(speech_syllables=2, **silence, **SPOKEN) == ()
    assert flags(speech_syllables=14, **silence, **SPOKEN) == ("too_little_text",)
    # A few syllables are enough where there is a second of speech.
    assert flags(speech_syllables=5, **silence, **SPOKEN) == ("too_little_text",)
    brief = {**SPOKEN, "speech_seconds": 0.5}
    assert flags(speech_syllables=5, **silence, **brief) == ()


@pytest.mark.parametrize(
    ("judgement", "expected"),
    [
        (ServerJudgement(0.9, 1.4, -0.3), ()),
        (ServerJudgement(0.3, 2.9, -1.7), ()),
        (ServerJudgement(0.9, 2.9, -0.3), ("text_without_speech",)),
        (ServerJudgement(0.9, 1.4, -1.7), ("text_without_speech",)),
        (ServerJudgement(), ()),
    ],
)
def test_a_server_that_hears_no_speech_is_believed_if_it_is_not_sure_of_its_text(
    judgement: ServerJudgement, expected: tuple[str, ...]
) -> None:
    assert flags(server_judgements=(ServerJudgement(0.01, 1.2, -0.2), judgement)) == expected


@pytest.mark.parametrize(
    "known",
    [
        {"heard_syllables": 40},
        {"heard_syllables": 2},
        {"heard_syllables": 0},
        {"flags": ("speech_unlikely",)},
        {"confidence": 0.2},
        {"server_judgements": (ServerJudgement(0.9),)},
    ],
)
def test_a_vad_is_asked_in_doubt_and_once(known: dict[str, Any]) -> None:
    evidence = replace(GOOD, **known)
    assert needs_speech(evidence)
    assert not needs_speech(replace(evidence, **SPOKEN))


def test_flags_are_not_given_twice() -> None:
    assert flags(confidence=0.3, flags=("low_confidence",)) == ()
    assert flags(text="so " * 30, heard_syllables=30, flags=("loop_collapsed",)) == ()


def test_guards_can_be_switched_off_and_set() -> None:
    assert text_flags(replace(GOOD, confidence=0.3), GuardsConfig(enabled=False)) == ()
    assert (
        text_flags(replace(GOOD, confidence=0.3), DEFAULTS.model_copy(update={"min_confidence": 0.2})) == ()
    )


def test_suspects_are_known_by_their_flags() -> None:
    assert is_suspect(["unknown_language:Klingon"])
    assert not is_suspect(["speech_unlikely", "channel:1", "tag_removed"])
