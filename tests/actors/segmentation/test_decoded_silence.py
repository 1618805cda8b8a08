"""What a decoded shard leaves out: silence and noise, counted and flagged."""

import numpy as np
import pytest
import soundfile

from actors.config import SegmenterConfig
from tests.actors.test_decoder import decode


def test_a_row_says_how_many_seconds_were_left_out(tmp_path, speech):
    wave = np.concatenate([np.zeros(5 * 16_000), speech(6, 16_000, 1), np.zeros(4 * 16_000)])
    soundfile.write(tmp_path / "a.wav", wave, 16_000)
    got = decode(tmp_path / "a.wav")
    sent = sum(segment["end"] - segment["start"] for segment in got["segments"])
    assert got["silence"] == pytest.approx(15 - sent) and got["silence"] > 8
    assert all(segment["flags"] == [] for segment in got["segments"])


def test_noise_is_left_out_and_the_row_is_flagged(tmp_path):
    pytest.importorskip("silero_vad", reason="needs the extra `vad`")
    soundfile.write(tmp_path / "a.wav", 0.05 * np.random.default_rng(1).standard_normal(160_000), 16_000)
    got = decode(tmp_path / "a.wav", segmenter=SegmenterConfig(backend="hybrid"))
    assert (got["status"], got["segments"], got["silence"]) == ("no_speech", [], 10.0)
    assert got["flags"] == ["speech_unlikely"]
