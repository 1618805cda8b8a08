"""Units, and their positions in the original text."""

import unicodedata
from importlib.util import find_spec

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.text.alignment_units import locate_units, split_units
from actors.text.languages import ALIGNER_LANGUAGES

JAPANESE = pytest.mark.skipif(
    find_spec("nagisa") is None, reason="Japanese units need nagisa (extra `transformers`)"
)


def words(text: str, language: str) -> list[str]:
    return [text[unit.char_start : unit.char_end] for unit in locate_units(text, language)]


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("English", "Well-known, he said.", ["Well-known,", "he", "said."]),
        ("English", '"Stop!" (he cried) — twice...', ['"Stop!"', "(he", "cried) —", "twice..."]),
        ("English", "  It costs $5, £18 or 3.5% ", ["It", "costs", "$5,", "£18", "or", "3.5%"]),
        ("French", "« Bonjour ! » dit-elle. « Ça va ? »", ["« Bonjour ! »", "dit-elle.", "« Ça", "va ? »"]),
        ("Spanish", "¿Qué pasa? ¡Nada!", ["¿Qué", "pasa?", "¡Nada!"]),
        ("German", "„Das geht nicht“, sagte er.", ["„Das", "geht", "nicht“,", "sagte", "er."]),
        ("Italian", "L’ho visto un po’ ieri", ["L’ho", "visto", "un", "po’", "ieri"]),
        ("Chinese", "他说：“你好。”（真的）", ["他", "说：", "“你", "好。”", "（真", "的）"]),
        ("Chinese", "我用 iPhone 15 打电话。", ["我", "用", "iPhone", "15", "打", "电", "话。"]),
        ("Cantonese", "佢哋啱啱post咗。", ["佢", "哋", "啱", "啱", "post", "咗。"]),
        ("Korean", '"잠깐만요!" 학교에서 만났다.', ['"잠깐만요!"', "학교", "에서", "만났", "다."]),
        ("Russian", "Кто-то пришёл — и ушёл!..", ["Кто-то", "пришёл —", "и", "ушёл!.."]),
        ("Portuguese", "Fá-lo-ei amanhã.", ["Fá-lo-ei", "amanhã."]),
        ("English", "👍 ok 😂 fine 🎉", ["👍 ok 😂", "fine 🎉"]),
        ("English", "שלום, עולם!", ["שלום,", "עולם!"]),
        ("English", "cafe\u0301, nai\u0308ve", ["cafe\u0301,", "nai\u0308ve"]),
        ("English", "... ?!", []),
        ("English", "", []),
    ],
)
def test_words_keep_their_punctuation_and_case(language, text, expected):
    assert words(text, language) == expected


@JAPANESE
def test_japanese_words_are_located_in_the_original_text():
    """nagisa returns NFKC: half-width kana, full-width letters and square words are located all the same."""
    text = "「ﾊﾝｶｸ」とＰｙｔｈｏｎ、㍻は㌔ね。"
    units = locate_units(text, "Japanese")
    assert [unit.text for unit in units] == ["ハンカク", "と", "Python", "平成", "は", "キロ", "ね"]
    assert words(text, "Japanese") == ["「ﾊﾝｶｸ」", "と", "Ｐｙｔｈｏｎ、", "㍻", "は", "㌔", "ね。"]


def test_typographic_apostrophes_stay_in_the_word():
    """Reference: "I’m" becomes "Im", "l’été" becomes "lété": words that the model never heard."""
    assert split_units("I’m off, l’été", "English") == ["Im", "off", "lété"]
    assert [unit.text for unit in locate_units("I’m off, l’été, un po’, ‘quoted’ ’tis", "English")] == [
        "I'm",
        "off",
        "l'été",
        "un",
        "po'",
        "quoted",
        "'tis",
    ]


def test_separate_accents_stay_on_their_letters():
    """Reference: combining marks are dropped, so that decomposed "café" becomes "cafe"."""
    assert split_units("cafe\u0301", "French") == ["cafe"]
    assert [unit.text for unit in locate_units("cafe\u0301", "French")] == ["café"]


def test_korean_is_cut_after_its_longest_known_stem():
    """The reference brings a dictionary; soynlp without one (as in transformers) leaves 학교에서 whole."""
    assert split_units("나는 학교에서 지하철을", "Korean") == ["나는", "학교", "에서", "지하철", "을"]


def test_a_language_that_the_aligner_does_not_know_is_cut_at_spaces():
    expected = ["Så", "er", "det", "ikke"]
    assert split_units("Så er det, ikke?", "Danish") == expected
    assert split_units("Så er det, ikke?", None) == expected


scripts = st.one_of(
    st.text(),
    st.text(
        st.sampled_from(
            "ab Aé'’‘“”\"-—.,!?¿«»()$5２ｶﾞﾊﾟ学校에서는わたしはㅋ\u0301\u0308\u3099\u200d👍🏽שלم\n\t\u3000㍻½ﬁ"
        ),
        max_size=40,
    ),
)


def unit_chars(text: str) -> str:
    return "".join(c for c in text if c == "'" or unicodedata.category(c)[0] in "LN")


def assert_spans_contain_units(text: str, language: str) -> None:
    units = locate_units(text, language)
    position = 0
    for unit in units:
        assert position <= unit.char_start < unit.char_end <= len(text)
        assert text[position : unit.char_start].strip() == ""  # only white space is outside
        position = unit.char_end
        surface = text[unit.char_start : unit.char_end]
        assert surface == surface.strip()
        form = "NFKC" if language == "Japanese" else "NFC"
        rest = iter(unit_chars(unicodedata.normalize(form, surface.replace("’", "'"))))
        assert all(char in rest for char in unit.text)
    assert text[position:].strip() == "" or not units
    form = "NFKC" if language == "Japanese" else "NFC"
    if unit_chars(unicodedata.normalize(form, text)).strip("'"):
        assert units


@pytest.mark.parametrize("language", sorted(ALIGNER_LANGUAGES - {"Japanese"}))
@settings(max_examples=50, deadline=None)
@given(text=scripts)
def test_spans_contain_their_units_in_any_text(language, text):
    assert_spans_contain_units(text, language)


@JAPANESE
@settings(max_examples=60, deadline=None)
@given(text=scripts)
def test_spans_contain_their_units_in_any_japanese_text(text):
    assert_spans_contain_units(text, "Japanese")
