"""Samples that are no sound, and channels that cancel each other for a while: neither may cost what is said around them."""

import numpy as np
import pytest
import soundfile

from actors.audio.decoding import decode_span
from actors.audio.pcm import to_int16
from actors.audio.sources import open_audio
from actors.audio.timeline import SampleReader


def decode(path, channel="mix"):
    with open_audio(str(path)) as file:
        return decode_span(SampleReader(file), 0, None, channel)


def level(samples):
    """dB relative to full scale."""
    return 20 * np.log10(np.sqrt(np.mean(samples.astype(float) ** 2)) / 32768 + 1e-9)


def pieces_of(wave):
    wave = wave.astype(np.float32).reshape(-1, 1)
    return [wave[place : place + 16_000] for place in range(0, len(wave), 16_000)]


@pytest.mark.parametrize("wild", [1e6, -3e4, 1e30])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_one_wild_sample_does_not_decide_about_the_level(tmp_path, speech, rate, wild):
    wave = speech(20, rate).astype(np.float32)
    soundfile.write(tmp_path / "sound.wav", wave, rate, subtype="FLOAT")
    wave[10 * rate] = wild
    soundfile.write(tmp_path / "wild.wav", wave, rate, subtype="FLOAT")
    sound, got = decode(tmp_path / "sound.wav"), decode(tmp_path / "wild.wav")
    assert (
        got.flags == (["non_finite_samples"] if wild == 1e30 else ["decode_errors"]) and got.end == sound.end
    )
    same = np.abs(got.samples[0].astype(int) - sound.samples[0]) <= 1
    assert same[: 16_000 * 9].all() and same[16_000 * 11 :].all() and (~same).sum() < 800


@pytest.mark.parametrize("codec", ["mp3", "pcm_f32le"])
def test_frames_of_nonsense_become_silence_and_the_rest_keeps_its_level(speech, codec):
    """What a decoder makes of damaged mp3 frames: a thousand samples of 1e4 where 1 is full scale, with more around them."""
    wave = speech(60, 16_000)
    expected = to_int16(pieces_of(wave), 1, codec)
    rng = np.random.default_rng(0)
    wave[320_000:321_000] = 1e4 * rng.uniform(-1, 1, 1000)
    wave[321_000:321_200] = 5 * rng.uniform(-1, 1, 200)
    got = to_int16(pieces_of(wave), 1, codec)
    assert expected.flags == [] and 0.06 <= got.nonsense <= 0.09
    assert got.flags == expected.flags and not got.samples[0, 320_000:321_200].any()
    assert np.array_equal(got.samples[0, 322_000:], expected.samples[0, 322_000:])


def test_damage_all_over_an_mp3_does_not_count_either(speech):
    wave = speech(60, 16_000)
    expected = to_int16(pieces_of(wave), 1, "mp3")
    damaged = wave.copy()
    for place in range(50_000, 900_000, 100_000):
        damaged[place : place + 600] *= 1e5
    got = to_int16(pieces_of(damaged), 1, "mp3")
    untouched = damaged[:900_000] == wave[:900_000]
    untouched = untouched.reshape(-1, 160).all(axis=1).repeat(160)
    assert got.flags == [] and np.array_equal(
        got.samples[0, :900_000][untouched], expected.samples[0, :900_000][untouched]
    )


def test_what_is_loud_in_earnest_is_scaled_as_the_reference_does(speech):
    """Divided by the peak and clipped, whatever the scale; a bang above speech too, and one word in a long silence."""
    wave = speech(20, 16_000).astype(np.float32)
    bang = wave.copy()
    bang[100_000:100_200] = 9.0
    word = np.zeros(16_000 * 60, np.float32)
    word[160_000:164_000] = wave[8000:12_000] * 20_000
    for loud in (wave * 5, wave * 40, wave * 32768, wave * 1e13, bang, word, wave[:1200] * 1000):
        got = to_int16(pieces_of(loud), 1, "pcm_f32le")
        scale = np.float32(32768 * (1 / float(np.abs(loud).max())))
        assert got.nonsense == 0 and got.flags[0] == "peak_scaled"
        assert np.array_equal(got.samples[0], np.rint(loud * scale).clip(-32768, 32767).astype(np.int16))


def test_a_recording_of_great_numbers_is_no_nonsense(tmp_path, speech):
    wave = speech(3, 16_000)
    soundfile.write(tmp_path / "a.wav", wave * 1e15, 16_000, subtype="FLOAT")
    got = decode(tmp_path / "a.wav")
    assert got.flags == ["peak_scaled"] and np.corrcoef(got.samples[0], wave)[0, 1] > 0.9999


def test_speech_of_opposite_channels_is_heard_beside_a_jingle(tmp_path, speech):
    """Three seconds in phase: the mix of the whole is no silence, all that is said in it would be."""
    rate = 22_050
    jingle = 0.3 * np.sin(2 * np.pi * 440 * np.arange(3 * rate) / rate)
    wave, right_only = speech(20, rate), speech(5, rate, 1)
    left = np.concatenate([jingle, wave, 0 * right_only])
    right = np.concatenate([jingle, -wave, right_only])
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), rate, subtype="PCM_16")
    got = decode(tmp_path / "a.wav")
    assert got.flags == ["phase_cancelled_partly"] and got.channels == [None] and got.end == 28 * 16_000
    jingle, wave, right_only = np.split(got.samples[0], [3 * 16_000, 23 * 16_000])
    assert level(jingle) == pytest.approx(-13.5, abs=0.5)
    assert level(wave) > -40 and level(right_only) > -40


def test_an_ordinary_stereo_mix_stays_the_mean(tmp_path, speech):
    """Two speakers, one on each side, and a moment of opposite polarity that is too short to matter."""
    left, right = speech(10, 16_000, 1), speech(10, 16_000, 2)
    left[80_000:88_000] = -right[80_000:88_000]
    stereo = (np.stack([left, right], axis=1) * 32767).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", stereo, 16_000)
    got = decode(tmp_path / "a.wav")
    assert got.flags == [] and np.abs(got.samples[0] - stereo.mean(axis=1)).max() <= 0.5
