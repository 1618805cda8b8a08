"""Proven silence: its floor is local, and clicks are no sound."""

import numpy as np
import pytest

from actors.config import SegmenterConfig
from actors.records import SAMPLING_RATE
from actors.segmentation import silence
from actors.segmentation.energy import segment
from actors.segmentation.levels import frame_levels, without_clicks
from actors.segmentation.silence import local_floors
from tests.actors.segmentation.mixes import Mix, at_level, hum, labelled_clips, mixes, voice, white

CONFIG = SegmenterConfig()


def int16(wave):
    return np.rint(wave * 32767).clip(-32768, 32767).astype(np.int16)


@pytest.mark.parametrize("quiet", [-60.0, -68.0, -72.0])
@pytest.mark.parametrize("silence_dbfs", [-60, -50])
def test_quiet_speech_behind_loud_noise_is_kept(quiet, silence_dbfs):
    rng = np.random.default_rng(1)
    loud = at_level(voice(100, rng).samples, -20)
    loud += at_level(white(len(loud), rng), -45)
    clip = voice(32, rng)
    soft = at_level(clip.samples, quiet) + 10 ** (-90 / 20) * rng.standard_normal(len(clip.samples))
    words = [type(word)(word.start + len(loud), word.end + len(loud)) for word in clip.words]
    mix = Mix("", int16(np.concatenate([loud, soft])), words)
    assert mix.lost_words(segment(mix.samples, SegmenterConfig(silence_dbfs=silence_dbfs))) == []


def test_hum_at_minus_55_is_silence():
    rng = np.random.default_rng(2)
    speech = at_level(voice(30, rng).samples, -22)
    around = at_level(hum(60 * SAMPLING_RATE, rng), -55)
    spans = segment(int16(np.concatenate([around, speech, around])), CONFIG)
    assert sum(span.duration for span in spans) == pytest.approx(30.4, abs=0.5)


@pytest.mark.parametrize("length", [1, 100, 320])
def test_a_click_in_silence_is_no_segment(length):
    wave = np.zeros(30 * SAMPLING_RATE, np.int16)
    wave[200_000 : 200_000 + length] = 20_000 * (-1) ** np.arange(length)
    assert segment(wave, CONFIG) == []
    noise = int16(10 ** (-70 / 20) * np.random.default_rng(3).standard_normal(len(wave)))
    noise[200_000 : 200_000 + length] = wave[200_000 : 200_000 + length]
    assert segment(noise, CONFIG) == []


def test_a_short_word_in_silence_is_a_segment():
    wave = np.zeros(30 * SAMPLING_RATE)
    wave[200_000:201_600] = at_level(white(1600, np.random.default_rng(4)), -25)
    (span,) = segment(int16(wave), CONFIG)
    assert span.start < 200_000 < 201_600 < span.end


def test_clicks_are_replaced_by_the_levels_around_them():
    levels = np.full(400, -70.0)
    levels[100:103], levels[200:204] = -20, -20
    result = without_clicks(levels)
    assert (result[90:110] == -70).all()
    # 40 ms are no click.
    assert (result[200:204] == -20).all()
    assert without_clicks(np.zeros(0)).shape == (0,)


def test_the_floor_is_that_of_the_quietest_ten_seconds_within_thirty():
    levels = np.concatenate([np.full(9000, -40.0), np.full(1000, -75.0), np.full(9000, -40.0)])
    floors = local_floors(levels, -40.0)
    assert floors[:6000].tolist() == [-40.0] * 6000 and (floors[6000:13_000] == -75).all()
    assert (floors[13_000:] == -40).all()


def test_digital_silence_has_no_floor():
    levels = np.concatenate([np.full(3000, -120.0), np.full(3000, -40.0)])
    assert (local_floors(levels, -45.0) == -45).all()


@pytest.mark.parametrize("count", [1, 7, 999, 1001, 12_345])
def test_every_frame_has_a_floor(count):
    levels = frame_levels(int16(at_level(white(count * 160, np.random.default_rng(5)), -50)))
    assert local_floors(levels, -50.0).shape == (count,)


@pytest.mark.parametrize("noise", [white, hum])
@pytest.mark.parametrize("dbfs", [-62.0, -54.0])
def test_a_steady_noise_beside_a_quieter_room_is_silence(noise, dbfs):
    """The floor of the room is no reason to send what is no quiet speech."""
    rng = np.random.default_rng(6)
    speech = at_level(voice(20, rng).samples, -22)
    bed = at_level(noise(160 * SAMPLING_RATE, rng), dbfs)
    bed[60 * SAMPLING_RATE : 60 * SAMPLING_RATE + len(speech)] += speech
    # A room of 8 s does not change the floor of the whole recording, but that of 30 s around it.
    wave = np.concatenate([bed, np.zeros(8 * SAMPLING_RATE), speech])
    spans = segment(int16(wave + 10 ** (-76 / 20) * rng.standard_normal(len(wave))), CONFIG)
    assert sum(span.duration for span in spans) == pytest.approx(2 * len(speech) / SAMPLING_RATE, abs=1.5)


@pytest.mark.parametrize("above", [6.0, 12.0, 20.0])
def test_quiet_speech_over_noise_beside_a_quieter_room_is_kept(above):
    rng = np.random.default_rng(7)
    loud = at_level(voice(60, rng).samples, -20)
    clip = voice(30, rng)
    soft = at_level(clip.samples, -62) + at_level(white(len(clip.samples), rng), -62 - above)
    room = np.zeros(40 * SAMPLING_RATE)
    wave = np.concatenate([loud + at_level(white(len(loud), rng), -50), soft, room])
    words = [type(word)(word.start + len(loud), word.end + len(loud)) for word in clip.words]
    samples = int16(wave + 10 ** (-88 / 20) * rng.standard_normal(len(wave)))
    assert Mix("", samples, words).lost_words(segment(samples, CONFIG)) == []


def test_the_local_floor_sends_hardly_more_than_one_floor_and_loses_no_word(corpus_dir, monkeypatch):
    """On mixes with known words: where there is no quiet speech, the local floor changes next to nothing."""
    more = 0.0
    recordings = list(mixes(labelled_clips(corpus_dir)))
    for mix in recordings:
        spans = segment(mix.samples, CONFIG)
        assert mix.lost_words(spans) == [], mix.name
        with monkeypatch.context() as patched:
            patched.setattr(silence, "local_floors", lambda levels, floor: np.full(len(levels), floor))
            before = sum(span.duration for span in segment(mix.samples, CONFIG))
        if "behind" not in mix.name:
            assert sum(span.duration for span in spans) - before <= 0.1, mix.name
        more += sum(span.duration for span in spans) - before
    assert more >= 0
