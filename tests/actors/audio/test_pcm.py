"""Samples that are not sound, and channels that cancel each other for a while, do not damage other speech."""

import numpy as np
import pytest
import soundfile

from actors.audio.decoding import decode_span
from actors.audio.pcm import to_int16
from actors.audio.sources import open_audio
from actors.audio.timeline import SampleReader
from actors.config import AudioConfig, SegmenterConfig
from actors.decoder import decode_shard


def decode(path, channel="mix"):
    with open_audio(str(path)) as file:
        return decode_span(SampleReader(file), 0, None, channel)


def level(samples):
    """dB relative to full scale."""
    return 20 * np.log10(np.sqrt(np.mean(samples.astype(float) ** 2)) / 32768 + 1e-9)


def blocks_of(wave):
    wave = wave.astype(np.float32).reshape(-1, 1)
    return [wave[place : place + 16_000] for place in range(0, len(wave), 16_000)]


@pytest.mark.parametrize("outlier", [1e6, -3e4, 1e30])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_one_outlier_does_not_change_the_level(tmp_path, speech, rate, outlier):
    wave = speech(20, rate).astype(np.float32)
    soundfile.write(tmp_path / "sound.wav", wave, rate, subtype="FLOAT")
    wave[10 * rate] = outlier
    soundfile.write(tmp_path / "outlier.wav", wave, rate, subtype="FLOAT")
    sound, got = decode(tmp_path / "sound.wav"), decode(tmp_path / "outlier.wav")
    assert got.flags == (["non_finite_samples"] if outlier == 1e30 else ["decode_errors"])
    assert got.end == sound.end
    same = np.abs(got.samples[0].astype(int) - sound.samples[0]) <= 1
    assert same[: 16_000 * 9].all()
    assert same[16_000 * 11 :].all()
    assert (~same).sum() < 800


@pytest.mark.parametrize("codec", ["mp3", "pcm_f32le"])
def test_outlier_frames_become_silence_and_the_rest_keeps_its_level(speech, codec):
    """Damaged mp3 data decodes to such frames: a thousand samples of 1e4 (1 is full scale) and some more."""
    wave = speech(60, 16_000)
    expected = to_int16(blocks_of(wave), 1, codec)
    rng = np.random.default_rng(0)
    wave[320_000:321_000] = 1e4 * rng.uniform(-1, 1, 1000)
    wave[321_000:321_200] = 5 * rng.uniform(-1, 1, 200)
    got = to_int16(blocks_of(wave), 1, codec)
    assert expected.flags == []
    assert 0.06 <= got.removed <= 0.09
    assert got.flags == expected.flags
    assert not got.samples[0, 320_000:321_200].any()
    assert np.array_equal(got.samples[0, 322_000:], expected.samples[0, 322_000:])


def test_outliers_all_over_an_mp3_do_not_change_its_level(speech):
    wave = speech(60, 16_000)
    expected = to_int16(blocks_of(wave), 1, "mp3")
    damaged = wave.copy()
    for place in range(50_000, 900_000, 100_000):
        damaged[place : place + 600] *= 1e5
    got = to_int16(blocks_of(damaged), 1, "mp3")
    untouched = damaged[:900_000] == wave[:900_000]
    untouched = untouched.reshape(-1, 160).all(axis=1).repeat(160)
    assert got.flags == []
    assert np.array_equal(got.samples[0, :900_000][untouched], expected.samples[0, :900_000][untouched])


def test_loud_sound_is_scaled_as_the_reference_does(speech):
    """It is divided by its peak at any scale, also a bang above speech, or one word in a long silence."""
    wave = speech(20, 16_000).astype(np.float32)
    bang = wave.copy()
    bang[100_000:100_200] = 9.0
    word = np.zeros(16_000 * 60, np.float32)
    word[160_000:164_000] = wave[8000:12_000] * 20_000
    for loud in (wave * 5, wave * 40, wave * 32768, wave * 1e13, bang, word, wave[:1200] * 1000):
        got = to_int16(blocks_of(loud), 1, "pcm_f32le")
        scale = np.float32(32768 * (1 / float(np.abs(loud).max())))
        assert got.removed == 0
        assert got.flags[0] == "peak_scaled"
        assert np.array_equal(got.samples[0], np.rint(loud * scale).clip(-32768, 32767).astype(np.int16))


def test_a_recording_with_large_sample_values_has_no_outliers(tmp_path, speech):
    wave = speech(3, 16_000)
    soundfile.write(tmp_path / "a.wav", wave * 1e15, 16_000, subtype="FLOAT")
    got = decode(tmp_path / "a.wav")
    assert got.flags == ["peak_scaled"]
    assert np.corrcoef(got.samples[0], wave)[0, 1] > 0.9999


def test_speech_on_cancelling_channels_survives_beside_a_jingle(tmp_path, speech):
    """With three seconds in phase, the mix of the whole is not silence, but all speech in it would be."""
    rate = 22_050
    jingle = 0.3 * np.sin(2 * np.pi * 440 * np.arange(3 * rate) / rate)
    wave, right_only = speech(20, rate), speech(5, rate, 1)
    left = np.concatenate([jingle, wave, 0 * right_only])
    right = np.concatenate([jingle, -wave, right_only])
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), rate, subtype="PCM_16")
    got = decode(tmp_path / "a.wav")
    assert got.flags == ["phase_cancelled_partly"]
    assert got.channels == [None]
    assert got.end == 28 * 16_000
    jingle, wave, right_only = np.split(got.samples[0], [3 * 16_000, 23 * 16_000])
    assert level(jingle) == pytest.approx(-13.5, abs=0.5)
    assert level(wave) > -40
    assert level(right_only) > -40


def test_an_ordinary_stereo_mix_is_the_mean(tmp_path, speech):
    """Two speakers, one on each side, and a moment of opposite polarity that is too short to matter."""
    left, right = speech(10, 16_000, 1), speech(10, 16_000, 2)
    left[80_000:88_000] = -right[80_000:88_000]
    stereo = (np.stack([left, right], axis=1) * 32767).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", stereo, 16_000)
    got = decode(tmp_path / "a.wav")
    assert got.flags == []
    assert np.abs(got.samples[0] - stereo.mean(axis=1)).max() <= 0.5


def test_bytes_that_were_taken_for_floats_do_not_silence_the_rest(tmp_path, speech):
    wave = speech(4, 16_000).astype("<f4")
    path = tmp_path / "a.wav"
    soundfile.write(path, wave, 16_000, subtype="FLOAT")
    content = bytearray(path.read_bytes())
    start = len(content) - wave.nbytes + 4 * 16_000
    # Half a second that lost one byte.
    content[start : start + 32_000] = content[start + 1 : start + 32_001]
    path.write_bytes(content)
    row = decode_shard(
        {"audio": str(path), "start": 0.0, "end": None, "duration": 4.0},
        AudioConfig(),
        SegmenterConfig(backend="energy"),
    )
    assert row["status"] == "ok" and "non_finite_samples" in row["flags"]
    got = np.frombuffer(b"".join(segment["samples"] for segment in row["segments"]), "<i2") / 32768
    first = round(row["segments"][0]["start"] * 16_000)
    assert np.abs(got[2000:12_000] - wave[first + 2000 : first + 12_000]).max() < 0.01
