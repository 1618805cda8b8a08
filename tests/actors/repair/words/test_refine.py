"""A second pass over segments whose word times do not fit their sound."""

from __future__ import annotations

import numpy as np
import pytest

from actors.aligner import AlignerActor
from actors.config import AlignerConfig
from actors.config.trust import GuardsConfig
from actors.records import SAMPLING_RATE, AlignedTimes, AlignmentRequest, Row
from actors.repair.words import refine

# Words of 0.3 s, from these seconds on.
STARTS = (0.2, 0.6, 1.0, 2.0, 2.4, 2.8)
RIGHT = [(start, start + 0.3) for start in STARTS]
# One word off from the pause on, as an aligner that has lost its way.
WRONG = [*RIGHT[:2], (1.0, 1.0), (1.0, 1.3), *RIGHT[3:5]]


def speech() -> np.ndarray:
    """A tone for each word, in a faint noise: int16."""
    noise = np.random.default_rng(1)
    samples = noise.normal(0, 4, round(3.4 * SAMPLING_RATE))
    for start, end in RIGHT:
        first, last = round(start * SAMPLING_RATE), round(end * SAMPLING_RATE)
        samples[first:last] += 3000 * np.sin(np.arange(last - first) / 8)
    return samples.astype("<i2")


def test_sound_and_words_disagree_where_words_are_wrong() -> None:
    sound = refine.is_sound(speech())
    assert np.count_nonzero(sound) == pytest.approx(6 * 30, abs=12)
    assert refine.disagreement(RIGHT, sound) < 0.15
    # A word of sound without words, and a word without length.
    assert refine.disagreement(WRONG, sound) == pytest.approx(0.3 + 0.15, abs=0.15)
    assert refine.is_doubtful(WRONG, sound, 0.08) and not refine.is_doubtful(RIGHT, sound, 0.08)
    assert not refine.is_doubtful(WRONG[:1], sound, 0.08)


@pytest.mark.parametrize("samples", [0, 1, 100, 16_000])
def test_silence_is_divided_nowhere(samples: int) -> None:
    sound = refine.is_sound(np.zeros(samples, np.int16))
    assert refine.divisions([(0.0, 0.1), (0.1, 0.2)], sound) == []


def test_divisions_are_at_the_longest_pauses_with_a_word_more_or_less() -> None:
    found = refine.divisions(WRONG, refine.is_sound(speech()))
    first = [division.unit for division in found if division.sample == found[0].sample]
    assert found[0].sample / SAMPLING_RATE == pytest.approx(1.65, abs=0.05)
    # The words as they are first.
    assert first == [4, 3, 5]
    assert len({division.sample for division in found}) == 2
    left, right = refine.parts(AlignmentRequest(speech(), tuple("abcdef"), "English"), found[0])
    assert (left.units, right.units) == (("a", "b", "c", "d"), ("e", "f"))
    assert left.duration + right.duration == pytest.approx(3.4)


def test_the_best_division_must_be_better_than_the_first_pass() -> None:
    sound = refine.is_sound(speech())
    assert searched(WRONG, sound, RIGHT).best() == RIGHT
    assert searched(RIGHT, sound, WRONG, RIGHT).best() is None
    assert searched(RIGHT, sound).best() is None


def searched(times: refine.Times, sound: np.ndarray, *candidates: refine.Times) -> refine.Search:
    search = refine.Search(times, sound, 0.1)
    for candidate in candidates:
        search.add(AlignedTimes(candidate))
    return search


def test_no_other_division_is_tried_when_one_fits() -> None:
    sound = refine.is_sound(speech())
    assert searched(WRONG, sound).left and searched(WRONG, sound, WRONG).left
    assert not searched(WRONG, sound, RIGHT).left


class LosesItsWay:
    """An aligner that is right about parts of less than 3 s only, and fails at the audio of `fails`."""

    def __init__(self, real: object, fails: bool = False) -> None:
        self._real, self._fails, self.calls = real, fails, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)

    def align(self, requests: list[AlignmentRequest]) -> list[AlignedTimes | Exception]:
        self.calls += len(requests)
        return [self._times(request) for request in requests]

    def _times(self, request: AlignmentRequest) -> AlignedTimes | Exception:
        if request.duration > 3:
            return AlignedTimes(WRONG)
        if self._fails:
            return ValueError("no")
        offset = 0.0 if request.units[0] == "a" else 3.4 - request.duration
        chosen = ["abcdef".index(unit) for unit in request.units]
        return AlignedTimes((RIGHT[at][0] - offset, RIGHT[at][1] - offset) for at in chosen)


@pytest.mark.parametrize(
    ("limit", "fails", "starts"),
    [(0.1, False, STARTS), (None, False, None), (0.9, False, None), (0.1, True, None)],
)
def test_in_the_actor(limit: float | None, fails: bool, starts: tuple[float, ...] | None) -> None:
    actor = AlignerActor(AlignerConfig(backend="fake", refine=limit), GuardsConfig(enabled=False))
    actor.backend = backend = LosesItsWay(actor.backend, fails)  # type: ignore[assignment]
    segment = {"start": 5.0, "end": 8.4, "text": "a b c d e f", "language": "en", "channel": None}
    row: Row = {"status": "ok", "error_code": None}
    row["segments"] = [{**segment, "samples": speech().tobytes(), "flags": []}]
    [after] = actor([row])
    words = after["segments"][0]["words"]
    expected = starts or [start for start, _ in WRONG]
    assert [word["start"] - 5 for word in words] == pytest.approx([*expected], abs=0.002)
    assert after["status"] == "ok"
    # Two pauses, with three and with two divisions of two parts; the first one fits.
    assert backend.calls == (1 if limit in (None, 0.9) else 11 if fails else 3)
