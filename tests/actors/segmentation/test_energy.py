"""Segments: nothing is lost, none is too long, and nothing that might be speech is dropped."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.config import SegmenterConfig
from actors.records import SAMPLING_RATE, Span
from actors.segmentation.energy import find_cut, segment
from actors.segmentation.levels import frame_levels, without_clicks

CONFIG = SegmenterConfig(max_duration=10)


def noise(seconds, dbfs, seed=0):
    count = round(seconds * SAMPLING_RATE)
    wave = np.random.default_rng(seed).standard_normal(count) * 32768 * 10 ** (dbfs / 20)
    return np.rint(wave).clip(-32768, 32767).astype(np.int16)


def silence(seconds):
    return np.zeros(round(seconds * SAMPLING_RATE), np.int16)


pieces = st.lists(
    st.tuples(st.floats(0.01, 8.0), st.sampled_from([None, -95, -75, -62, -55, -45, -30, -12])),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None)
@given(pieces, st.sampled_from([1.0, 3.3, 10.0, 60.0]), st.integers(0, 500))
def test_spans_are_in_order_within_the_limit_and_only_silence_is_dropped(parts, limit, extra):
    wave = np.concatenate(
        [silence(s) if level is None else noise(s, level, i) for i, (s, level) in enumerate(parts)]
    )
    wave = np.concatenate([wave, noise(1, -30)[:extra]])
    config = SegmenterConfig(max_duration=limit)
    spans = segment(wave, config)
    assert spans == segment(wave.copy(), config)
    place = 0
    dropped = np.ones(len(wave), bool)
    for span in spans:
        assert place <= span.start < span.end <= len(wave)
        assert span.end - span.start <= limit * SAMPLING_RATE
        dropped[span.start : span.end] = False
        place = span.end
    # By frames: nothing louder than the limit was dropped, but for clicks.
    if dropped.any():
        levels = without_clicks(frame_levels(wave))
        inside = dropped[: len(wave) // 160 * 160].reshape(-1, 160).all(axis=1)
        assert levels[: len(inside)][inside].max(initial=-120) <= config.silence_dbfs


@pytest.mark.parametrize("at_end", [True, False])
def test_a_short_sound_at_an_end_is_no_click(at_end):
    """It may be a word that goes on in the next shard."""
    parts = [silence(5), noise(0.02, -20)]
    wave = np.concatenate(parts if at_end else parts[::-1])
    [span] = segment(wave, CONFIG)
    assert span.end == len(wave) if at_end else span.start == 0


def test_silence_has_no_segments():
    for wave in (
        silence(30),
        noise(30, -88),
        noise(30, -70),
        silence(0),
        silence(0.001),
        np.full(16000, 9000, np.int16),
    ):
        assert segment(wave, CONFIG) == []


def test_a_steady_audible_noise_stays():
    assert sum(span.duration for span in segment(noise(25, -50), CONFIG)) == 25.0


def test_short_audio_is_one_segment():
    assert segment(noise(0.2, -30), CONFIG) == [Span(0, 3200)]
    assert segment(noise(1, -30)[:77], CONFIG) == [Span(0, 77)]


def test_long_silence_is_dropped_except_a_pad_and_short_silence_stays():
    wave = np.concatenate(
        [silence(3), noise(2, -25), silence(1), noise(2, -25), silence(5), noise(1, -25), silence(4)]
    )
    spans = segment(wave, CONFIG)
    assert [(round(s.start / 16000, 1), round(s.end / 16000, 1)) for s in spans] == [(2.8, 8.2), (12.8, 14.2)]


def test_a_whisper_between_loud_voices_stays():
    wave = np.concatenate([noise(5, -20), noise(4, -66), noise(5, -20), noise(4, -90)])
    spans = segment(wave, CONFIG.model_copy(update={"max_duration": 60}))
    assert spans[0].start == 0
    assert spans[0].end >= 14 * SAMPLING_RATE


def test_a_very_quiet_recording_keeps_its_speech():
    syllables = [noise(0.3, level, i) for i, level in enumerate([-62, -70, -64, -78, -61, -66, -80, -63] * 8)]
    wave = np.concatenate(syllables)
    assert sum(span.duration for span in segment(wave, CONFIG)) == pytest.approx(len(wave) / SAMPLING_RATE)


def test_cuts_are_at_pauses_late_in_the_window():
    wave = np.concatenate(
        [noise(3, -20, 1), noise(0.5, -55), noise(4.5, -20, 2), noise(0.5, -55), noise(9, -20, 3)]
    )
    first, *_ = segment(wave, CONFIG)
    assert first.end / SAMPLING_RATE == pytest.approx(8.25, abs=0.15)


def test_a_window_that_is_mostly_a_pause_is_cut_in_it_and_not_in_the_closure_of_a_word():
    """As in "acqua": the closure of its consonant may be a little quieter than the pause before it."""
    word = [noise(0.3, -20, 3), noise(0.13, -64, 4), noise(0.4, -20, 5)]
    wave = np.concatenate([noise(7.2, -20, 1), noise(1.9, -62, 2), *word, noise(0.4, -62), noise(9, -20, 6)])
    first, *_ = segment(wave, CONFIG)
    assert 7.2 < first.end / SAMPLING_RATE < 9.1


def test_a_moment_of_digital_silence_does_not_hide_a_longer_pause():
    wave = np.concatenate([noise(7, -20, 1), silence(0.15), noise(1, -20, 2), noise(0.8, -64), noise(9, -20)])
    first, *_ = segment(wave, CONFIG)
    assert 8.15 < first.end / SAMPLING_RATE < 8.95


def test_a_window_that_is_mostly_silent_is_not_cut_in_the_word_at_its_end():
    wave = np.concatenate([noise(5, -20, 1), noise(4.6, -88, 2), noise(0.6, -20, 3), noise(9, -20, 4)])
    first, *_ = segment(wave, CONFIG.model_copy(update={"min_silence": 10}))
    assert 5 <= first.end / SAMPLING_RATE <= 9.6


def test_cuts_of_a_small_limit_are_at_the_longest_pause_of_5_seconds():
    small = CONFIG.model_copy(update={"max_duration": 8, "min_silence": 10})
    wave = np.concatenate([noise(4, -20, 1), noise(0.9, -62), noise(2.5, -20, 2), noise(0.2, -62)])
    first, *_ = segment(np.concatenate([wave, noise(9, -20, 3)]), small)
    assert first.end / SAMPLING_RATE == pytest.approx(4.45, abs=0.1)


def test_without_a_pause_the_quietest_place_is_cut():
    wave = np.concatenate([noise(8, -20, 1), noise(0.15, -24, 2), noise(8.85, -20, 3)])
    first, second = segment(wave, CONFIG)
    assert first.end == second.start
    assert first.end / SAMPLING_RATE == pytest.approx(8.07, abs=0.1)


def test_the_last_segment_is_never_tiny():
    for seconds in (10.05, 10.5, 12, 15.9, 16.1, 20.5, 31):
        spans = segment(noise(seconds, -20), CONFIG)
        assert min(span.duration for span in spans) > 3
        assert sum(span.duration for span in spans) == pytest.approx(seconds)


def test_speech_regions_of_a_vad_decide_what_is_dropped():
    wave = noise(30, -20)
    spans = segment(wave, CONFIG, [Span(16000, 48000), Span(160_000, 320_000)])
    assert spans[0] == Span(16000 - 3200, 48000 + 3200)
    assert spans[1].start == 160_000 - 3200
    assert spans[-1].end == 320_000 + 3200
    assert all(span.duration <= 10 for span in spans)
    assert segment(wave, CONFIG, []) == []


def test_find_cut_finds_the_pause_and_the_nearer_of_two():
    loud = noise(1, -20)
    one = np.concatenate([loud, loud, noise(0.3, -70), loud, loud])
    assert abs(find_cut(one, len(one) // 2) - 2.15 * SAMPLING_RATE) < 0.1 * SAMPLING_RATE
    two = np.concatenate([loud, silence(0.3), loud, loud, silence(0.3), loud])
    assert find_cut(two, 20_000) < 24_000 < 50_000 < find_cut(two, 70_000)


def test_find_cut_considers_all_channels():
    quiet_left = np.concatenate([noise(1, -20), silence(0.5), noise(1.5, -20)])
    quiet_right = np.concatenate([noise(2, -20, 5), silence(0.5), noise(0.5, -20, 6)])
    both = np.stack([quiet_left, quiet_right])
    # The only place where both are quiet.
    both[:, 3 * 16000 - 1600 :] = 0
    assert find_cut(both, 24_000) > 2.8 * SAMPLING_RATE


@pytest.mark.parametrize("count", [0, 1, 159, 160, 161, 500])
def test_find_cut_is_within_the_samples(count):
    assert 0 <= find_cut(noise(1, -20)[:count], 250) <= count


def test_find_cut_in_silence_is_at_the_nominal_place():
    assert abs(find_cut(silence(5), 40_000) - 40_000) <= 160
