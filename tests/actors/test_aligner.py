"""Rows through the aligner: words with their punctuation, in seconds of the recording."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from actors import aligner
from actors.aligner import AlignerActor
from actors.backends.base import AlignerBackend
from actors.config import AlignerConfig
from actors.config.trust import GuardsConfig
from actors.records import AlignmentRequest, Row
from actors.text.given_text import script

# The audio of these tests is silent.
NO_GUARDS = GuardsConfig(enabled=False)


class Seconds(AlignerBackend):
    """Unit i lasts from i to i + 1 seconds; fails where a unit is `bad`; `blink` has no duration."""

    model, revision, max_duration = "seconds", "1", 20.0

    def __init__(self) -> None:
        self.batches: list[list[AlignmentRequest]] = []
        self.prefetched: list[Sequence[AlignmentRequest]] = []

    def prefetch(self, requests: Sequence[AlignmentRequest]) -> None:
        self.prefetched.append(requests)

    def align(self, requests: list[AlignmentRequest]) -> list[list[tuple[float, float]]]:
        self.batches.append(requests)
        if any("bad" in request.units for request in requests):
            raise ValueError("cannot align")
        return [
            [(index, index + (unit != "blink")) for index, unit in enumerate(request.units)]
            for request in requests
        ]


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Seconds:
    seconds = Seconds()
    monkeypatch.setattr(aligner, "create_aligner", lambda config: seconds)
    return seconds


def segment(
    text: str,
    language: str | None = "en",
    start: float = 0.0,
    seconds: float = 5.0,
    flags: tuple[str, ...] = (),
) -> Row:
    samples = np.ones(round(seconds * 16_000), dtype="<i2").tobytes()
    times = {"start": start, "end": start + seconds, "channel": 1, "samples": samples}
    return {**times, "language": language, "text": text, "raw": text, "confidence": 0.9, "flags": list(flags)}


def row(*segments: Row, status: str = "ok", **columns: Any) -> Row:
    plan = {"shard_id": "s", "error_stage": None, "error_code": None, "error_message": None}
    return {**plan, "status": status, "segments": list(segments), **columns}


def test_words_keep_their_punctuation_and_have_times_of_the_recording(backend: Seconds) -> None:
    [after] = AlignerActor(AlignerConfig(), NO_GUARDS)([row(segment("Well-known, isn't it?", start=100.25))])
    [done] = after["segments"]
    assert backend.batches[0][0].units == ("Wellknown", "isn't", "it")
    # These segments have no tokens.
    assert [word.pop("confidence") for word in done["words"]] == [None] * 3
    assert done["words"] == [
        {"text": "Well-known,", "start": 100.25, "end": 101.25, "char_start": 0, "char_end": 11},
        {"text": "isn't", "start": 101.25, "end": 102.25, "char_start": 12, "char_end": 17},
        {"text": "it?", "start": 102.25, "end": 103.25, "char_start": 18, "char_end": 21},
    ]
    assert (done["word_source"], done["flags"], after["status"]) == ("aligner", [], "ok")
    assert "samples" not in done
    assert done["channel"] == 1
    assert done["raw"] == "Well-known, isn't it?"


def test_chinese_words_are_single_characters(backend: Seconds) -> None:
    [after] = AlignerActor(AlignerConfig(), NO_GUARDS)([row(segment("你好。", language="zh"))])
    assert [word["text"] for word in after["segments"][0]["words"]] == ["你", "好。"]


@pytest.mark.parametrize("language", ["sv", None, "tlh"])
def test_languages_that_the_aligner_does_not_know_have_no_words(
    backend: Seconds, language: str | None
) -> None:
    [after] = AlignerActor(AlignerConfig(), NO_GUARDS)([row(segment("ett två", language=language))])
    [done] = after["segments"]
    assert (done["words"], done["word_source"], done["flags"], after["status"]) == ([], "none", [], "ok")
    assert "samples" not in done
    assert backend.batches == []


@pytest.mark.parametrize("text", ["", "...", "?!"])
def test_text_without_units_has_no_words(backend: Seconds, text: str) -> None:
    [after] = AlignerActor(AlignerConfig(), NO_GUARDS)([row(segment(text))])
    assert (after["segments"][0]["words"], after["segments"][0]["word_source"]) == ([], "none")
    assert backend.batches == []


def test_every_segment_gets_its_own_words(backend: Seconds) -> None:
    rows = [
        row(segment("a b", seconds=2), segment("c", language="sv"), segment("d e f", seconds=9)),
        row(status="no_speech"),
        row(segment("g", seconds=1), segment(""), segment("h i", seconds=12)),
    ]
    after = AlignerActor(AlignerConfig(max_batch_size=2))(rows)
    words = [[[word["text"] for word in done["words"]] for done in of_row["segments"]] for of_row in after]
    assert words == [[["a", "b"], [], ["d", "e", "f"]], [], [["g"], [], ["h", "i"]]]
    assert max(map(len, backend.batches)) == 2


def test_words_without_duration_are_flagged_and_kept(backend: Seconds) -> None:
    [after] = AlignerActor(AlignerConfig(), NO_GUARDS)([row(segment("one blink", flags=("odd",)))])
    [done] = after["segments"]
    assert done["flags"] == ["odd", "zero_length_words"]
    assert (done["words"][1]["start"], done["words"][1]["end"]) == (1.0, 1.0)


def test_a_bad_segment_fails_alone(backend: Seconds) -> None:
    after, whole = AlignerActor(AlignerConfig(), NO_GUARDS)(
        [row(segment("one"), segment("bad"), segment("two")), row(segment("three"))]
    )
    assert [len(done["words"]) for done in after["segments"]] == [1, 0, 1]
    assert (after["segments"][1]["flags"], after["segments"][1]["word_source"]) == (
        ["alignment_failed"],
        "none",
    )
    problem = (after["status"], after["error_stage"], after["error_code"], after["error_message"])
    assert problem == ("partial", "align", "alignment_failed", "ValueError: cannot align")
    assert whole["status"] == "ok"


def test_a_tokenizer_that_fails_fails_only_its_segment(
    backend: Seconds, monkeypatch: pytest.MonkeyPatch
) -> None:
    locate_units = script.locate_units

    def fail_on_one_text(text: str, language: str) -> list[Any]:
        if text == "unusual":
            raise IndexError("in a third party's code")
        return locate_units(text, language)

    monkeypatch.setattr(script, "locate_units", fail_on_one_text)
    [after] = AlignerActor(AlignerConfig(), NO_GUARDS)([row(segment("unusual"), segment("one"))])
    assert [done["flags"] for done in after["segments"]] == [["alignment_failed"], []]
    assert after["status"] == "partial"
    assert after["error_code"] == "alignment_failed"


def test_a_segment_that_is_too_long_is_not_aligned(backend: Seconds) -> None:
    [after] = AlignerActor(AlignerConfig(), NO_GUARDS)(
        [row(segment("one two", seconds=20.5), segment("three", seconds=20))]
    )
    assert [done["flags"] for done in after["segments"]] == [["too_long_to_align"], []]
    assert [len(done["words"]) for done in after["segments"]] == [0, 1]


@pytest.mark.parametrize("unchanged", [row(status="no_speech"), row(status="error", error_code="not_audio")])
def test_rows_without_segments_are_returned_unchanged(backend: Seconds, unchanged: Row) -> None:
    assert AlignerActor(AlignerConfig(), NO_GUARDS)([unchanged]) == [unchanged]


def test_the_input_is_unchanged(backend: Seconds) -> None:
    before = row(segment("one blink"))
    AlignerActor(AlignerConfig(), NO_GUARDS)([before])
    assert "samples" in before["segments"][0]
    assert before["segments"][0]["flags"] == []


def test_rows_do_not_depend_on_the_other_rows_of_a_batch(tiny_models, waveforms) -> None:
    rows = [
        row(
            *[
                {**segment("one two three", start=10.0 * index), "samples": clip.tobytes()}
                for index, clip in enumerate(clips)
            ]
        )
        for clips in (waveforms[:2], waveforms[2:3], waveforms[3:])
    ]
    actor = AlignerActor(AlignerConfig(model=str(tiny_models.aligner)))
    batched = actor(rows)
    assert batched == [actor([single])[0] for single in rows]
    for done, clip in zip([done for after in batched for done in after["segments"]], waveforms, strict=True):
        times = [time for word in done["words"] for time in (word["start"], word["end"])]
        assert times == sorted(times)
        assert times[0] >= done["start"]
        assert times[-1] <= round(done["start"] + len(clip) / 16_000, 3)


def test_the_backend_may_prefetch_each_batch(backend: Seconds) -> None:
    AlignerActor(AlignerConfig(max_batch_size=1))([row(segment("one", seconds=3), segment("two", seconds=5))])
    assert [[id(request) for request in batch] for batch in backend.prefetched] == [
        [id(request) for request in batch] for batch in backend.batches
    ]
    assert len(backend.prefetched) == 2
