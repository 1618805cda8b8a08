"""Silero's speech regions: the rules for probabilities, and the model on real speech and silence."""

import json
import os
import pickle
import subprocess
import sys
import zipfile

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


def test_the_weights_are_read_without_torch_and_answer_like_the_packages_model():
    pytest.importorskip("silero_vad", reason="needs the extra `vad`")
    from actors.segmentation.silero_network import ScriptedNetwork, own_network

    own = own_network()
    assert own is not None, "the installed silero-vad is built in another way: every process imports torch"
    rng = np.random.default_rng(0)
    waves = [rng.normal(0, 0.1, samples).astype(np.float32) for samples in (300, STEP, 20 * STEP, 40_000)]
    package = ScriptedNetwork()
    expected = package.probabilities([package.features(wave) for wave in waves])
    for found, wanted in zip(
        own.probabilities([own.features(wave) for wave in waves]), expected, strict=True
    ):
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() < 1e-4


def test_a_process_that_asks_the_vad_does_not_import_torch():
    pytest.importorskip("silero_vad", reason="needs the extra `vad`")
    code = (
        "import sys, numpy as np; from actors.segmentation.silero import speech_probabilities; "
        "speech_probabilities([np.zeros(32_000, np.int16)]); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_another_model_file_is_refused(tmp_path):
    from actors.segmentation.silero_network import Network, read_weights

    with zipfile.ZipFile(tmp_path / "model.jit", "w") as archive:
        archive.writestr("other/data.pkl", pickle.dumps({"weights": os.system}))
    with pytest.raises(pickle.UnpicklingError):
        read_weights(tmp_path / "model.jit")
    with pytest.raises(ValueError, match="no stft"):
        Network({})


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
