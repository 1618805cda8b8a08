"""Syllables that are heard, and speech by a VAD."""

from __future__ import annotations

import numpy as np
import pytest

from actors.guards.sound import find_speech, heard_syllables
from actors.records import SAMPLING_RATE
from actors.text.syllables import count_syllables
from tests.actors.guards.demo_speech import UNSPACED, utterances


def bursts(count: int, seconds: float = 0.12, gap: float = 0.13) -> np.ndarray:
    """Tones of a low voice, each of which rises and falls."""
    samples = round(seconds * SAMPLING_RATE)
    time = np.arange(samples) / SAMPLING_RATE
    tone = sum(np.sin(2 * np.pi * frequency * time) for frequency in (150, 300, 450, 600, 750))
    burst = 3000 * tone * np.hanning(samples)
    silence = np.zeros(round(gap * SAMPLING_RATE))
    return np.concatenate([silence, *[burst, silence] * count]).astype("<i2")


@pytest.mark.parametrize("count", [1, 2, 7, 20])
def test_each_burst_is_a_syllable_at_its_loudest_moment(count: int) -> None:
    times = heard_syllables(bursts(count))
    assert times == pytest.approx(0.13 + 0.06 + 0.25 * np.arange(count), abs=0.03)


def test_loudness_does_not_matter() -> None:
    loud = bursts(9)
    assert len(heard_syllables((loud // 30).astype("<i2"))) == len(heard_syllables(loud)) == 9


def test_where_no_speech_is_possible_nothing_is_heard() -> None:
    possible = np.zeros(100, bool)
    possible[:32] = True
    assert len(heard_syllables(bursts(8), possible)) == 4


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros(100), np.zeros(SAMPLING_RATE), np.full(9000, 7)])
def test_silence_has_no_syllables(samples: np.ndarray) -> None:
    assert len(heard_syllables(samples.astype("<i2"))) == 0


def test_noise_has_fewer_syllables_than_speech() -> None:
    """Its level trembles a little: only the VAD tells that none of it is speech, see below."""
    for seed in range(4):
        noise = np.random.default_rng(seed).normal(0, 1000, 10 * SAMPLING_RATE).astype("<i2")
        assert len(heard_syllables(noise)) <= 35


def test_the_syllables_of_a_text_are_about_those_that_are_heard() -> None:
    ratios = []
    for utterance in utterances(3, 3):
        text = ("" if utterance.language in UNSPACED else " ").join(utterance.words)
        written = count_syllables(text, utterance.language)
        ratios.append(written / len(heard_syllables(utterance.waveform)))
    assert 0.9 < np.median(ratios) < 1.2
    assert np.mean([0.6 < ratio < 1.7 for ratio in ratios]) > 0.9


def test_a_vad_tells_speech_from_noise() -> None:
    pytest.importorskip("silero_vad")
    noise = np.random.default_rng(1).normal(0, 1000, 5 * SAMPLING_RATE).astype("<i2")
    found = find_speech(noise)
    assert found is not None
    assert found.probability < 0.3
    assert found.syllables <= 1
    spoken = utterances(3, 1)[0].waveform
    heard = find_speech(spoken)
    assert heard is not None
    assert heard.probability > 0.9
    assert 1 < heard.seconds < len(spoken) / SAMPLING_RATE
