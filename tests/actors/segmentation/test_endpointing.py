"""Where utterances begin and end, which text is settled, and that memory is bounded."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.records import SAMPLING_RATE, Hypothesis
from actors.segmentation.endpointing import (
    CHUNK,
    UNSETTLED_TOKENS,
    Endpointer,
    PartialHypothesis,
    TurnDetection,
    UtteranceEnded,
    UtteranceStarted,
    whole_characters,
)

RATE = SAMPLING_RATE


def voice(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise in three syllables a second, alternately loud and less loud as speech, unlike steady noise."""
    count = round(seconds * RATE)
    syllables = 0.55 + 0.45 * np.sin(2 * np.pi * 3 * np.arange(count) / RATE)
    return (np.random.default_rng(seed).standard_normal(count) * 3000 * syllables).astype(np.int16)


def quiet(seconds: float, level: int = 2) -> np.ndarray:
    return np.random.default_rng(1).integers(-level, level + 1, round(seconds * RATE)).astype(np.int16)


def feed(
    endpointer: Endpointer, sound: np.ndarray, piece: int = 1600
) -> list[UtteranceStarted | UtteranceEnded]:
    return [
        event
        for place in range(0, len(sound), piece)
        for event in endpointer.feed(sound[place : place + piece])
    ]


def test_pauses_separate_utterances_and_no_speech_is_lost() -> None:
    sound = np.concatenate([quiet(1), voice(2), quiet(1), voice(3, 1), quiet(0.3), voice(1, 2), quiet(1)])
    endpointer = Endpointer(TurnDetection())
    events = feed(endpointer, sound)
    utterances = [event for event in events if isinstance(event, UtteranceEnded)]
    assert [type(event) for event in events] == [
        UtteranceStarted,
        UtteranceEnded,
        UtteranceStarted,
        UtteranceEnded,
    ]
    assert endpointer.number is None
    for event, (start, end) in zip(utterances, ((1.0, 3.0), (4.0, 8.3)), strict=True):
        assert start - 0.45 <= event.start / RATE <= start
        assert end <= event.end / RATE <= end + 0.3
        assert np.array_equal(event.waveform, sound[event.start : event.end])


@pytest.mark.parametrize("piece", [1, 7, 799, 1600, 16_000, 1_000_000])
def test_utterances_do_not_depend_on_the_size_of_the_input(piece: int) -> None:
    sound = np.concatenate([voice(0.7), quiet(0.8), voice(0.4, 1), quiet(0.7)])
    spans = [
        (event.start, event.end)
        for event in feed(Endpointer(TurnDetection()), sound, piece)
        if isinstance(event, UtteranceEnded)
    ]
    assert spans == [
        (event.start, event.end)
        for event in feed(Endpointer(TurnDetection()), sound)
        if isinstance(event, UtteranceEnded)
    ]
    assert len(spans) == 2


def test_speech_without_a_pause_is_cut_at_its_quietest_place() -> None:
    sound = np.concatenate([voice(6), quiet(0.2), voice(9, 1), quiet(1)])
    utterances = [
        event
        for event in feed(Endpointer(TurnDetection(window=8)), sound)
        if isinstance(event, UtteranceEnded)
    ]
    assert 6.0 <= utterances[0].end / RATE <= 6.2
    assert all(event.end - event.start <= 8 * RATE + 800 for event in utterances)
    assert all(left.end == right.start for left, right in pairwise(utterances))
    assert np.array_equal(
        np.concatenate([event.waveform for event in utterances]),
        sound[utterances[0].start : utterances[-1].end],
    )


def test_a_silence_longer_than_the_window_ends_the_utterance() -> None:
    sound = np.concatenate([quiet(8), voice(2), quiet(20), voice(1, 1), quiet(6)])
    events = feed(Endpointer(TurnDetection(silence=5, window=4)), sound)
    utterances = [event for event in events if isinstance(event, UtteranceEnded)]
    first = [event for event in utterances if event.start < 20 * RATE]
    assert first[0].end >= 10 * RATE
    # The smoothed level falls 50 ms behind the voice.
    assert first[-1].end <= 15.05 * RATE
    assert len(first) <= 3
    assert all(event.end > event.start for event in utterances)
    assert any(event.start <= 30 * RATE and event.end >= 31 * RATE for event in utterances)
    assert len(utterances) <= 6
    assert [type(event) for event in events] == [UtteranceStarted, UtteranceEnded] * len(utterances)


def test_steady_noise_is_soon_not_speech() -> None:
    endpointer = Endpointer(TurnDetection())
    noise = quiet(60, 60)
    events = feed(endpointer, noise)
    spoken = sum(event.end - event.start for event in events if isinstance(event, UtteranceEnded))
    assert spoken < 4 * RATE
    assert endpointer.number is None
    assert any(
        isinstance(event, UtteranceEnded)
        for event in feed(endpointer, np.concatenate([voice(2), quiet(2, 60)]))
    )


@pytest.mark.parametrize("ratio", [10.0, 5.0, 3.0])
def test_speech_in_loud_noise_is_found(ratio: float) -> None:
    """A model can answer that there is no speech in its audio; audio that it does not get is lost."""
    said = np.concatenate([np.concatenate([voice(5, seed), quiet(1, 0)]) for seed in range(5)]).astype(
        np.float64
    )
    noise = np.random.default_rng(9).standard_normal(len(said))
    noise *= np.sqrt((said**2).mean()) / 10 ** (ratio / 20)
    sound = ((said + noise) * 0.3).clip(-32768, 32767).astype(np.int16)
    events = [
        event for event in feed(Endpointer(TurnDetection()), sound) if isinstance(event, UtteranceEnded)
    ]
    inside = np.zeros(len(said), bool)
    for event in events:
        inside[event.start : event.end] = True
    assert (said[inside] ** 2).sum() > 0.9 * (said**2).sum()


