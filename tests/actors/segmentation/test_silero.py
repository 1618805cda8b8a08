"""Silero's speech regions: the rules for probabilities, and the model on real speech and silence."""

import json

import numpy as np
import pytest

from actors.config import SegmenterConfig
from actors.records import Span
from actors.segmentation.silero import STEP, speech_regions

CONFIG = SegmenterConfig(backend="silero")


def test_regions_have_hysteresis_close_gaps_and_drop_bursts():
    probabilities = np.array(
        [0.1, 0.6, 0.4, 0.4, 0.6, 0.1] + [0.1] * 30 + [0.9] * 2 + [0.1] * 30 + [0.9] * 10, np.float32
    )
    total = len(probabilities) * STEP - 100
    regions = speech_regions(probabilities, 0.5, 0.5, total)
    assert regions == [Span(1 * STEP, 5 * STEP), Span(68 * STEP, total)]
    joined = speech_regions(np.array([0.9] * 10 + [0.0] * 5 + [0.9] * 10, np.float32), 0.5, 0.5, 25 * STEP)
    assert joined == [Span(0, 25 * STEP)]


@pytest.mark.slow
def test_the_model_finds_speech_and_batching_changes_nothing(corpus_dir):
    pytest.importorskip("silero_vad", reason="needs the extra `vad`")
    import soundfile

    from actors.segmentation.silero import find_speech, speech_probabilities

    rows = [json.loads(line) for line in (corpus_dir / "manifest.jsonl").read_text("utf-8").splitlines()]
    clip = next(row["audio"] for row in rows if row["audio"].endswith("jfk_16k.wav"))
    voice = soundfile.read(corpus_dir / clip, dtype="int16")[0]
    quiet = np.zeros(40_000, np.int16)
    # More than one piece of 30 s.
    long = np.concatenate([voice, quiet, voice, voice, quiet, voice])
    spoken, silent, _ = find_speech([voice, quiet, long], CONFIG)
    assert sum(span.duration for span in spoken) > 6
    assert silent == []
    single, batched = speech_probabilities([long])[0], speech_probabilities([voice, quiet, long])[2]
    assert np.abs(single - batched).max() < 1e-3
    assert len(single) == -(-len(long) // STEP)
