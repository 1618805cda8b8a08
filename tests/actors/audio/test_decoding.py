"""Spans of recordings in every codec have exact positions, exact lengths and clean samples."""

import json

import numpy as np
import pytest
import soundfile

from actors.audio.decoding import decode_span
from actors.audio.frames import DecodeLosses
from actors.audio.sources import open_audio
from actors.audio.timeline import SampleReader
from actors.errors import RowError

NAMES = [
    "pcm.wav",
    "pcm44.wav",
    "lossless.flac",
    "constant.mp3",
    "tagless.mp3",
    "lossy.m4a",
    "raw.aac",
    "lossy.opus",
    "lossy.webm",
    "live.webm",
    "lossy.mkv",
    "vorbis.ogg",
]
# AAC fills bands with noise, which depends on what was decoded before.
NOISY = ("lossy.m4a", "raw.aac", "lossy.mkv")


def decode(path, start=0, end=None, channel="mix", limit=None):
    with open_audio(str(path)) as file:
        return decode_span(SampleReader(file), start, end, channel, limit)


@pytest.mark.parametrize("name", NAMES)
def test_a_span_equals_that_part_of_the_whole_recording(encoded, name):
    path = encoded(name)
    whole = decode(path)
    assert abs(whole.end - 40 * 16_000) < 0.08 * 16_000
    assert whole.start == 0
    assert whole.reached_end
    assert whole.flags == []
    last = whole.end - 12_345
    for start, end in ((0, 50_001), (3, 16_000), (200_003, 330_001), (480_000, 480_161), (last, None)):
        part = decode(path, start, end)
        assert (part.start, part.end) == (start, whole.end if end is None else end)
        assert part.reached_end == (end is None)
        expected, got = whole.samples[0, start : part.end].astype(float), part.samples[0].astype(float)
        if name in NOISY:
            assert np.sqrt(np.mean((expected - got) ** 2)) < 0.02 * whole.samples.std()
        else:
            assert np.array_equal(expected, got), (start, end)


def test_sixteen_bit_samples_pass_unchanged(tmp_path, speech):
    wave = (speech(3, 16_000) * 32767).astype(np.int16)
    for name in ("a.wav", "a.flac", "a.aiff"):
        soundfile.write(tmp_path / name, wave, 16_000)
        assert np.array_equal(decode(tmp_path / name).samples[0], wave)


def test_positions_are_right_after_resampling(tmp_path):
    """A click at a known time is found at that time for every sampling rate."""
    for rate in (8_000, 11_025, 22_050, 32_000, 44_056, 48_000, 96_000):
        wave = np.zeros(rate * 12, np.float32)
        wave[rate * 9] = 0.9
        soundfile.write(tmp_path / "a.wav", wave, rate, subtype="PCM_16")
        got = decode(tmp_path / "a.wav", 100_000, 160_000)
        assert 100_000 + int(np.abs(got.samples[0].astype(int)).argmax()) == 144_000, rate


@pytest.mark.parametrize(
    "subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM"]
)
def test_every_sample_format_keeps_the_waveform(tmp_path, speech, subtype):
    wave = speech(2, 16_000)
    soundfile.write(tmp_path / "a.wav", wave, 16_000, subtype=subtype)
    got = decode(tmp_path / "a.wav")
    error = got.samples[0, : len(wave)] / 32768 - wave
    assert np.sqrt(np.mean(error**2)) < (0.01 if subtype in ("PCM_U8", "ULAW", "ALAW", "IMA_ADPCM") else 1e-4)
    assert got.flags == []


def test_a_channel_policy_selects_its_channels(tmp_path, write):
    rng = np.random.default_rng(0)
    waves = rng.integers(-3000, 3000, (8000, 8)).astype(np.int16)
    soundfile.write(tmp_path / "eight.wav", waves, 16_000)
    soundfile.write(tmp_path / "two.wav", waves[:, :2], 16_000)
    soundfile.write(tmp_path / "one.wav", waves[:, 0], 16_000)
    assert np.abs(decode(tmp_path / "eight.wav").samples[0] - waves.mean(axis=1)).max() <= 0.5
    each = decode(tmp_path / "eight.wav", channel="each")
    assert np.array_equal(each.samples, waves.T)
    assert each.channels == list(range(8))
    assert np.array_equal(decode(tmp_path / "two.wav", channel="left").samples[0], waves[:, 0])
    assert np.array_equal(decode(tmp_path / "two.wav", channel="right").samples[0], waves[:, 1])
    third = decode(tmp_path / "eight.wav", channel="3")
    assert np.array_equal(third.samples[0], waves[:, 3])
    assert third.channels == [3]
    mono = decode(tmp_path / "one.wav", channel="right")
    assert np.array_equal(mono.samples[0], waves[:, 0])
    assert mono.flags == ["channel_missing"]
    with pytest.raises(RowError, match="channel 5"):
        decode(tmp_path / "two.wav", channel="5")


