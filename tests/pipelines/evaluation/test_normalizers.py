"""Each normaliser removes what it says, and no more."""

import builtins
from typing import Any

import pytest

from actors.errors import UsageError
from pipelines.evaluation.metrics.normalizers import (
    characters_of,
    comparable,
    normalizer,
    segment_normalizer,
    words_of,
)
from pipelines.evaluation.protocol import NORMALIZERS, PRESETS, Protocol, protocol_of


@pytest.mark.parametrize(
    ("name", "language", "text", "expected"),
    [
        ("none", "en", "  Hello,\n World! ", "Hello, World!"),
        ("none", "de", "Gro\u0308\u00dfe", "Gr\u00f6\u00dfe"),
        ("basic", "de", "Größe: 1,5 m!", "größe 1 5 m"),
        ("basic", "en", "I'm [noise] here (really)", "i m here"),
        ("basic", "hi", "हिन्दी", "ह न द"),
        ("english", "en", "Mr. Brown's colour", "mister brown is color"),
        ("english", "en", "twenty-two", "22"),
        ("auto", "en", "I'm here", "i am here"),
        ("auto", "hi", "हिन्दी!", "हिन्दी"),
        ("auto", "de", "Twenty-two", "twenty two"),
        ("auto", None, "Twenty-two", "twenty two"),
    ],
)
def test_a_text_is_normalised(name: str, language: str | None, text: str, expected: str) -> None:
    assert normalizer(name)(text, language) == expected


@pytest.mark.parametrize("name", NORMALIZERS)
def test_a_normaliser_leaves_nothing_of_blanks(name: str) -> None:
    assert normalizer(name)(" \n\t ", "en") == ""


@pytest.mark.parametrize("name", ["auto", "english"])
def test_segments_are_normalised_without_joining_digits(name: str) -> None:
    assert normalizer(name)("five zero", "en") == "50"
    assert segment_normalizer(name)("Five, zero!", "en") == "five zero"


def test_languages_without_spaces_have_no_words() -> None:
    assert words_of("a b", "en") == ["a", "b"]
    assert words_of("你好 吗", "zh") == []


def test_spaces_count_as_characters_only_where_words_are_the_metric() -> None:
    assert characters_of("a b", without_spaces=False) == ["a", " ", "b"]
    assert characters_of("a b", without_spaces=True) == ["a", "b"]


def test_a_word_is_found_again_without_case_and_punctuation() -> None:
    assert comparable("«Straße,»") == comparable("STRASSE") == "strasse"
    assert comparable("...") == ""


def test_the_preset_takes_cer_in_korean_and_in_languages_without_spaces() -> None:
    preset = PRESETS["qwen3-asr"]
    assert {
        language
        for language in ("zh", "yue", "ja", "ko", "th", "en", "vi")
        if preset.metric(language) == "CER"
    } == {*("zh", "yue", "ja", "ko", "th")}
    assert Protocol().metric("ko") == "WER"
    assert preset.metric(None) == "WER"


def test_a_normaliser_replaces_that_of_a_preset() -> None:
    chosen = protocol_of("qwen3-asr", "none")
    assert (chosen.normalizer, chosen.metric("ko"), chosen.name) == ("none", "CER", "qwen3-asr")
    assert protocol_of(None, None) == Protocol()


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def no_whisper(name: str, *rest: Any) -> Any:
        if name.startswith("whisper_normalizer"):
            raise ModuleNotFoundError(name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", no_whisper)
    with pytest.raises(UsageError, match=r"scriptorium\[evaluate\]"):
        normalizer("basic")