def test_without_detection_the_client_ends_utterances() -> None:
    endpointer = Endpointer(TurnDetection(detect=False))
    assert [type(event) for event in feed(endpointer, np.concatenate([voice(1), quiet(3), voice(1)]))] == [
        UtteranceStarted
    ]
    (utterance,) = endpointer.commit()
    assert (utterance.start, utterance.end) == (0, 5 * RATE)
    assert endpointer.commit() == []
    feed(endpointer, voice(1))
    endpointer.clear()
    assert endpointer.commit() == []
    assert endpointer.length == 0


@pytest.mark.parametrize("detect", [True, False])
def test_cleared_audio_is_in_no_utterance(detect: bool) -> None:
    endpointer = Endpointer(TurnDetection(detect=detect))
    feed(endpointer, voice(1.013))
    endpointer.clear()
    place = endpointer.position
    assert len(endpointer.window()) == 0
    sound = voice(1, 1)
    feed(endpointer, sound)
    (utterance,) = endpointer.commit()
    assert utterance.start >= place
    assert np.array_equal(utterance.waveform, sound[utterance.start - place :])


def test_hops_are_whole_after_a_commit_at_any_place() -> None:
    one, two = Endpointer(TurnDetection(detect=False)), Endpointer(TurnDetection(detect=False))
    feed(one, np.concatenate([voice(1), voice(0.03, 1)]))
    assert one.commit()
    feed(two, voice(1))
    feed(one, voice(2, 2))
    feed(two, voice(2, 2))
    assert one._decided >= one._base
    assert one._levels[-1] == pytest.approx(two._levels[-1], abs=1.0)
    # The level of silence straight after a commit includes no loud sample from before.
    after = Endpointer(TurnDetection())
    feed(after, np.concatenate([voice(1), voice(0.03, 1)]))
    after.commit()
    assert feed(after, quiet(1)) == []


def test_memory_is_bounded_for_any_length_of_stream() -> None:
    endpointer = Endpointer(TurnDetection(window=8))
    sizes = []
    for minute in range(30):
        feed(endpointer, np.concatenate([voice(20, minute), quiet(40)]), 16_000)
        sizes.append(len(endpointer._buffer))
    assert max(sizes) <= 2 * RATE * 10
    assert endpointer.position == 30 * 60 * RATE


@settings(max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.floats(0.05, 3)), max_size=8), st.integers(1, 5000))
def test_utterances_are_in_order_and_equal_the_input(parts: list[tuple[bool, float]], piece: int) -> None:
    sound = np.concatenate([np.zeros(0, np.int16), *(voice(s) if loud else quiet(s) for loud, s in parts)])
    endpointer = Endpointer(TurnDetection(window=4))
    utterances = [
        event for event in feed(endpointer, sound, max(piece, 400)) if isinstance(event, UtteranceEnded)
    ] + endpointer.commit()
    places = [place for event in utterances for place in (event.start, event.end)]
    assert places == sorted(places)
    assert all(np.array_equal(event.waveform, sound[event.start : event.end]) for event in utterances)


def answer(raw: str, settled: str, flags: tuple[str, ...] = ()) -> Hypothesis:
    return Hypothesis(raw.partition("<asr_text>")[2], "English", raw, flags=flags, settled=settled)


def test_text_settles_while_the_utterance_continues() -> None:
    partial = PartialHypothesis(None, "names")
    assert not partial.is_due(CHUNK - 1)
    assert partial.is_due(CHUNK)
    request = partial.request(np.zeros(CHUNK, np.int16))
    assert (request.prefix, request.context, request.unsettled_tokens) == ("", "names", UNSETTLED_TOKENS)
    assert not partial.is_due(2 * CHUNK - 1)
    # The first answer never counts.
    assert partial.take(answer("language English<asr_text>Hello wor", "language English<asr_text>Hel")) == ""
    assert (
        partial.take(answer("language English<asr_text>Hello world and", "language English<asr_text>Hello"))
        == "Hello"
    )
    assert (partial.text, partial.tail) == ("Hello", " world and")
    assert partial.request(np.zeros(3 * CHUNK, np.int16)).prefix == "language English<asr_text>Hello"
    assert (
        partial.take(
            answer("language English<asr_text>Hello world, and more", "language English<asr_text>Hello world")
        )
        == " world"
    )


def test_half_a_tag_and_a_repetition_settle_nothing() -> None:
    partial = PartialHypothesis(None, "")
    partial.take(answer("language English<asr_text>x", "language"))
    assert partial.take(answer("language English<asr_text>x", "language")) == ""
    assert partial.request(np.zeros(1, np.int16)).prefix == ""
    stuck = answer("language English<asr_text>no", "language English<asr_text>no no no", ("loop_collapsed",))
    assert partial.take(stuck) == ""
    assert partial.request(np.zeros(1, np.int16)).prefix == ""


@pytest.mark.parametrize(
    ("text", "full", "expected"),
    [
        ("हि", "हिन्दी", "हि"),
        ("ह", "हिन्दी", ""),
        ("e", "e\u0301te", ""),
        ("a\ufffd", "a\ufffd", "a"),
        ("ok 👩", "ok 👩\u200d🚀", "ok "),
        ("🇫", "🇫🇷", ""),
        ("\u1112", "\u1112\u1161\u11ab", ""),
        ("서울", "서울 은", "서울"),
        ("ab", "xy", "ab"),
        ("", "e\u0301", ""),
    ],
)
def test_text_never_ends_within_a_character(text: str, full: str, expected: str) -> None:
    assert whole_characters(text, full) == expected
