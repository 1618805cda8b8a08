"""Languages that are not allowed, that do not fit the text, and segments in which languages mix."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from actors.config import ASRConfig
from actors.errors import UsageError
from actors.guards.text import GuardsConfig
from actors.guards.text_guard import flags_of
from actors.records import Hypothesis, SegmentRequest
from actors.repair import languages
from actors.text.languages import language_set
from tests.actors.repair.scripted import Scripted, is_whole, repaired, speech, text

GERMAN = "Und dann sind wir alle zusammen nach Hause gegangen, weil es schon sehr spät geworden war und "
ENGLISH = "the other people were still waiting for the last train that never came on that evening because "
NOT_ALLOWED = "language_not_allowed"


def check(request: SegmentRequest, hypothesis: Hypothesis) -> Hypothesis:
    limits = GuardsConfig(min_syllable_ratio=0, min_speech_probability=0)
    found = [flag for flag in flags_of(request, hypothesis, limits, None) if flag.startswith("language")]
    return replace(hypothesis, flags=(*hypothesis.flags, *found))


def by_language(request: SegmentRequest) -> Hypothesis:
    if request.language == "German":
        return text(GERMAN, language="German")
    return text(GERMAN, NOT_ALLOWED if not request.language else "", language="Dutch")


def test_a_language_that_is_not_allowed_is_decoded_again_in_the_one_that_the_model_finds_most_probable() -> (
    None
):
    backend = Scripted(by_language)
    backend.probabilities = {"German": 0.2, "English": 0.1, "Dutch": 0.7}
    request = SegmentRequest(speech(8), languages=("English", "German"))
    (found,) = repaired(backend, request)
    assert isinstance(found, Hypothesis)
    assert (found.language, found.flags) == ("German", ("repaired:language",))
    assert [one.language for one in backend.calls[0]] == ["German"]


def test_without_probabilities_the_words_tell_and_then_the_other_segments() -> None:
    allowed = ("English", "German")
    assert languages.most_probable(allowed, {}, GERMAN, []) == "German"
    assert languages.most_probable(allowed, {}, "ja", ["English", "Dutch", None, "English"]) == "English"
    assert languages.most_probable(allowed, {}, "ja", []) is None
    assert languages.most_probable(("Thai",), {}, GERMAN, []) == "Thai"


def test_where_only_one_language_is_allowed_it_is_taken() -> None:
    backend = Scripted(by_language)
    (found,) = repaired(backend, SegmentRequest(speech(8), languages=("German",)))
    assert isinstance(found, Hypothesis) and found.language == "German"


def test_a_text_in_another_language_than_its_tag_is_decoded_in_the_language_of_the_text() -> None:
    backend = Scripted(lambda request: check(request, text(GERMAN, language=request.language or "French")))
    (found,) = repaired(backend, SegmentRequest(speech(8)), check=check)
    assert isinstance(found, Hypothesis)
    assert (found.language, found.flags) == ("German", ("repaired:language",))


def test_a_segment_in_which_languages_mix_becomes_several() -> None:
    whole = speech(36)

    def answer(request: SegmentRequest) -> Hypothesis:
        if is_whole(request, 36):
            return check(request, text(GERMAN * 2 + ENGLISH * 2, language="German"))
        at = int(abs(int(request.waveform[100])) % 2)
        return text((GERMAN, ENGLISH)[at], language=("German", "English")[at])

    # Pieces whose hundredth sample is odd are in English: the second half.
    whole[:288_000] -= whole[:288_000] % 2
    whole[288_000:] |= 1
    (found,) = repaired(Scripted(answer), SegmentRequest(whole), check=check)
    assert isinstance(found, Hypothesis)
    assert [piece.hypothesis.language for piece in found.pieces] == ["German", "English"]
    assert found.pieces[0].span.end == found.pieces[1].span.start
    assert abs(found.pieces[0].span.end - 288_000) < 16_000 * 6
    assert found.pieces[-1].span.end == len(whole)
    assert max(one["text"].count("Hause") for one in found.candidates) == 2


def test_what_cannot_be_separated_is_flagged() -> None:
    mixed = GERMAN * 2 + ENGLISH * 2
    backend = Scripted(lambda request: check(request, text(mixed, language="German")))
    (found,) = repaired(backend, SegmentRequest(speech(36)), check=check)
    assert isinstance(found, Hypothesis)
    assert {"language_doubtful", "languages_mixed"} <= set(found.flags)


def test_one_language_with_names_of_another_is_not_mixed() -> None:
    assert not languages.is_mixed(GERMAN * 3, "German")
    assert languages.is_mixed(GERMAN * 2 + ENGLISH * 2, "German")
    assert not languages.is_mixed(ENGLISH * 3, "German")


def test_a_long_stretch_of_doubt_between_certain_words_is_cut_anew() -> None:
    words = [f"wort{number}" for number in range(60)]
    ends, place = [], 0
    for word in words:
        place += len(word) + 1
        ends.append(place - 1)
    sure = [math.log(0.95)] * 20 + [math.log(0.4)] * 20 + [math.log(0.95)] * 20
    one = text(" ".join(words), token_ends=tuple(ends), token_log_probabilities=tuple(sure))
    assert languages.is_unsure_in_between(one)
    ten = [math.log(0.95)] * 20 + [math.log(0.7)] * 10 + [math.log(0.95)] * 30
    assert languages.is_unsure_in_between(replace(one, token_log_probabilities=tuple(ten)))
    certain = tuple([math.log(0.8)] * 60)
    assert not languages.is_unsure_in_between(replace(one, token_log_probabilities=certain))
    assert not languages.is_unsure_in_between(replace(one, token_ends=(), token_log_probabilities=()))


def test_a_forced_language_is_never_changed() -> None:
    backend = Scripted(lambda request: check(request, text(ENGLISH * 2, language="German")))
    repaired(backend, SegmentRequest(speech(36), language="German"), check=check)
    assert {one.language for call in backend.calls for one in call} == {"German"}


def test_sets_of_languages_are_read_in_all_spellings() -> None:
    assert language_set("de, English,fr") == ("German", "English", "French")
    assert language_set(["de", "de-AT"]) == ("German",)
    assert language_set(None) == language_set("") == ()
    assert ASRConfig(languages="de,en").languages == ["German", "English"]
    with pytest.raises(UsageError, match="xx"):
        language_set("de,xx")
