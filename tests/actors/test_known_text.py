"""Given texts in rows: what of them is said, and what becomes of a row whose text is another one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from actors import asr
from actors.backends.base import ASRBackend
from actors.config import ASRConfig
from actors.config.given_text import GivenTextConfig
from actors.known_text import KnownTextActor
from actors.records import Hypothesis, Row, SegmentRequest
from actors.text.given_text.judgement import judged, share_of, with_share

SAID = ["it was a dark and stormy night", "the rain fell in torrents", "except at occasional intervals"]
TEXT = "It was a dark and stormy night; the rain fell in torrents, except at occasional intervals."
OTHER = "Call me Ishmael. Some years ago, having little money in my purse, I thought I would sail about."


class Script(ASRBackend):
    """Hears the sentence whose number the samples have; fails at 99, loops without end at 98."""

    model, revision = "script", "1"

    def transcribe(self, requests: list[SegmentRequest]) -> list[Hypothesis | Exception]:
        return [self._heard(int(request.waveform[0])) for request in requests]

    def _heard(self, number: int) -> Hypothesis | Exception:
        if number == 99:
            return ValueError("cannot be recognised")
        if number == 98:
            return Hypothesis("", None, "raw", 0.9, 9, ("loop_collapsed", "truncated"))
        return Hypothesis(SAID[number], "English", "raw", 0.9, 9)


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(asr, "create_asr", lambda config: Script())
    return lambda **settings: KnownTextActor(ASRConfig(), 8.0, GivenTextConfig(**settings))


def row(text: str, sentences: Sequence[int], language: str | None = "en", **columns: Any) -> Row:
    segments = [
        {
            "start": 10.0 * place,
            "end": 10.0 * place + 6,
            "channel": None,
            "flags": ["speech_unlikely"],
            "samples": np.full(96_000, number, "<i2").tobytes(),
        }
        for place, number in enumerate(sentences)
    ]
    plain = {"status": "ok", "language": language, "context": "", "error_code": None, "flags": ["clipped"]}
    return {**plain, "text": text, "segments": segments, **columns}


def texts(done: Row) -> list[str]:
    return [segment["text"] for segment in done["segments"]]


def test_a_text_that_is_said_is_cut_to_the_segments_without_a_flag(make: Any) -> None:
    [done] = make()([row(TEXT, [0, 1, 2])])
    assert texts(done) == [
        "It was a dark and stormy night;",
        "the rain fell in torrents,",
        "except at occasional intervals.",
    ]
    assert (done["status"], done["flags"]) == ("ok", ["clipped"])
    assert {tuple(segment["flags"]) for segment in done["segments"]} == {("speech_unlikely", "text_given")}
    assert {segment["confidence"] for segment in done["segments"]} == {None}


def test_another_text_is_kept_whole_and_flagged(make: Any) -> None:
    [done] = make()([row(OTHER, [0, 1, 2])])
    assert texts(done) == [OTHER, "", ""]
    assert done["flags"] == ["clipped", "speech_without_text:1.00", "text_unlike_audio:1.00"]
    assert done["status"] == "partial"


def test_the_text_of_a_short_recording_is_compared_too(make: Any) -> None:
    [right, wrong] = make()([row(SAID[0], [0]), row(OTHER, [0])])
    assert (right["status"], wrong["status"]) == ("ok", "partial")
    assert "text_unlike_audio:1.00" in wrong["segments"][0]["flags"]


def test_without_comparison_short_recordings_need_no_recogniser_and_all_text_counts_as_said(
    make: Any,
) -> None:
    actor = make(verify=False)
    [done] = actor([row(OTHER, [0])])
    assert (texts(done), done["status"], actor.model) == ([OTHER], "ok", "manifest")
    [long] = actor([row(TEXT, [0, 1, 2])])
    assert texts(long)[1] == "the rain fell in torrents,"


def test_a_little_front_matter_is_flagged_and_leaves_the_row_ok(make: Any) -> None:
    text = " ".join([TEXT] * 2)
    [done] = make()([row(f"Printed by John Smith. {text}", [0, 1, 2, 0, 1, 2])])
    assert done["status"] == "ok"
    assert share_of(done["flags"], "text_unlike_audio") == pytest.approx(4 / 34, abs=0.01)
    assert done["segments"][0]["parts"][0] == {"kind": "unsaid", "start": 0, "end": 23, "text": ""}


def test_speech_that_the_text_lacks_is_flagged_where_it_is(make: Any) -> None:
    [done] = make()([row("It was a dark and stormy night; except at occasional intervals.", [0, 1, 2])])
    assert texts(done)[1] == ""
    assert "speech_without_text:1.00" in done["segments"][1]["flags"]
    assert done["status"] == "partial"


def test_where_the_recogniser_failed_or_looped_the_text_is_not_judged(make: Any) -> None:
    [failed, looped] = make()([row(TEXT, [0, 99, 2]), row(TEXT, [0, 98, 2])])
    for done in (failed, looped):
        assert texts(done)[1] == "the rain fell in torrents,"
        assert not share_of(done["flags"], "text_unlike_audio")
    assert "failed" in failed["segments"][1]["flags"]
    assert (failed["status"], looped["status"]) == ("partial", "ok")


def test_rows_without_segments_are_returned_unchanged(make: Any) -> None:
    empty = row(TEXT, [])
    assert make()([empty]) == [empty]


@pytest.mark.parametrize(
    ("share", "flags"),
    [(0.0, ["a"]), (0.001, ["a", "x:0.01"]), (0.25, ["a", "x:0.25"]), (1.0, ["a", "x:1.00"])],
)
def test_a_share_is_rounded_up(share: float, flags: list[str]) -> None:
    assert with_share(["a"], "x", share) == flags


def test_words_without_times_count_as_not_said_and_replace_an_earlier_share() -> None:
    words = [{"text": "a", "start": None}, {"text": "b", "start": 1.0}]
    segment = {"text": "a b", "flags": ["text_given", "text_unlike_audio:0.10"], "words": words}
    done = judged({"status": "ok", "flags": [], "segments": [segment]})
    assert done["segments"][0]["flags"] == ["text_given", "text_unlike_audio:0.50"]
    assert (done["flags"], done["status"]) == (["text_unlike_audio:0.50"], "partial")


def test_a_recognised_row_is_not_judged() -> None:
    done = {"status": "ok", "flags": [], "segments": [{"text": "a", "flags": [], "words": [{"start": None}]}]}
    assert judged(done) is done
