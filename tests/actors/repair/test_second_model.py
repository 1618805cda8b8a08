"""The second model: what it hears, whose words stand, and how its segments get back into the row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from actors.records import SegmentRequest
from actors.repair import second_model
from actors.repair.earlier import pack, unpack
from tests.actors.repair.scripted import DOUBT, LOOP, speech, text

REQUEST = SegmentRequest(speech(4))


def segment(spoken: str, *flags: str, start: float = 0.0, **fields: Any) -> Any:
    values = {"start": start, "end": start + 4, "channel": None, "language": "en", "text": spoken}
    return {**values, "confidence": 0.5, "flags": list(flags), "words": [], "candidates": None, **fields}


def combined(first: Any, second: Any, languages: tuple[str, ...] = ()) -> Any:
    return second_model.combined(first, REQUEST, second, lambda request, one: one, languages)


def test_a_broken_text_is_replaced_by_a_whole_one() -> None:
    found = combined(segment("the the the", LOOP), text("well said"))
    assert (found.text, found.flags) == ("well said", ("repaired:second_model",))
    assert [(one["source"], one["text"]) for one in found.candidates] == [("original", "the the the")]


def test_of_two_broken_ones_the_first_stays() -> None:
    found = combined(segment("the the", LOOP), text("a a a", LOOP))
    assert (found.text, found.flags) == ("the the", (LOOP,))
    assert [one["source"] for one in found.candidates] == ["second_model"]


def test_a_doubtful_text_that_both_models_have_is_confirmed() -> None:
    found = combined(segment("We all go home.", DOUBT), text("we all go home"))
    assert (found.text, found.flags) == ("We all go home.", (DOUBT, "confirmed"))


def test_each_span_is_that_of_the_more_confident_model() -> None:
    words = [
        {"text": word, "char_start": start, "char_end": start + len(word), "confidence": confidence}
        for word, start, confidence in (("the", 0, 0.9), ("cat", 4, 0.95), ("sat", 8, 0.2))
    ]
    second = text("the hat fat", token_ends=(3, 7, 11), token_log_probabilities=(-0.1, -1.0, -0.1))
    found = combined(segment("the cat sat", DOUBT, words=words), second)
    assert found.text == "the cat fat"
    assert [one["text"] for one in found.candidates] == ["the cat sat", "the hat fat"]


def test_in_its_own_languages_the_second_model_is_taken_unless_it_is_doubtful() -> None:
    found = combined(segment("hej", language="sv"), text("hej då", language="Swedish"), ("sv",))
    assert (found.text, found.flags) == ("hej då", ("second_model",))
    kept = combined(segment("hej", language="sv"), text("hej hej", LOOP, language="Swedish"), ("sv",))
    assert (kept.text, kept.flags) == ("hej", ())


def test_earlier_candidates_stay() -> None:
    before = {"source": "recut", "text": "x", "language": None, "confidence": None, "flags": [LOOP]}
    found = combined(segment("the the", LOOP, candidates=[before]), text("well"))
    assert [one["source"] for one in found.candidates] == ["recut", "original"]


def test_what_is_heard_again() -> None:
    row = [
        segment("a"),
        segment("b", LOOP),
        segment("c", DOUBT, language="sv"),
        segment("d", language="sv"),
        segment("e", LOOP, "text_given"),
        segment("f", "speech_without_words"),
    ]
    assert second_model.seconds_again(row, ["sv"]) == (8.0, 8.0)
    assert second_model.segments_again(row, ["sv"], doubtful=True) == [1, 2, 3, 5]
    assert second_model.segments_again(row, ["sv"], doubtful=False) == [2, 3]


def test_a_segment_gets_its_part_of_the_audio_that_is_decoded_again() -> None:
    samples = np.arange(16_000 * 4, dtype=np.int16)
    decoded = [{"start": 10.0, "end": 14.0, "channel": None, "samples": samples.tobytes(), "flags": ["x"]}]
    part = second_model.with_audio({**segment("a"), "start": 11.0, "end": 12.5}, decoded)
    assert part is not None and part["flags"] == ["x"]
    assert np.array_equal(np.frombuffer(part["samples"], np.int16), samples[16_000:40_000])
    assert second_model.with_audio({**segment("a"), "start": 13.0, "end": 15.0}, decoded) is None
    assert second_model.with_audio({**segment("a", start=10.0), "channel": 1}, decoded) is None


def row(**columns: Any) -> Any:
    base = {"shard_id": "s+2", "run_id": "r", "created_at": "now", "status": "ok", "segments": []}
    return {**base, **columns}


def test_only_what_was_heard_again_changes_in_the_row() -> None:
    earlier = {
        "status": "ok",
        "segments": [segment("a"), segment("b", LOOP, start=5.0)],
        "flags": ["clipped"],
    }
    again = segment("better", "repaired:second_model", start=5.0)
    found = second_model.merged_row(row(segments=[again]), earlier, [1])
    assert [one["text"] for one in found["segments"]] == ["a", "better"]
    assert (found["shard_id"], found["flags"], found["repair_seconds"]) == ("s+2", ["clipped"], 4.0)


@pytest.mark.parametrize("status", ["ok", "error"])
def test_a_segment_that_was_not_heard_keeps_its_text(status: str) -> None:
    earlier = {"status": "partial", "error_code": None, "segments": [segment("b", LOOP)]}
    found = second_model.merged_row(row(status=status), earlier, [0])
    assert found["segments"][0]["flags"] == [LOOP, "repair_failed"]
    assert found["segments"][0]["text"] == "b"


def test_a_row_that_was_unreliable_is_whole_again() -> None:
    earlier = {"status": "partial", "error_code": None, "segments": [segment("", "unreliable")]}
    found = second_model.merged_row(row(segments=[segment("fine")]), earlier, [0])
    assert found["status"] == "ok"


def test_rows_survive_as_text() -> None:
    earlier = {"voices": [{"embedding": b"\x00\xff"}], "segments": [segment("ä", LOOP)], "duration": 1.5}
    assert unpack(pack(earlier, [0])) == (earlier, [0])
