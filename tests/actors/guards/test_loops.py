"""Loops are told from what people repeat."""

from __future__ import annotations

import pytest

from actors.guards.loops import compression_ratio, is_copy, is_looping

SPEECH = (
    "And so, my fellow Americans, ask not what your country can do for you, ask what you can do for your "
    "country. My fellow citizens of the world, ask not what America will do for you, but what together we "
    "can do for the freedom of man."
)


@pytest.mark.parametrize(
    "text",
    [
        SPEECH,
        "no no no no",
        "zero zero zero zero zero zero one nine",
        "row row row your boat gently down the stream row row row your boat gently down the stream",
        "",
        "はい、はい、はい。",
    ],
)
def test_what_people_repeat_is_no_loop(text: str) -> None:
    assert not is_looping(text, 2.4)


@pytest.mark.parametrize(
    "text",
    [
        "It was late. " + "I think that " * 6,
        "one " * 13,
        "so so so so so so so so",
        SPEECH + " and I think it is good for all of us" * 4,
        "谢谢大家谢谢大家谢谢大家谢谢大家谢谢大家",
        "А что дальше? " + "Спасибо за внимание. " * 7,
    ],
)
def test_what_models_repeat_is_a_loop(text: str) -> None:
    assert is_looping(text, 2.4)


def test_the_most_repetitive_stretch_of_a_long_text_counts() -> None:
    loop = "and then he said that " * 20
    assert compression_ratio(SPEECH * 3) > compression_ratio(SPEECH)
    assert compression_ratio(SPEECH + loop + SPEECH) > 4


def test_scripts_of_several_bytes_are_judged_like_latin() -> None:
    latin = "Tot, kto hochet znat, chto budet dalshe, pust poslushaet etot rasskaz."
    cyrillic = "Тот, кто хочет знать, что будет дальше, пусть послушает этот рассказ."
    assert compression_ratio(2 * cyrillic) == pytest.approx(compression_ratio(2 * latin), rel=0.1)


def test_a_long_text_is_a_copy_of_the_one_before_if_it_sounds_otherwise() -> None:
    said = "We will meet again at nine o'clock tomorrow morning."
    assert is_copy(said, 20, said.upper(), 14)
    # A refrain sounds the same; short answers are given twice.
    assert not is_copy(said, 14, said, 15)
    assert not is_copy("Yes, of course.", 20, "Yes, of course.", 4)
    assert not is_copy(said, 20, said + " Really.", 14)
    assert is_copy("我们明天早上九点再见", 18, "我们明天早上九点再见", 10)
