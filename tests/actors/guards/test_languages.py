"""The language of a text by script and words."""

from __future__ import annotations

import math

import pytest

from actors.guards.languages import doubt, most_probable

LIMIT = math.log(5)
TEXTS = {
    "en": "Ask not what your country can do for you, ask what you can do for your country.",
    "de": "Vier drei bitte fünf nein Haus null rechts stopp unten.",
    "fr": "Huit trois merci encore toujours rouge neuf zéro demain fermer.",
    "ru": "Помощь один окно два три семь вода шесть ноль закрыть.",
    "ja": "友達、左、家、七、庭、三、今日、いいえ。",
    "ko": "이 영 안녕 오늘 도움 일 시작 팔 빛.",
    "zh": "八停止窗户开始帮助三七谢谢右边。",
    "yue": "水左邊四你好好嘅開始再見花園。",
    "th": "ขอบคุณมากครับ วันนี้อากาศดี",
}


@pytest.mark.parametrize("language", TEXTS)
def test_the_language_of_a_text_is_not_doubted(language: str) -> None:
    assert doubt(TEXTS[language], language) < LIMIT


@pytest.mark.parametrize("language", TEXTS)
def test_another_language_is_doubted(language: str) -> None:
    alike = {"zh", "yue"}
    for other in set(TEXTS) - {language}:
        if {language, other} != alike:
            assert doubt(TEXTS[language], other) > LIMIT, other


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Firefox", "en"),
        ("No.", "pt"),
        ("我们用 Ray Data 和 Kubernetes 处理录音", "zh"),
        ("anything at all in any language", "tlh"),
        ("2026, 17:30", "ru"),
    ],
)
def test_nothing_is_concluded_from_little(text: str, language: str) -> None:
    assert doubt(text, language) < LIMIT


def test_a_stretch_in_another_language_is_doubted() -> None:
    german = "Guten Tag, meine Damen und Herren, ich freue mich sehr, dass Sie heute alle gekommen sind. "
    assert doubt(german * 2, "de") < LIMIT
    assert doubt(german + TEXTS["en"] + " " + german, "de") > LIMIT


def test_repeated_words_count_once() -> None:
    assert doubt("one zero zero zero zero zero zero close", "en") < LIMIT


def test_the_most_probable_of_the_allowed_languages_is_found() -> None:
    assert most_probable(TEXTS["de"]) == "de"
    assert most_probable(TEXTS["de"], ("en", "fr")) in ("en", "fr")
    assert most_probable("no") is None
