"""What of a given text is said is found, whatever else stands in the text or is said."""

import random

import pytest

from actors.text.given_text.spoken_text import find_spoken

SYLLABLES = [a + b for a in "bdfgklmnprstv" for b in "aeiou"]


def made_up_words(count, seed):
    """Words in which a few are frequent, as in any text."""
    rng = random.Random(seed)
    vocabulary = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(3000)]
    return rng.choices(vocabulary, [1 / (rank + 2) for rank in range(3000)], k=count)


def recognised(words, errors=0.1, seed=1):
    """Segments of 20 words with this share of errors."""
    rng = random.Random(seed)
    heard = []
    for word in words:
        chance = rng.random()
        if chance > errors / 3:
            heard.append(rng.choice(SYLLABLES) if chance < errors * 2 / 3 else word)
        if chance > 1 - errors / 3:
            heard.append(rng.choice(SYLLABLES))
    return [" ".join(heard[start : start + 20]) for start in range(0, len(heard), 20)]


def spoken(text, hypotheses):
    found = find_spoken(text, hypotheses, [10.0] * len(hypotheses))
    assert "".join(piece.text for piece in found.pieces) == text
    return found


def texts_of(found, *kinds):
    return [
        piece.text[part.start : part.end].strip() if part.kind != "other" else part.text
        for piece in found.pieces
        for part in piece.parts
        if part.kind in kinds
    ]


A, B = made_up_words(600, 2), made_up_words(600, 3)


@pytest.mark.parametrize("errors", [0.0, 0.1, 0.25])
def test_a_text_that_is_said_is_said_whole_in_spite_of_wrong_recognition(errors):
    found = spoken(" ".join(A), recognised(A, errors))
    assert (found.unsaid, found.unwritten) == (pytest.approx(0, abs=0.02), pytest.approx(0, abs=0.02))


@pytest.mark.parametrize("words", [8, 600])
def test_of_another_recordings_text_nothing_is_said(words):
    found = spoken(" ".join(B[:words]), recognised(A[:words]))
    assert (found.unsaid, found.unwritten) == (1, 1)


def test_of_another_text_of_the_same_thirty_words_nothing_is_said():
    rng = random.Random(5)
    words = rng.sample(SYLLABLES, 30)
    said, other = rng.choices(words, k=400), rng.choices(words, k=400)
    assert spoken(" ".join(said), recognised(said)).unsaid == 0
    assert spoken(" ".join(other), recognised(said)).unsaid > 0.95


def test_front_matter_and_an_appendix_are_not_said():
    front, back = B[:120], B[120:200]
    found = spoken(" ".join([*front, *A, *back]), recognised(A))
    assert found.unsaid == pytest.approx(200 / 800, abs=0.01)
    assert texts_of(found, "unsaid")[0].startswith(" ".join(front[:115]))


def test_a_text_with_twice_what_is_said_is_half_said():
    mixed = [word for start in range(0, 600, 60) for word in (*A[start : start + 60], *B[start : start + 60])]
    found = spoken(" ".join(mixed), recognised(A))
    assert (found.unsaid, found.unwritten) == (pytest.approx(0.5, abs=0.02), pytest.approx(0, abs=0.02))


@pytest.mark.parametrize("missing", [slice(0, 300), slice(150, 450), slice(300, 600)])
def test_speech_that_the_text_lacks_is_found_where_it_is(missing):
    text = [word for number, word in enumerate(A) if number not in range(*missing.indices(600))]
    found = spoken(" ".join(text), recognised(A, 0.0))
    assert found.unsaid == 0
    assert found.unwritten == pytest.approx(0.5, abs=0.01)
    lacking = " ".join(texts_of(found, "other")).split()
    assert len(set(lacking) & set(A[missing])) > 0.9 * len(set(A[missing]))


def test_few_words_that_only_the_text_has_are_doubtful():
    found = spoken("He was a very old, old man indeed.", ["he was a very old man indeed"])
    assert found.unsaid == 0
    assert texts_of(found, "doubtful") in (["old,"], ["old"])


def test_digits_and_spelled_numbers_cannot_be_compared_and_count_as_said():
    found = spoken("In 1984 we had 25 cats.", ["in nineteen eighty four we had twenty five cats"])
    assert (found.unsaid, found.unwritten) == (0, 0)


def test_letters_that_are_alike_are_evidence():
    assert (
        spoken("Kaitlyn Vandenberghe Szymanski Oyelaran", ["caitlin van den berg shimanski oyelaren"]).unsaid
        == 0
    )


def test_scripts_without_spaces_are_compared_by_character():
    said = "今天下午三点我们在图书馆见面然后一起去吃晚饭。"
    found = spoken(f"版权所有翻印必究，出版社编辑部。{said}", [said[:12], said[12:]])
    assert texts_of(found, "unsaid") == ["版权所有翻印必究，出版社编辑部。"]
    assert found.pieces[0].text.endswith(said[:12])


def test_where_recognition_failed_text_is_not_judged():
    hypotheses: list[str | None] = [*recognised(A[:200], 0)]
    found = find_spoken(" ".join(A[:400]), [*hypotheses, None], [10.0] * 11)
    assert found.unsaid == 0
    assert len(found.pieces[-1].text.split()) == pytest.approx(200, abs=2)


@pytest.mark.parametrize(
    ("text", "hypotheses"), [("", ["a b"]), ("... !", ["a", "b"]), ("a b c d e f", ["", ""])]
)
def test_texts_without_anything_in_common_with_the_speech_are_kept_whole(text, hypotheses):
    found = spoken(text, hypotheses)
    assert not texts_of(found, "heard", "doubtful")
