"""Where utterances begin and end, what is settled of their text, and that an hour costs no more memory than a minute."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.records import SAMPLING_RATE, Hypothesis
from actors.segmentation.endpointing import (
    CHUNK,
    UNSETTLED_TOKENS,
    Ended,
    Endpointer,
    Partial,
    Started,
    Turns,
    whole,
)

RATE = SAMPLING_RATE


def voice(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise in syllables, three a second: loud and less loud in turn, as speech is and steady noise is not."""
    count = round(seconds * RATE)
    syllables = 0.55 + 0.45 * np.sin(2 * np.pi * 3 * np.arange(count) / RATE)
    return (np.random.default_rng(seed).standard_normal(count) * 3000 * syllables).astype(np.int16)


def quiet(seconds: float, level: int = 2) -> np.ndarray:
    return np.random.default_rng(1).integers(-level, level + 1, round(seconds * RATE)).astype(np.int16)


def heard(listener: Endpointer, sound: np.ndarray, piece: int = 1600) -> list[Started | Ended]:
    return [
        event
        for place in range(0, len(sound), piece)
        for event in listener.feed(sound[place : place + piece])
    ]


def test_pauses_part_utterances_and_nothing_that_is_said_is_lost() -> None:
    sound = np.concatenate([quiet(1), voice(2), quiet(1), voice(3, 1), quiet(0.3), voice(1, 2), quiet(1)])
    listener = Endpointer(Turns())
    events = heard(listener, sound)
    ended = [event for event in events if isinstance(event, Ended)]
    assert [type(event) for event in events] == [Started, Ended, Started, Ended] and listener.number is None
    for event, (start, end) in zip(ended, ((1.0, 3.0), (4.0, 8.3)), strict=True):
        assert start - 0.45 <= event.start / RATE <= start and end <= event.end / RATE <= end + 0.3
        assert np.array_equal(event.waveform, sound[event.start : event.end])


@pytest.mark.parametrize("piece", [1, 7, 799, 1600, 16_000, 1_000_000])
def test_pieces_do_not_matter(piece: int) -> None:
    sound = np.concatenate([voice(0.7), quiet(0.8), voice(0.4, 1), quiet(0.7)])
    spans = [
        (event.start, event.end)
        for event in heard(Endpointer(Turns()), sound, piece)
        if isinstance(event, Ended)
    ]
    assert (
        spans
        == [
            (event.start, event.end)
            for event in heard(Endpointer(Turns()), sound)
            if isinstance(event, Ended)
        ]
        and len(spans) == 2
    )


def test_one_who_does_not_pause_is_cut_where_it_is_quietest() -> None:
    sound = np.concatenate([voice(6), quiet(0.2), voice(9, 1), quiet(1)])
    ended = [event for event in heard(Endpointer(Turns(window=8)), sound) if isinstance(event, Ended)]
    assert 6.0 <= ended[0].end / RATE <= 6.2
    assert all(event.end - event.start <= 8 * RATE + 800 for event in ended)
    assert all(left.end == right.start for left, right in pairwise(ended))
    assert np.array_equal(
        np.concatenate([event.waveform for event in ended]), sound[ended[0].start : ended[-1].end]
    )


def test_a_quiet_that_is_longer_than_the_window_ends_the_utterance() -> None:
    sound = np.concatenate([quiet(8), voice(2), quiet(20), voice(1, 1), quiet(6)])
    events = heard(Endpointer(Turns(silence=5, window=4)), sound)
    ended = [event for event in events if isinstance(event, Ended)]
    first = [event for event in ended if event.start < 20 * RATE]
    assert first[0].end >= 10 * RATE and first[-1].end <= 15 * RATE and len(first) <= 3
    assert all(event.end > event.start for event in ended)
    assert any(event.start <= 30 * RATE and event.end >= 31 * RATE for event in ended) and len(ended) <= 6
    assert [type(event) for event in events] == [Started, Ended] * len(ended)


def test_steady_noise_is_nobody_speaking_for_long() -> None:
    listener = Endpointer(Turns())
    noise = quiet(60, 60)
    events = heard(listener, noise)
    spoken = sum(event.end - event.start for event in events if isinstance(event, Ended))
    assert spoken < 4 * RATE and listener.number is None
    assert any(
        isinstance(event, Ended) for event in heard(listener, np.concatenate([voice(2), quiet(2, 60)]))
    )


