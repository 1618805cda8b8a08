"""Bad stretches of words are found, aligned again between good words, and only replaced by better times."""

from __future__ import annotations

import numpy as np

from actors.records import AlignmentRequest
from actors.repair.words import realign


def even(count: int, start: float = 0.0, step: float = 0.5) -> list[tuple[float, float]]:
    return [(start + step * unit, start + step * unit + 0.4) for unit in range(count)]


def test_good_times_have_no_window() -> None:
    assert realign.windows(even(20), 10.0) == []


def test_one_word_without_length_is_no_bad_stretch() -> None:
    times = [*even(3), (1.5, 1.5), *even(3, 2.0)]
    assert realign.windows(times, 4.0) == []


def test_a_run_without_length_is_aligned_again_with_two_words_on_both_sides() -> None:
    times = [*even(4), *[(3.9, 3.9)] * 3, *even(4, 4.0)]
    (window,) = realign.windows(times, 6.0)
    assert (window.first, window.last, window.start, window.end) == (2, 9, 1.0, 4.9)
    request = AlignmentRequest(np.zeros(6 * 16_000, np.int16), tuple("abcdefghijk"), "English")
    asked = realign.request_for(request, window)
    assert asked.units == tuple("cdefghi") and abs(asked.duration - 3.9) < 0.001


def test_a_pile_at_the_end_reaches_to_the_end_of_the_audio() -> None:
    times = [*even(4), *[(2.0 + 0.02 * unit, 2.01 + 0.02 * unit) for unit in range(6)]]
    (window,) = realign.windows(times, 8.0)
    assert (window.first, window.last, window.end) == (2, 10, 8.0)


def test_better_times_are_taken() -> None:
    times = [*even(4), *[(3.9, 3.9)] * 3, *even(4, 4.0)]
    (window,) = realign.windows(times, 6.0)
    found = [(0.0, 0.4), (0.5, 0.9), (1.2, 1.5), (1.6, 1.9), (2.0, 2.4), (3.0, 3.4), (3.5, 3.9)]
    changed = realign.better(times, window, found)
    assert changed is not None and len(changed) == len(times)
    assert changed[:2] == times[:2] and changed[4] == (2.2, 2.5) and changed[9:] == times[9:]


def test_times_that_move_the_words_around_them_or_are_as_bad_are_not() -> None:
    times = [*even(4), *[(3.9, 3.9)] * 3, *even(4, 4.0)]
    (window,) = realign.windows(times, 6.0)
    assert realign.better(times, window, even(7)) is None
    assert (
        realign.better(times, window, [(0.0, 0.4), (0.5, 0.9), *[(2.0, 2.0)] * 3, (3.0, 3.4), (3.5, 3.9)])
        is None
    )
