"""Our parsing of the model's output, where it deliberately differs from the reference.

The docstrings say what the reference does.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.text.languages import ASR_LANGUAGES
from actors.text.parsing import parse_output, parse_output_compatible


@pytest.mark.parametrize("language", ASR_LANGUAGES)
def test_the_usual_output(language):
    assert parse_output(f"language {language}<asr_text>Hello.") == (language, "Hello.", ())
    assert parse_output("Hello.", language) == (language, "Hello.", ())


@pytest.mark.parametrize(
    "raw",
    [
        "language None<asr_text>",
        "language none<asr_text> ",
        " language  None <asr_text>\n",
        "",
        None,
        "  ",
        "\u200b",
    ],
)
@pytest.mark.parametrize("forced", [None, "German"])
def test_silence_is_silence_with_and_without_a_forced_language(raw, forced):
    """Reference: a forced language turns `language None<asr_text>` into text."""
    assert parse_output(raw, forced) == (None, "", ())


def test_compatible_parsing_leaks_the_tag_under_a_forced_language():
    assert parse_output_compatible("language None<asr_text>", "German") == (
        "German",
        "language None<asr_text>",
    )


@pytest.mark.parametrize(
    "raw", ["language None<asr_text>None", "language None", "language Russian<asr_text>"]
)
def test_a_literal_none_is_not_speech(raw):
    """Reference: "None" becomes a word of the transcript; silence gets a language."""
    assert parse_output(raw)[:2] == (None, "")


@pytest.mark.parametrize("raw", ["None", "None None None", "NoneNone", "None. None.", "None\nNone\nNo"])
def test_the_mark_for_silence_without_a_tag_is_no_text(raw):
    """Reference: it is the text."""
    assert parse_output(raw) == (None, "", ("no_language_tag",))


@pytest.mark.parametrize("raw", ["None " * 100, "None " * 100 + "No", "language None " * 50, "none, " * 40])
@pytest.mark.parametrize("forced", [None, "English"])
def test_the_mark_for_silence_in_a_loop_is_no_text(raw, forced):
    assert parse_output(raw, forced) == (None, "", ("loop_collapsed", "no_language_tag"))


def test_the_mark_for_silence_repeated_after_its_tag_is_silence():
    assert parse_output("language None<asr_text>None None None") == (None, "", ())


@pytest.mark.parametrize(
    ("raw", "forced"),
    [
        ("None, none.", "English"),
        ("language English<asr_text>None. None.", None),
        ("Nonetheless none of it.", "English"),
        ("The language is none of these.", "English"),
    ],
)
def test_speech_that_contains_none_is_kept(raw, forced):
    assert parse_output(raw, forced) == ("English", raw.split(">")[-1], ())


def test_another_language_than_the_forced_one_is_flagged():
    assert parse_output("language French<asr_text>Bonjour.", "German") == (
        "German",
        "Bonjour.",
        ("language_not_forced",),
    )
    assert parse_output("language None<asr_text>Hallo.", "German") == (
        "German",
        "Hallo.",
        ("language_not_forced",),
    )
    assert parse_output("language German<asr_text>Hallo.", "German") == ("German", "Hallo.", ())


def test_speech_about_languages_under_a_forced_language_is_kept():
    assert parse_output("The language None was spoken.", "English") == (
        "English",
        "The language None was spoken.",
        (),
    )


@pytest.mark.parametrize(
    ("raw", "language", "flag"),
    [
        ("language Klingon<asr_text>nuqneH", None, "unknown_language:Klingon"),
        ("language English,Chinese<asr_text>nuqneH", "English", "several_languages"),
        ("nuqneH", None, "no_language_tag"),
        ("<asr_text>nuqneH", None, "no_language_tag"),
        ("language None<asr_text>nuqneH", None, "language_none_with_text"),
    ],
)
def test_unusual_languages_are_flagged_and_never_returned(raw, language, flag):
    """Reference: "Klingon" and "English,chinese" are returned as if they were languages."""
    assert parse_output(raw) == (language, "nuqneH", (flag,))


@pytest.mark.parametrize("name", ["zh", "zh-CN", "mandarin", "CHINESE", "Chinese."])
def test_other_spellings_of_a_language_are_accepted(name):
    assert parse_output(f"language {name}<asr_text>你好") == ("Chinese", "你好", ())


def test_tags_and_control_tokens_never_get_into_the_text():
    """Reference: only the first tag is removed."""
    assert parse_output("language Korean<asr_text>안녕language English<asr_text>Hello<|im_end|>") == (
        "Korean",
        "안녕 Hello",
        ("tag_removed",),
    )


def test_numbers_said_many_times_are_kept():
    """Reference: 22 zeros become one."""
    number = "0" * 22
    assert parse_output(f"language English<asr_text>{number}") == ("English", number, ())
    assert parse_output_compatible(f"language English<asr_text>{number}") == ("English", "0")


def test_a_loop_is_cut_and_flagged():
    raw = "language English<asr_text>Well. " + "I think we should go home now. " * 30
    assert parse_output(raw) == ("English", "Well. I think we should go home now.", ("loop_collapsed",))
    assert len(parse_output_compatible(raw)[1]) > 900


def test_a_loop_with_small_changes_is_flagged():
    text = " ".join(f"I think we should go home now {i}, yes." for i in range(300))
    assert parse_output("language English<asr_text>" + text) == ("English", text, ("repetitive",))


@given(st.text(), st.sampled_from([None, "German"]))
def test_any_string_can_be_parsed(raw, forced):
    language, text, flags = parse_output(raw, forced)
    assert language is None or language in ASR_LANGUAGES
    assert "<asr_text>" not in text
    assert text == text.strip()
    assert text or language is None
    assert all(isinstance(flag, str) for flag in flags)


@given(
    st.lists(
        st.sampled_from(
            ["language ", "None", "English", "<asr_text>", "\n", " ", "a", "<asr_text", ">", "<|im_end|>"]
        )
    )
)
def test_no_arrangement_of_tags_leaks(parts):
    for forced in (None, "English"):
        assert "<asr_text>" not in parse_output("".join(parts), forced)[1]
