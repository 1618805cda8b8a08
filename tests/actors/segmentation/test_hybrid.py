"""Hybrid segments: energy's, without noise and music, and without a lost word."""

import logging
import sys

import numpy as np
import pytest

from actors.config import SegmenterConfig
from actors.records import SAMPLING_RATE, Span
from actors.segmentation import energy, hybrid, segmenter, silero
from actors.segmentation.levels import frame_levels
from actors.segmentation.segmenter import cut_channels, silent_samples, warn_without_vad
from actors.segmentation.speech_cues import is_clear_speech, may_be_voice
from tests.actors.segmentation import held_out_mixes, mixes, other_noises, rhythmic_noises
from tests.actors.segmentation.mixes import at_level, voice

CONFIG = SegmenterConfig(backend="hybrid")
needs_vad = pytest.mark.skipif(not silero.is_installed(), reason="needs the extra `vad`")
NOISE = [mixes.white, mixes.street, mixes.hum]
MUSIC = [mixes.chords, mixes.drums, mixes.band]


def int16(wave):
    return np.rint(wave * 32767).clip(-32768, 32767).astype(np.int16)


def made(maker, seconds=20, dbfs=-25.0, seed=1):
    return int16(at_level(maker(seconds * SAMPLING_RATE, np.random.default_rng(seed)), dbfs))


def spoken(seconds=20, dbfs=-22.0, seed=1):
    return int16(at_level(voice(seconds, np.random.default_rng(seed)).samples, dbfs))


def maybe(samples):
    return may_be_voice(samples, frame_levels(samples))


def judge(*waves):
    return cut_channels(np.stack(waves), CONFIG)


def test_a_voice_is_clear_speech_and_noise_and_music_are_not():
    samples = spoken(40)
    assert is_clear_speech(samples, frame_levels(samples)).mean() > 0.8
    for maker in [*NOISE, *MUSIC, mixes.clicks]:
        samples = made(maker, 40)
        assert is_clear_speech(samples, frame_levels(samples)).mean() < 0.1, maker.__name__


def test_a_voice_may_be_a_voice_and_noise_and_fixed_notes_may_not():
    assert maybe(spoken(40)).mean() > 0.5
    for maker in [*NOISE, *MUSIC]:
        assert not maybe(made(maker, 40)).all(), maker.__name__


@pytest.mark.parametrize(
    "maker",
    [
        held_out_mixes.engine,
        held_out_mixes.ringing,
        other_noises.siren,
        other_noises.alarm,
        other_noises.washing,
        *rhythmic_noises.RHYTHMIC_NOISES,
    ],
    ids=lambda maker: maker.__name__,
)
def test_motors_tones_and_beats_are_no_voice(maker):
    assert maybe(made(maker, 40)).mean() <= 0.2