@pytest.mark.parametrize("ratio", [10.0, 5.0, 3.0])
def test_who_speaks_in_a_loud_noise_is_heard(ratio: float) -> None:
    """A model that is given too much can say that nothing was said; what it is not given is lost."""
    said = np.concatenate([np.concatenate([voice(5, seed), quiet(1, 0)]) for seed in range(5)]).astype(
        np.float64
    )
    noise = np.random.default_rng(9).standard_normal(len(said))
    noise *= np.sqrt((said**2).mean()) / 10 ** (ratio / 20)
    sound = ((said + noise) * 0.3).clip(-32768, 32767).astype(np.int16)
    events = [event for event in heard(Endpointer(Turns()), sound) if isinstance(event, Ended)]
    inside = np.zeros(len(said), bool)
    for event in events:
        inside[event.start : event.end] = True
    assert (said[inside] ** 2).sum() > 0.9 * (said**2).sum()


def test_the_client_may_decide() -> None:
    listener = Endpointer(Turns(detect=False))
    assert [type(event) for event in heard(listener, np.concatenate([voice(1), quiet(3), voice(1)]))] == [
        Started
    ]
    (ended,) = listener.commit()
    assert (ended.start, ended.end) == (0, 5 * RATE) and listener.commit() == []
    heard(listener, voice(1))
    listener.clear()
    assert listener.commit() == [] and listener.length == 0


@pytest.mark.parametrize("detect", [True, False])
def test_what_is_cleared_is_in_no_utterance(detect: bool) -> None:
    listener = Endpointer(Turns(detect=detect))
    heard(listener, voice(1.013))
    listener.clear()
    place = listener.position
    assert len(listener.window()) == 0
    sound = voice(1, 1)
    heard(listener, sound)
    (ended,) = listener.commit()
    assert ended.start >= place and np.array_equal(ended.waveform, sound[ended.start - place :])


def test_after_a_commit_at_any_place_hops_are_whole() -> None:
    one, two = Endpointer(Turns(detect=False)), Endpointer(Turns(detect=False))
    heard(one, np.concatenate([voice(1), voice(0.03, 1)]))
    assert one.commit()
    heard(two, voice(1))
    heard(one, voice(2, 2))
    heard(two, voice(2, 2))
    assert one._decided >= one._base and one._levels[-1] == pytest.approx(two._levels[-1], abs=1.0)
    # Silence straight after it is silence: no loud sample from before is heard in it.
    after = Endpointer(Turns())
    heard(after, np.concatenate([voice(1), voice(0.03, 1)]))
    after.commit()
    assert heard(after, quiet(1)) == []


def test_memory_is_bounded_however_long_it_takes() -> None:
    listener = Endpointer(Turns(window=8))
    sizes = []
    for minute in range(30):
        heard(listener, np.concatenate([voice(20, minute), quiet(40)]), 16_000)
        sizes.append(len(listener._buffer))
    assert max(sizes) <= 2 * RATE * 10 and listener.position == 30 * 60 * RATE


@settings(max_examples=50)
@given(st.lists(st.tuples(st.booleans(), st.floats(0.05, 3)), max_size=8), st.integers(1, 5000))
def test_utterances_are_in_order_and_exactly_what_came_in(
    parts: list[tuple[bool, float]], piece: int
) -> None:
    sound = np.concatenate([np.zeros(0, np.int16), *(voice(s) if loud else quiet(s) for loud, s in parts)])
    listener = Endpointer(Turns(window=4))
    ended = [
        event for event in heard(listener, sound, max(piece, 400)) if isinstance(event, Ended)
    ] + listener.commit()
    places = [place for event in ended for place in (event.start, event.end)]
    assert places == sorted(places)
    assert all(np.array_equal(event.waveform, sound[event.start : event.end]) for event in ended)


def answer(raw: str, settled: str, flags: tuple[str, ...] = ()) -> Hypothesis:
    return Hypothesis(raw.partition("<asr_text>")[2], "English", raw, flags=flags, settled=settled)


def test_text_settles_behind_the_voice() -> None:
    partial = Partial(None, "names")
    assert not partial.is_due(CHUNK - 1) and partial.is_due(CHUNK)
    request = partial.request(np.zeros(CHUNK, np.int16))
    assert (request.prefix, request.context, request.unsettled_tokens) == ("", "names", UNSETTLED_TOKENS)
    assert not partial.is_due(2 * CHUNK - 1)
    assert (
        partial.take(answer("language English<asr_text>Hello wor", "language English<asr_text>Hel")) == ""
    )  # the first one never counts
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


def test_half_a_tag_and_a_loop_settle_nothing() -> None:
    partial = Partial(None, "")
    partial.take(answer("language English<asr_text>x", "language"))
    assert (
        partial.take(answer("language English<asr_text>x", "language")) == ""
        and partial.request(np.zeros(1, np.int16)).prefix == ""
    )
    stuck = answer("language English<asr_text>no", "language English<asr_text>no no no", ("loop_collapsed",))
    assert partial.take(stuck) == "" and partial.request(np.zeros(1, np.int16)).prefix == ""


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
def test_no_text_ends_within_a_character(text: str, full: str, expected: str) -> None:
    assert whole(text, full) == expected
