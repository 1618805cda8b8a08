"""Faults that only word times show: who is heard again, what helps, and which text stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from actors.config import ASRConfig
from actors.config.repair import RepairConfig
from actors.config.trust import GuardsConfig
from actors.records import Hypothesis, SegmentRequest
from actors.repair.budget import LocalBudget
from actors.repair.earlier import pack
from actors.repair.words import faults
from actors.second_asr import SecondLookActor
from tests.actors.repair.scripted import Scripted, speech, text

MISSING, EDGE = "speech_without_words", "edge_without_words"


def segment(spoken: str, *flags: str, **fields: Any) -> Any:
    values = {"start": 0.0, "end": 8.0, "channel": None, "language": "en", "text": spoken}
    return {**values, "confidence": 0.9, "flags": list(flags), "words": [], "candidates": None, **fields}


@pytest.mark.parametrize("flag", [MISSING, EDGE, "words_in_silence", "zero_length_run"])
def test_what_only_words_show_is_heard_again(flag: str) -> None:
    assert faults.has_word_faults(segment("a", flag))


@pytest.mark.parametrize(
    "flag", ["repaired:recut", "repair_refused", "repair_failed", "text_given", "truncated"]
)
def test_what_was_tried_already_is_not(flag: str) -> None:
    assert not faults.has_word_faults(segment("a", MISSING, flag))
    assert not faults.has_word_faults(segment("a", MISSING, candidates=[{"source": "recut"}]))


def test_the_same_words_have_the_same_faults_and_another_text_has_none() -> None:
    original = text("one two three four", "words_in_silence")
    assert faults.with_word_faults(original, text("One two, three four."), 5).flags == ("words_in_silence",)
    assert faults.with_word_faults(original, text("never mind this"), 5).flags == ()


def test_a_text_that_misses_speech_must_gain_syllables() -> None:
    original = text("one two three four", MISSING)
    assert faults.with_word_faults(original, text("one two and four"), 5).flags == (MISSING,)
    found = faults.with_word_faults(original, text("one two three four five seven eleven"), 5)
    assert found.flags == ()


def test_a_missing_word_at_an_end_may_be_the_only_difference() -> None:
    words = "one two three four five six seven eight nine ten eleven"
    assert faults.with_word_faults(text(words, EDGE), text(words + " twelve"), 5).flags == ()
    assert faults.with_word_faults(text(words, EDGE), text(words), 5).flags == (EDGE,)


def test_the_text_with_better_words_stays() -> None:
    earlier = segment("half", MISSING)
    better = segment("half and half", "repaired:recut", candidates=[{"source": "original"}])
    assert faults.better(earlier, better) is better
    worse = segment("other", "words_in_silence", "repaired:recut", candidates=[{"source": "original"}])
    kept = faults.better(earlier, worse)
    assert (kept["text"], kept["flags"]) == ("half", [MISSING])
    assert [(one["source"], one["text"]) for one in kept["candidates"] or []] == [("recut", "other")]


def test_a_refused_repair_says_so() -> None:
    kept = faults.better(segment("half", MISSING), segment("half", MISSING, "repair_refused"))
    assert kept["flags"] == [MISSING, "repair_refused"] and kept["candidates"] is None


def second_look(answer: Any, budget: float = 1000.0) -> tuple[SecondLookActor, Scripted]:
    actor = SecondLookActor(ASRConfig(backend="fake"), GuardsConfig(), RepairConfig())
    backend = Scripted(answer)
    actor.backend = actor.ladder.backend = backend  # type: ignore[assignment]
    actor.ladder.budget = LocalBudget(0.0, budget)
    return actor, backend


def row(*segments: Any, again: list[int]) -> Any:
    samples = speech(8).tobytes()
    decoded = [{"start": 0.0, "end": 8.0, "channel": None, "samples": samples, "flags": []}]
    earlier = pack({"segments": list(segments)}, again)
    return {"status": "ok", "language": None, "context": "", "segments": decoded, "earlier": earlier}


HALF, WHOLE = "one two three four five six", "one two three four five six seven eight nine ten eleven twelve"


def test_a_second_look_finds_the_missing_half() -> None:
    first = speech(8)[:800]

    def answer(request: SegmentRequest) -> Hypothesis:
        is_first = np.array_equal(request.waveform[:800], first)
        return text(HALF if is_first else "seven eight nine ten eleven twelve")

    actor, backend = second_look(answer)
    [found] = actor([row(segment(HALF, MISSING), again=[0])])
    [one] = found["segments"]
    assert one["text"] == WHOLE and "repaired:recut" in one["flags"] and MISSING not in one["flags"]
    assert [(part["source"], part["flags"]) for part in one["candidates"]] == [("original", [MISSING])]
    assert found["repair_seconds"] == 8.0
    assert all(request.duration < 8 for call in backend.calls for request in call)


def test_a_second_look_without_a_better_text_changes_nothing() -> None:
    actor, _ = second_look(lambda request: text(HALF if request.duration > 7 else "one two three"))
    [found] = actor([row(segment(HALF, MISSING), again=[0])])
    assert found["segments"][0]["text"] == HALF


def test_a_second_look_is_bounded() -> None:
    actor, backend = second_look(lambda request: text(WHOLE), budget=4.0)
    [found] = actor([row(segment(HALF, MISSING), again=[0])])
    assert backend.calls == [] and "repair_refused" in found["segments"][0]["flags"]
