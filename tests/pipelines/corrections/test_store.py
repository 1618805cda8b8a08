"""What people correct is stored beside the transcripts, and laid over them."""

from __future__ import annotations

from pathlib import Path

from pipelines.corrections import store
from tests.pipelines.export.transcripts import make_segment, make_transcript


def _row():  # type: ignore[no-untyped-def]
    first = make_segment(0.5, ["Good", "morning,", "eveyone."], flags=("channel:0", "low_confidence"))
    second = make_segment(3.0, ["Let", "us", "begin."])
    return make_transcript("talk.wav", [first, second], status="ok")


def test_a_correction_is_laid_over_the_transcript_which_stays_as_it_is(tmp_path: Path) -> None:
    out, row = str(tmp_path), _row()
    store.add(out, [store.correction_of(row, 0, "Good morning, everyone.", who="ada", source="browse")])
    [corrected] = store.apply(out, [row])
    assert corrected["text"] == "Good morning, everyone. Let us begin."
    assert corrected["text_source"] == "corrected"
    assert corrected["corrected"]["by"] == ["ada"]
    segment = corrected["segments"][0]
    assert segment["corrected"]["original"] == "Good morning, eveyone."
    assert segment["flags"] == ["channel:0"]
    assert segment["confidence"] == 1.0
    assert "corrected" not in corrected["segments"][1]
    assert row["text"] == "Good morning, eveyone. Let us begin."
    assert row["text_source"] == "model"


def test_the_newest_correction_counts_and_earlier_ones_stay(tmp_path: Path) -> None:
    out, row = str(tmp_path), _row()
    first = store.add(out, [store.correction_of(row, 1, "Let's begin.", who="ada", source="browse")])
    [once] = store.apply(out, [row])
    second = store.add(out, [store.correction_of(once, 1, "Let us start.", who="bo", source="x.srt")])
    [twice] = store.apply(out, [row])
    assert first != second
    assert twice["segments"][1]["text"] == "Let us start."
    assert twice["segments"][1]["corrected"]["original"] == "Let us begin."
    assert twice["segments"][1]["corrected"]["before"] == "Let's begin."
    assert len(list((tmp_path / "corrections").glob("*.parquet"))) == 2


def test_words_that_stayed_keep_their_times_and_a_replaced_one_takes_its_place(tmp_path: Path) -> None:
    row = _row()
    made = store.correction_of(row, 0, "Good morning, dear everyone.", who="ada", source="browse")
    words = {word["text"]: word["start"] for word in made["words"]}
    assert words["Good"] == 0.5
    assert words["dear"] is None
    one = store.correction_of(row, 0, "Good evening, eveyone.", who="ada", source="browse")
    assert one["words"][1]["start"] == row["segments"][0]["words"][1]["start"]
    assert all(
        one["after"][word["char_start"] : word["char_end"]].startswith(word["text"]) for word in one["words"]
    )


def test_a_segment_that_is_there_no_longer_is_not_corrected(tmp_path: Path) -> None:
    out, row = str(tmp_path), _row()
    store.add(out, [store.correction_of(row, 0, "Hello.", who="ada", source="browse")])
    again = make_transcript("talk.wav", [make_segment(0.9, ["Something", "else"])])
    assert store.apply(out, [again]) == [again]


def test_segments_of_two_channels_with_the_same_borders_are_told_apart(tmp_path: Path) -> None:
    out = str(tmp_path)
    row = make_transcript("call", [make_segment(0.0, ["one", "two"]), make_segment(0.0, ["three", "four"])])
    store.add(out, [store.correction_of(row, 1, "three five", who="ada", source="browse")])
    [corrected] = store.apply(out, [row])
    assert [segment["text"] for segment in corrected["segments"]] == ["one two", "three five"]


def test_a_text_that_is_removed_leaves_nothing_said(tmp_path: Path) -> None:
    out, row = str(tmp_path), make_transcript("talk.wav", [make_segment(0.5, ["Thanks", "for", "watching"])])
    store.add(out, [store.correction_of(row, 0, "", who="ada", source="browse")])
    [corrected] = store.apply(out, [row])
    assert (corrected["text"], corrected["status"], corrected["language"]) == ("", "no_speech", None)


def test_a_speaker_is_corrected_by_name(tmp_path: Path) -> None:
    speakers = [{"speaker": "S1", "name": "Ada", "score": 0.9, "duration": 2.0}]
    row = {**_row(), "speakers": speakers}
    made = store.correction_of(row, 1, "Let us begin.", who="x", source="y", speaker="Ada")
    store.add(str(tmp_path), [made])
    [corrected] = store.apply(str(tmp_path), [row])
    assert corrected["segments"][1]["speaker"] == "S1"
    assert {word["speaker"] for word in corrected["segments"][1]["words"]} == {"S1"}


def test_files_of_corrections_say_which_recordings_they_are_about(tmp_path: Path) -> None:
    uri = store.add(str(tmp_path), [store.correction_of(_row(), 0, "Hi.", who="a", source="b")])
    assert uri is not None
    assert store.recording_ids(uri) == ["talk.wav"]
    assert store.add(str(tmp_path), []) is None
