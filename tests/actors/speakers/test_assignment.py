"""Speakers of words and segments, by hand."""

from actors.speakers.assignment import SpeakerTurn, Turns, with_speakers


def word(text, start, end):
    return {"text": text, "start": start, "end": end, "char_start": 0, "char_end": len(text)}


def segment(*words, start=0.0, end=10.0):
    return {"start": start, "end": end, "text": "a b", "words": list(words), "flags": []}


def speakers(segment):
    return [word["speaker"] for word in segment["words"]]


TURNS = Turns([SpeakerTurn(0.0, 4.0, "S1"), SpeakerTurn(3.0, 6.0, "S2"), SpeakerTurn(8.0, 9.0, "S1")])


def test_a_word_has_the_speaker_of_its_turn():
    found = with_speakers(segment(word("a", 0.5, 1.0), word("b", 1.0, 1.4)), TURNS)
    assert speakers(found) == ["S1", "S1"] and found["speaker"] == "S1" and found["flags"] == []


def test_a_segment_of_two_speakers_has_none():
    found = with_speakers(segment(word("a", 0.5, 1.0), word("b", 5.0, 5.4)), TURNS)
    assert speakers(found) == ["S1", "S2"] and found["speaker"] is None


def test_a_word_in_overlapped_speech_is_flagged_and_not_guessed():
    found = with_speakers(segment(word("a", 2.0, 2.5), word("b", 3.2, 3.8)), TURNS)
    assert speakers(found) == ["S1", None]
    assert found["speaker"] == "S1" and found["flags"] == ["overlapped_speech"]


def test_a_word_at_a_change_has_the_speaker_of_most_of_it():
    turns = Turns([SpeakerTurn(0.0, 4.0, "S1"), SpeakerTurn(4.0, 6.0, "S2")])
    assert speakers(with_speakers(segment(word("a", 3.5, 4.2), word("b", 3.9, 4.5)), turns)) == ["S1", "S2"]


def test_a_word_beside_a_turn_has_the_nearest_speaker():
    assert speakers(with_speakers(segment(word("a", 6.1, 6.4), word("b", 7.5, 7.8)), TURNS)) == ["S2", "S1"]


def test_a_word_far_from_every_turn_has_none():
    found = with_speakers(segment(word("a", 20.0, 20.5), end=21.0), TURNS)
    assert speakers(found) == [None] and found["speaker"] is None and found["flags"] == []


def test_words_without_times_have_no_speaker():
    assert speakers(with_speakers(segment(word("a", None, None), word("b", 1.0, 1.2)), TURNS)) == [None, "S1"]


def test_a_word_without_length_has_the_speaker_of_its_moment():
    assert speakers(with_speakers(segment(word("a", 5.0, 5.0)), TURNS)) == ["S2"]


def test_a_segment_without_words_has_the_only_speaker_in_it():
    assert with_speakers(segment(start=0.0, end=2.5), TURNS)["speaker"] == "S1"


def test_a_segment_without_words_of_two_speakers_has_none():
    found = with_speakers(segment(start=0.0, end=6.0), TURNS)
    assert found["speaker"] is None and found["flags"] == ["overlapped_speech"]


def test_a_flag_is_not_repeated():
    again = with_speakers(with_speakers(segment(word("b", 3.2, 3.8)), TURNS), TURNS)
    assert again["flags"] == ["overlapped_speech"]
