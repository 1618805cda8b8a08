"""A window of a file is decoded like a file that was cut out of it, with times from the start of the file."""

import numpy as np
import pytest
import soundfile

from actors.config import AudioConfig, SegmenterConfig
from actors.decoder import decode_shard
from tests.actors.test_decoder import samples_of

RATE = 16_000
AUDIO = AudioConfig(isolate=False, retries=0)
SEGMENTER = SegmenterConfig(backend="energy", max_duration=5)


@pytest.fixture(scope="module")
def speech():
    """Tones with pauses: 40 s at 16 kHz."""
    time = np.arange(40 * RATE) / RATE
    noise = np.random.default_rng(1).normal(0, 0.2, len(time))
    return (noise * (np.sin(2 * np.pi * time / 2.7) > -0.6) * 12000).astype(np.int16)


def shard(path, start, end, window=None, **more):
    row = {"audio": str(path), "start": start, "end": end, "duration": None, "window": window, "index": 0}
    return decode_shard(row | more, AUDIO, SEGMENTER)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
@pytest.mark.parametrize(("start", "end"), [(0.0, 7.5), (3.21, 19.87), (31.0, 40.0), (12.3456, 12.9)])
def test_a_window_equals_a_cut_file(tmp_path, speech, suffix, start, end):
    whole, cut = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    soundfile.write(whole, speech, RATE)
    first, last = round(start * RATE), round(end * RATE)
    soundfile.write(cut, speech[first:last], RATE)
    window = shard(whole, start, end, {"start": start, "end": end}, duration=end - start)
    file = shard(cut, 0.0, None)
    assert (window["status"], window["flags"]) == ("ok", [])
    assert np.array_equal(samples_of([window]), samples_of([file]))
    for ours, theirs in zip(window["segments"], file["segments"], strict=True):
        assert ours["start"] == pytest.approx(theirs["start"] + first / RATE, abs=1e-9)
        assert ours["end"] == pytest.approx(theirs["end"] + first / RATE, abs=1e-9)
    assert (window["decoded_start"], window["decoded_end"]) == (first / RATE, last / RATE)


def test_shards_of_a_window_equal_those_of_a_cut_file(tmp_path, speech):
    soundfile.write(tmp_path / "whole.wav", speech, RATE)
    soundfile.write(tmp_path / "cut.wav", speech[6 * RATE : 26 * RATE], RATE)
    window = {"start": 6.0, "end": 26.0}
    spans = [(0.0, 4.0), (4.0, 12.0), (12.0, 20.0)]
    ours = [shard(tmp_path / "whole.wav", a + 6, b + 6, window) for a, b in spans]
    theirs = [shard(tmp_path / "cut.wav", a, None if b == 20 else b) for a, b in spans]
    borders = [row["decoded_start"] for row in theirs]
    assert [row["decoded_start"] - 6 for row in ours] == pytest.approx(borders)
    assert np.array_equal(samples_of(ours), samples_of(theirs))
    assert ours[0]["decoded_end"] == ours[1]["decoded_start"]


def test_a_window_to_the_end_of_the_file_has_no_end(tmp_path, speech):
    soundfile.write(tmp_path / "a.wav", speech, RATE)
    row = shard(tmp_path / "a.wav", 30.0, None, {"start": 30.0, "end": None}, duration=10.0)
    assert (row["status"], row["decoded_start"], row["decoded_end"]) == ("ok", 30.0, 40.0)


@pytest.mark.parametrize(("end", "status", "flags"), [(40.05, "ok", []), (45.0, "partial", ["beyond_end"])])
def test_a_window_that_ends_behind_the_file_is_flagged(tmp_path, speech, end, status, flags):
    soundfile.write(tmp_path / "a.wav", speech, RATE)
    row = shard(tmp_path / "a.wav", 35.0, end, {"start": 35.0, "end": end}, duration=end - 35.0)
    assert (row["status"], row["flags"], row["decoded_end"]) == (status, flags, 40.0)


def test_a_window_behind_the_end_of_the_file_is_an_error(tmp_path, speech):
    soundfile.write(tmp_path / "a.wav", speech, RATE)
    row = shard(tmp_path / "a.wav", 50.0, 55.0, {"start": 50.0, "end": 55.0})
    assert (row["status"], row["error_code"]) == ("error", "no_samples")
    assert "begins at 50 s, but the file ends at 40 s" in row["error_message"]


def test_a_later_shard_behind_the_end_of_the_file_is_partial(tmp_path, speech):
    soundfile.write(tmp_path / "a.wav", speech, RATE)
    row = shard(tmp_path / "a.wav", 60.0, 80.0, {"start": 20.0, "end": 80.0}, index=2)
    assert (row["status"], row["flags"]) == ("partial", ["beyond_end"])