def test_eight_planar_channels_are_decoded(tmp_path, write):
    """PyAV's own conversion of exactly eight planar channels crashes the process."""
    time = np.arange(16_000) / 16_000
    waves = np.stack([0.2 * np.sin(2 * np.pi * 200 * (k + 1) * time) for k in range(8)], axis=1)
    got = decode(write(tmp_path / "eight.m4a", waves, "aac", 16_000), channel="each")
    assert got.samples.shape[0] == 8
    assert (np.abs(got.samples[[0, 1, 4, 5]].astype(float)).mean(axis=1) > 1000).all()


def test_bad_samples_are_corrected_and_flagged(tmp_path, speech):
    wave = speech(2, 16_000).astype(np.float32)

    def written(samples, subtype="FLOAT"):
        soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype=subtype)
        return decode(tmp_path / "a.wav")

    broken = wave.copy()
    broken[100:110], broken[200], broken[300] = np.nan, np.inf, -np.inf
    got = written(broken)
    assert got.flags == ["non_finite_samples"]
    assert not got.samples[0, 100:110].any()
    assert got.samples[0, 200] == 0
    got = written(wave * 40)
    assert got.flags == ["peak_scaled"]
    assert np.abs(got.samples).max() >= 32767
    assert np.corrcoef(got.samples[0], wave)[0, 1] > 0.9999
    got = written(wave + 0.3)
    assert got.flags == ["dc_offset_removed"]
    assert abs(got.samples.mean()) < 2
    got = written((wave * 30).clip(-1, 1), "PCM_16")
    assert "clipped" in got.flags
    assert "peak_scaled" not in got.flags


def test_channels_that_cancel_each_other_are_flagged(tmp_path, speech):
    wave = speech(2, 16_000)
    soundfile.write(tmp_path / "a.wav", np.stack([wave, -wave], axis=1), 16_000)
    assert decode(tmp_path / "a.wav").flags == ["phase_cancelled"]


def test_a_recording_far_longer_than_planned_is_too_long(encoded):
    with pytest.raises(RowError) as error:
        decode(encoded("pcm.wav"), 0, None, limit=20 * 16_000)
    assert error.value.code == "too_long"


def test_a_span_behind_the_end_is_empty_and_has_the_true_end(encoded):
    for name in ("pcm.wav", "lossless.flac", "constant.mp3", "lossy.m4a", "lossy.opus", "live.webm"):
        got = decode(encoded(name), 100 * 16_000, 101 * 16_000)
        assert got.samples.size == 0, name
        assert got.reached_end, name
        assert abs(got.end - 40 * 16_000) < 1000, name


def test_damaged_bytes_cost_only_their_own_audio(encoded, tmp_path):
    data = bytearray(encoded("lossless.flac").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 20_000] = bytes(20_000)
    (tmp_path / "a.flac").write_bytes(data)
    whole, got = decode(encoded("lossless.flac")), decode(tmp_path / "a.flac")
    assert got.end == whole.end
    assert got.losses.filled > 0
    assert "gap_filled" in got.flags
    # The audio behind the damage keeps its position.
    assert np.array_equal(got.samples[0, -160_000:], whole.samples[0, -160_000:])
    assert np.array_equal(got.samples[0, :160_000], whole.samples[0, :160_000])


def test_memory_is_bounded_by_blocks(encoded):
    with open_audio(str(encoded("pcm44.wav"))) as file:
        recording = SampleReader(file)
        sizes = [len(block.samples) for block in recording.blocks(0, DecodeLosses())]
    assert max(sizes) <= 2 * 44_100
    assert sum(sizes) == 40 * 44_100


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_real_recordings_have_the_durations_of_the_manifest(corpus_dir):
    for line in (corpus_dir / "manifest.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        got = decode(corpus_dir / row["audio"])
        assert got.end / 16_000 == pytest.approx(row["duration"], abs=0.05), row["audio"]
        assert "decode_errors" not in got.flags, row["audio"]
        assert "gap_filled" not in got.flags, row["audio"]