@pytest.mark.parametrize("count", [0, 1, 159, 1024, 3071, 3072, 40_000])
def test_cues_take_audio_of_any_length(count):
    samples = spoken(5)[:count]
    windows = is_clear_speech(samples, frame_levels(samples))
    assert windows.shape == (len(frame_levels(samples)) // 200,)
    assert len(maybe(samples)) >= 1


@needs_vad
@pytest.mark.parametrize("maker", [*NOISE, *MUSIC], ids=lambda maker: maker.__name__)
def test_noise_and_music_are_dropped(maker):
    (judged,) = judge(made(maker, 40))
    sent = sum(span.duration for span in judged.spans)
    assert sent < 3 and sum(span.duration for span in judged.dropped) == pytest.approx(40 - sent, abs=0.1)


@needs_vad
def test_clear_speech_is_cut_as_by_energy_and_loads_no_model(monkeypatch):
    monkeypatch.setattr("actors.segmentation.hybrid.probabilities_by_memory", None)
    quiet = np.zeros(3 * SAMPLING_RATE, np.int16)
    samples = np.concatenate([quiet, spoken(90), quiet, spoken(20), quiet])
    config = SegmenterConfig(backend="hybrid", max_duration=30)
    (judged,) = cut_channels(samples[None], config)
    assert judged.spans == energy.segment(samples, config)
    assert not any(judged.unlikely) and not judged.dropped


@needs_vad
def test_noise_between_speech_is_dropped_but_for_its_padding():
    noise, speech = made(mixes.white, 20, -40.0), spoken(20)
    (judged,) = judge(np.concatenate([noise, speech, noise]))
    (first, *_), last = judged.spans, judged.spans[-1]
    start, end = first.start / SAMPLING_RATE, last.end / SAMPLING_RATE
    assert 19 < start <= 20 and 20 + len(speech) / SAMPLING_RATE <= end < 42


@needs_vad
def test_a_gliding_melody_may_be_singing_and_is_sent_as_unlikely():
    time = np.arange(30 * SAMPLING_RATE) / SAMPLING_RATE
    phase = 2 * np.pi * np.cumsum(220 * 2 ** (0.5 * np.sin(2 * np.pi * 0.4 * time))) / SAMPLING_RATE
    # Three notes a second, and a breath now and then.
    notes = np.abs(np.sin(np.pi * 3 * time)) ** 0.5 * (time % 5 < 4.6)
    melody = notes * sum(np.sin(k * phase) / k for k in range(1, 10))
    (judged,) = judge(int16(at_level(melody, -25)))
    assert sum(span.duration for span in judged.spans) > 25
    assert all(judged.unlikely) or not any(judged.dropped)


@needs_vad
def test_channels_are_judged_for_themselves():
    speech = spoken(20)
    noise = made(mixes.white, 21)[: len(speech)]
    left, right = judge(speech, noise)
    assert left.spans and not right.spans
    assert silent_samples([left, right], len(speech)) == len(speech) - sum(
        s.end - s.start for s in left.spans
    )
    assert silent_samples([right], len(speech)) == len(speech)


@pytest.mark.parametrize("count", [0, 1, 159, 161, 5000])
def test_audio_of_any_length_is_judged(count):
    (judged,) = judge(spoken(2)[:count])
    assert all(0 <= span.start < span.end <= count for span in judged.spans)


def test_without_the_extra_hybrid_is_energy_with_one_line_in_the_log(monkeypatch, caplog):
    monkeypatch.setattr(silero, "is_installed", lambda: False)
    warn_without_vad.cache_clear()
    noise = made(mixes.white)
    with caplog.at_level(logging.WARNING):
        warn_without_vad(CONFIG)
        warn_without_vad(CONFIG)
        (judged,) = judge(noise)
    assert judged.spans == energy.segment(noise, CONFIG) and judged.unlikely == [False] * len(judged.spans)
    assert [record.message.count("extra `vad`") for record in caplog.records] == [1]
    warn_without_vad.cache_clear()


def test_hybrid_is_energy_where_the_vad_does_not_fit_into_the_memory_limit(monkeypatch):
    monkeypatch.setattr(segmenter.silero, "fits_in_memory", lambda: False)
    noise = made(mixes.white)
    (judged,) = judge(noise)
    assert judged.spans == energy.segment(noise, CONFIG)


def test_the_memory_limit_of_the_process_decides_whether_the_vad_fits(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    limits = {"now": (silero.resource.RLIM_INFINITY, 0)}
    monkeypatch.setattr(silero.resource, "getrlimit", lambda kind: limits["now"])
    assert silero.fits_in_memory()
    limits["now"] = (1 << 20, 0)
    assert not silero.fits_in_memory()


def _bars(recordings):
    lost, idle, sent = [], 0.0, 0.0
    for mix in recordings:
        (judged,) = cut_channels(mix.samples[None], CONFIG)
        lost += [(mix.name, word) for word in mix.lost_words(judged.spans)]
        idle += mix.idle_seconds(judged.spans)
        sent += sum(span.duration for span in judged.spans)
    return lost, idle / sent


@needs_vad
def test_no_word_is_lost_and_little_noise_is_sent_in_synthetic_recordings():
    rng = np.random.default_rng(6)
    clips = [voice(6, rng) for _ in range(15)]
    hardest = ("speech at -68", "hum at -50", "hiss", "clicks", "a telephone")
    lost, idle = _bars(mix for mix in mixes.mixes(clips) if mix.name.startswith(hardest))
    assert lost == []
    assert idle <= 0.05


@needs_vad
def test_no_word_is_lost_and_little_noise_is_sent_in_mixed_recordings(corpus_dir):
    recordings = list(mixes.mixes(mixes.labelled_clips(corpus_dir)))
    assert len(recordings) == 20
    lost, idle = _bars(recordings)
    assert lost == []
    assert idle <= 0.03


@needs_vad
def test_no_labelled_word_of_the_corpus_is_lost_not_even_a_sung_one(corpus_dir):
    for mix in mixes.labelled_recordings(corpus_dir):
        (judged,) = cut_channels(mix.samples[None], CONFIG)
        assert mix.lost_words(judged.spans) == [], mix.name


@needs_vad
def test_music_with_a_beat_and_a_ringing_telephone_are_no_clear_speech():
    for maker in (held_out_mixes.techno, held_out_mixes.ringing, held_out_mixes.piano, held_out_mixes.bells):
        samples = made(maker, 40)
        assert is_clear_speech(samples, frame_levels(samples)).mean() < 0.1, maker.__name__


ALL_NOISES = held_out_mixes.NOISES + other_noises.OTHER_NOISES
# What is still sent: pulses as fast as those of a voice, and a motor that whines while its pedal is down.
PULSES = (rhythmic_noises.helicopter, rhythmic_noises.tractor, rhythmic_noises.sewing_machine)
MORE_NOISES = ALL_NOISES + tuple(one for one in rhythmic_noises.RHYTHMIC_NOISES if one not in PULSES)


def _held_out(speech, seed, noises=ALL_NOISES):
    kinds = np.random.default_rng(seed).permutation(len(noises))[:5]
    recordings = list(held_out_mixes.mixes(speech, seed, [noises[kind] for kind in kinds]))
    assert len(recordings) == 20
    return recordings


@needs_vad
@pytest.mark.slow
@pytest.mark.parametrize("seed", [4, 5, 6, 7, 8])
def test_held_out_mixes_of_words_with_known_times_meet_the_bars(corpus_dir, seed):
    lost, idle = _bars(_held_out(mixes.labelled_clips(corpus_dir), seed))
    assert lost == [] and idle <= 0.03


@needs_vad
@pytest.mark.slow
@pytest.mark.parametrize("seed", [61, 62, 63, 64])
def test_held_out_mixes_with_noises_that_beat_meet_the_bars(corpus_dir, seed):
    lost, idle = _bars(_held_out(mixes.labelled_clips(corpus_dir), seed, MORE_NOISES))
    assert lost == [] and idle <= 0.03


@needs_vad
@pytest.mark.slow
@pytest.mark.parametrize("seed", [4, 5, 6, 7, 8])
def test_held_out_mixes_of_other_clips_lose_hardly_a_word(corpus_dir, seed):
    recordings = _held_out(held_out_mixes.clips(corpus_dir), seed)
    lost, _ = _bars(recordings)
    assert len(lost) <= 0.005 * sum(len(mix.words) for mix in recordings), lost


def test_the_first_loud_frames_of_a_gap_before_speech_stay():
    levels = np.full(1000, -50.0)
    levels[930:980] = -25.0
    assert hybrid._without_loud_ends(Span(0, 1000), levels) == Span(0, 920)
    levels[5:40] = -25.0
    assert hybrid._without_loud_ends(Span(0, 1000), levels) == Span(50, 920)
    # What is not next to an end is left to the VAD.
    levels[:] = -50.0
    levels[500:560] = -25.0
    assert hybrid._without_loud_ends(Span(0, 1000), levels) == Span(0, 1000)
