"""The aligner is given what is said, and words that are not said get no times."""

from actors.text.given_text.script import given_script, plain_script
from actors.text.given_text.spoken_text import Part


def test_all_of_a_recognised_text_is_sent():
    script = plain_script("It's late, he said.", "English")
    assert script.sent == ["It's", "late", "he", "said"]
    assert script.times([(0.0, 0.1)] * 4) == [(0.0, 0.1)] * 4


def test_text_that_is_not_said_is_not_sent_and_speech_that_the_text_lacks_is():
    text = "A book by X. He is up"
    other = Part("other", 19, 19, "and then")
    parts = [Part("unsaid", 0, 13), Part("heard", 13, 19), other, Part("heard", 19, 21)]
    script = given_script(text, parts, "English")
    assert script.sent == ["He", "is", "and", "then", "up"]
    times = script.times([(float(second), second + 0.5) for second in range(5)])
    assert times == [None, None, None, None, (0.0, 0.5), (1.0, 1.5), (4.0, 4.5)]


def test_units_keep_their_places_in_the_whole_text():
    text = "Title. One two."
    script = given_script(text, [Part("unsaid", 0, 7), Part("heard", 7, 15)], "English")
    assert [text[unit.char_start : unit.char_end] for unit in script.units] == ["Title.", "One", "two."]


def test_a_run_of_words_that_nobody_heard_and_that_have_no_duration_is_not_said():
    script = given_script("a b c d", [Part("heard", 0, 2), Part("doubtful", 2, 7)], "English")
    assert script.times([(0.0, 0.5), (0.5, 0.5), (0.5, 0.5), (0.5, 0.5)]) == [(0.0, 0.5), None, None, None]
    # One or two may be short words.
    found = [(0.0, 0.5), (0.5, 0.5), (0.5, 0.5), (0.5, 0.9)]
    assert script.times(found) == found


def test_words_that_were_heard_keep_their_times_without_duration():
    script = given_script("a b c d", [Part("heard", 0, 7)], "English")
    assert script.times([(1.0, 1.0)] * 4) == [(1.0, 1.0)] * 4


def test_nothing_is_sent_of_a_text_that_is_not_said():
    script = given_script("Title", [Part("unsaid", 0, 5), Part("other", 5, 5, "good morning")], "English")
    assert script.is_empty
    assert script.times([]) == [None]
