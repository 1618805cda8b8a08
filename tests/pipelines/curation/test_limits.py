"""Every limit drops what is beyond it, with its reason, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from actors.guards.sound_quality import Signal
from pipelines.curation.candidates import Candidate, candidates
from pipelines.curation.limits import Limits, judge, judge_together
from tests.pipelines.export.transcripts import make_segment, make_transcript

WORDS = ["We", "are", "going", "to", "meet", "at", "noon", "tomorrow", "in", "the", "old", "town"]


def _candidate(row: dict[str, Any] | None = None, **changes: Any) -> Candidate:
    row = row or make_transcript("a.wav", [make_segment(0.5, WORDS)])
    [candidate] = candidates(row, "segment")
    for name, value in changes.items():
        setattr(candidate, name, value)
    return candidate


def _signal(**changes: Any) -> Signal:
    facts = {
        "snr_db": 30.0, "bandwidth_hz": 7500.0, "clipped_share": 0.0, "level_dbfs": -20.0, "syllables": 13,
        "fingerprint": bytes(32),
    }  # fmt: skip
    return Signal(**{**facts, **changes})


def test_good_speech_is_kept() -> None:
    assert judge(_candidate(signal=_signal()), Limits(), {}) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"snr_db": 3.0}, "noise"),
        ({"snr_db": None}, "silence"),
        ({"bandwidth_hz": 1500.0}, "bandwidth"),
        ({"clipped_share": 0.05}, "clipping"),
        ({"level_dbfs": -70.0}, "level"),
        ({"syllables": 0}, "text_unlike_sound"),
        ({"syllables": 60}, "text_unlike_sound"),
    ],
)
def test_bad_sound_is_dropped(changes: dict[str, Any], reason: str) -> None:
    assert judge(_candidate(signal=_signal(**changes)), Limits(), {}) == [reason]


def test_bad_texts_are_dropped() -> None:
    assert judge(_candidate(agreement=0.5), Limits(), {}) == ["agreement"]
    assert judge(_candidate(status="partial"), Limits(), {}) == ["status"]
    doubtful = make_transcript("a", [make_segment(0.5, WORDS, confidence=0.2, flags=("repetitive",))])
    assert judge(_candidate(doubtful), Limits(), {}) == ["flag:repetitive", "confidence"]
    fast = make_transcript("a", [make_segment(0.5, WORDS * 3, step=0.05)])
    assert "too_fast" in judge(_candidate(fast), Limits(), {})
    german = ["Wir", "treffen", "uns", "morgen", "Mittag", "in", "der", "alten", "Stadt", "und", "gehen"]
    german += ["danach", "zum", "Bahnhof"]
    foreign = make_transcript("a", [make_segment(0.5, german)])
    assert judge(_candidate(foreign), Limits(), {}) == ["text_in_other_language"]
    assert judge(_candidate(make_transcript("quiet", [])), Limits(), {}) == ["no_text"]


def test_a_few_unheard_words_of_a_given_text_are_no_reason() -> None:
    few = make_transcript("a", [make_segment(0.5, WORDS)], flags=["text_unlike_audio:0.05"])
    many = make_transcript("a", [make_segment(0.5, WORDS)], flags=["text_unlike_audio:0.4"])
    assert judge(_candidate(few), Limits(), {}) == []
    assert judge(_candidate(many), Limits(), {}) == ["flag:text_unlike_audio"]


def test_speakers_are_counted_by_their_words() -> None:
    limits = Limits(max_speakers=1, min_purity=0.9)
    assert judge(_candidate(), limits, {"S1": 8, "S2": 4}) == ["speakers", "speaker_purity"]
    assert judge(_candidate(), limits, {"S1": 12}) == []


def test_of_copies_the_one_that_agrees_best_stays() -> None:
    copies = [
        _candidate(agreement=agreement, signal=_signal(fingerprint=bytes(31) + bytes([bit])))
        for bit, agreement in ((1, 0.85), (3, 0.99), (0, 0.9))
    ]
    other = _candidate(agreement=0.9, signal=_signal(fingerprint=bytes([0xF0] * 32)))
    judge_together([*copies, other], Limits())
    assert [copy.reasons for copy in copies] == [["same_sound"], [], ["same_sound"]]
    assert other.reasons == []


def test_the_same_bytes_under_two_names_are_copies() -> None:
    row = make_transcript("a", [make_segment(0.5, WORDS)], provenance={"audio_etag": "x", "audio_bytes": 9})
    both = [_candidate(row), _candidate({**row, "recording_id": "b"})]
    judge_together(both, Limits())
    assert [candidate.reasons for candidate in both] == [[], ["same_audio"]]


def test_a_text_that_is_everywhere_is_kept_a_few_times() -> None:
    many = [_candidate() for _ in range(8)]
    judge_together(many, Limits(max_same_text=5))
    assert [bool(candidate.reasons) for candidate in many] == [False] * 5 + [True] * 3
    assert many[-1].reasons == ["same_text"]


def test_an_unusual_rate_in_its_language_is_dropped() -> None:
    usual = [
        _candidate(make_transcript(f"{number}", [make_segment(0.5, [*WORDS[:6], str(number)], step=0.4)]))
        for number in range(30)
    ]
    odd = _candidate(make_transcript("odd", [make_segment(0.5, WORDS, step=1.6)]))
    judge_together([*usual, odd], Limits(max_rate_deviation=4.0))
    assert odd.reasons == ["unusual_rate"]
    assert not any(candidate.reasons for candidate in usual)


def test_of_copies_with_different_texts_the_one_that_most_have_stays() -> None:
    other = ["Nobody", "ever", "said", "a", "thing", "like", "this", "to", "me", "in", "my", "life"]
    texts = [other, WORDS, WORDS]
    copies = [
        _candidate(make_transcript(f"{number}", [make_segment(0.5, words)]), signal=_signal())
        for number, words in enumerate(texts)
    ]
    copies[2].reasons = ["noise"]
    judge_together(copies, Limits())
    assert [copy.reasons for copy in copies] == [["same_sound"], [], ["noise"]]


def test_a_recording_that_ends_in_the_middle_of_speech_is_dropped() -> None:
    signal = _signal(syllables=7, end_db=-2.0)
    assert judge(_candidate(signal=signal, ends_recording=True), Limits(), {}) == ["cut_off"]
    assert judge(_candidate(signal=signal, ends_recording=False), Limits(), {}) == []
    assert judge(_candidate(signal=_signal(end_db=-2.0), ends_recording=True), Limits(), {}) == []
