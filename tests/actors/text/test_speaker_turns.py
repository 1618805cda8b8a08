"""Segments are cut where the speaker changes, and nothing of them is lost."""

from __future__ import annotations

from typing import Any

from actors.text.speaker_turns import speaker_of, split_at_speakers


def segment(speakers: list[str | None], times: list[float | None] | None = None) -> Any:
    """A segment with a word for each speaker, one a second."""
    words, offset = [], 0
    for number, speaker in enumerate(speakers):
        start = times[number] if times else float(number)
        text = f"word{number}"
        words.append(
            {
                "text": text,
                "start": start,
                "end": None if start is None else start + 0.8,
                "char_start": offset,
                "char_end": offset + len(text),
                "speaker": speaker,
                "confidence": 0.5,
            }
        )
        offset += len(text) + 1
    text = " ".join(word["text"] for word in words)
    return {
        "start": 0.0,
        "end": float(len(speakers)),
        "text": text,
        "words": words,
        "flags": [],
        "confidence": 0.9,
    }


def test_a_segment_is_cut_between_words_of_different_speakers() -> None:
    parts = split_at_speakers(segment(["S1", "S1", "S2", "S1"]))
    assert [(part["speaker"], part["text"], part["start"], part["end"]) for part in parts] == [
        ("S1", "word0 word1", 0.0, 1.8),
        ("S2", "word2", 2.0, 2.8),
        ("S1", "word3", 3.0, 4.0),
    ]


def test_positions_of_words_index_into_the_new_texts() -> None:
    for part in split_at_speakers(segment(["S1", "S2", "S2"])):
        for word in part["words"]:
            assert part["text"][word["char_start"] : word["char_end"]] == word["text"]


def test_a_word_without_a_speaker_belongs_to_the_turn_before() -> None:
    parts = split_at_speakers(segment(["S1", None, "S2", None]))
    assert [part["text"] for part in parts] == ["word0 word1", "word2 word3"]


def test_a_segment_of_one_speaker_is_not_cut() -> None:
    (part,) = split_at_speakers(segment([None, "S1", None]))
    assert part["speaker"] == "S1"
    assert part["text"] == "word0 word1 word2"
    without = segment([None, None])
    assert split_at_speakers(without) == [without]


def test_words_without_times_do_not_disturb_the_times_of_turns() -> None:
    parts = split_at_speakers(segment(["S1", "S1", "S2", "S3"], [0.0, None, None, 3.0]))
    assert [(part["start"], part["end"]) for part in parts] == [(0.0, 0.8), (0.8, 0.8), (3.0, 4.0)]


def test_the_confidence_of_a_turn_is_that_of_its_words() -> None:
    whole = segment(["S1", "S2"])
    whole["words"][1]["confidence"] = None
    assert [part["confidence"] for part in split_at_speakers(whole)] == [0.5, 0.9]


def test_channels_stand_for_speakers_where_there_are_none() -> None:
    assert speaker_of({"flags": ["channel:1"]}) == "channel:1"
    assert speaker_of({"flags": ["repetitive"]}) is None
    assert speaker_of({"flags": ["channel:1"], "speaker": "S2"}) == "S2"
