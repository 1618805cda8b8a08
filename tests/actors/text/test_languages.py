"""Names and codes of languages, and spaces at seams."""

import pickle

import pytest

from actors.errors import UsageError
from actors.text.languages import (
    ALIGNER_LANGUAGES,
    ASR_LANGUAGES,
    CODES,
    NAMES,
    code_of,
    is_spaced,
    name_of,
    normalize_language,
    normalize_language_name,
    validate_language,
)


def test_tables_are_consistent():
    assert len(ASR_LANGUAGES) == len(NAMES) == 30
    assert len(ALIGNER_LANGUAGES) == 11
    assert set(ASR_LANGUAGES) >= ALIGNER_LANGUAGES


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("German", "German"),
        (" gERMAN ", "German"),
        ("de", "German"),
        ("DE", "German"),
        ("de-AT", "German"),
        ("deu", "German"),
        ("ger", "German"),
        ("zh-CN", "Chinese"),
        ("zh_Hant_TW", "Chinese"),
        ("cmn_hans_cn", "Chinese"),
        ("Mandarin", "Chinese"),
        ("yue", "Cantonese"),
        ("yue_hant_hk", "Cantonese"),
        ("zh-HK", "Cantonese"),
        ("zh_HK.UTF-8", "Cantonese"),
        ("zh-Hant-HK-x-radio", "Cantonese"),
        ("zh-yue-HK", "Cantonese"),
        ("zh-cantonese", "Cantonese"),
        ("Chinese (Cantonese)", "Cantonese"),
        ("Chinese (Taiwan)", "Chinese"),
        ("English (US)", "English"),
        ("pt_BR", "Portuguese"),
        ("tl", "Filipino"),
        ("fil", "Filipino"),
        ("Farsi", "Persian"),
        (None, None),
        ("", None),
        ("  ", None),
        ("auto", None),
        ("NULL", None),
    ],
)
def test_names_and_codes_in_use_are_accepted(value, name):
    assert normalize_language(value) == name


@pytest.mark.parametrize("value", ["Klingon", "xx", "english,chinese", "English, Cantonese", "zzz-DE"])
def test_an_unknown_language_is_refused_and_the_message_lists_the_known_ones(value):
    with pytest.raises(ValueError, match=r"Macedonian \(mk\)"):
        normalize_language(value)
    with pytest.raises(UsageError) as caught:
        normalize_language(value)
    assert pickle.loads(pickle.dumps(caught.value)).code == "unsupported_language"


def test_every_name_and_code_is_accepted():
    for name, code in CODES.items():
        assert normalize_language(name) == name
        assert normalize_language(code) == name
        assert normalize_language(code.upper()) == name
        assert code_of(name) == code
        assert name_of(code) == name


def test_names_outside_the_table_are_kept():
    assert code_of("Klingon") == "klingon"
    assert name_of("klingon") == "Klingon"
    assert code_of(None) is None
    assert name_of(None) is None


@pytest.mark.parametrize(
    ("language", "left", "right", "spaced"),
    [
        ("English", "the end.", "Next", True),
        ("Korean", "안녕하세요.", "반갑습니다", True),
        ("Chinese", "你好。", "再见", False),
        ("Cantonese", "你好", "再見", False),
        ("Japanese", "です。", "ます", False),
        ("Thai", "สวัสดี", "ครับ", False),
        ("Chinese", "用 iPhone", "Pro", True),
        ("Chinese", "用 iPhone", "手机", False),
        (None, "the end.", "Next", True),
        (None, "你好。", "Next", False),
        (None, "Next", "你好", False),
        (None, "안녕하세요.", "Hello", True),
        (None, "…", "Hello", True),
        (None, "。", "…", False),
        ("Chinese", "……", "你", False),
        ("English", "the end ", "Next", False),
        ("English", "the end", " Next", False),
        ("English", "the end", ", next", False),
        ("English", "the (", "next", False),
        ("English", "", "next", False),
        ("English", "next", "", False),
    ],
)
def test_a_seam_gets_a_space_where_the_script_uses_spaces(language, left, right, spaced):
    assert is_spaced(language, left, right) is spaced


def test_spelling_and_check_are_those_of_the_reference():
    assert normalize_language_name(" engLISH ") == "English"
    validate_language("English")
    with pytest.raises(ValueError, match="unsupported"):
        validate_language("english")
    with pytest.raises(ValueError, match="empty"):
        normalize_language_name("  ")
