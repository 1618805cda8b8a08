"""The backend pyannote, against a stand-in for the library: its weights need an account.

The stand-in has what `pyannote.audio` 4.0 documents of `Model.from_pretrained`, `Model.specifications` and
`Powerset.to_multilabel`, with networks of random weights.
"""

import importlib.metadata
import sys
import types
from types import SimpleNamespace

import numpy as np
import pytest

from actors.config.speakers import SpeakersConfig
from actors.errors import FatalError
from actors.speakers import create_speakers
from actors.speakers.base import CHUNK_FRAMES, CHUNK_SAMPLES, WINDOW_SAMPLES

torch = pytest.importorskip("torch")


class Segmentation(torch.nn.Module):
    """Class 1, the first speaker alone, where there is sound; class 0, nobody, elsewhere."""

    specifications = SimpleNamespace(powerset=True, powerset_max_classes=2, classes=["a", "b", "c"])

    def forward(self, waveforms):
        assert waveforms.ndim == 3 and waveforms.shape[1:] == (1, CHUNK_SAMPLES)
        loud = torch.nn.functional.adaptive_max_pool1d(waveforms.abs(), CHUNK_FRAMES)[:, 0] > 0.01
        return torch.nn.functional.one_hot(loud.long(), 7).float().log()


class Embedding(torch.nn.Module):
    dimension = 8

    def forward(self, waveforms):
        assert waveforms.shape[1:] == (1, WINDOW_SAMPLES)
        return 5 * waveforms[:, 0, :8]


class Powerset(torch.nn.Module):
    def __init__(self, num_classes, max_set_size):
        super().__init__()
        assert (num_classes, max_set_size) == (3, 2)

    def to_multilabel(self, powerset, soft=False):
        sets = torch.tensor(
            [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]]
        ).float()
        return sets[powerset.argmax(-1)]


@pytest.fixture
def library(monkeypatch):
    """The stand-in; `loaded` has what was asked for."""
    loaded = []

    def from_pretrained(checkpoint, subfolder=None):
        loaded.append((checkpoint, subfolder))
        if checkpoint == "refused":
            return None
        return {"segmentation": Segmentation, "embedding": Embedding}[subfolder]()

    audio = types.ModuleType("pyannote.audio")
    audio.Model = SimpleNamespace(from_pretrained=from_pretrained)
    powerset = types.ModuleType("pyannote.audio.utils.powerset")
    powerset.Powerset = Powerset
    for name, module in {
        "pyannote.audio": audio,
        "pyannote.audio.utils": types.ModuleType("pyannote.audio.utils"),
        "pyannote.audio.utils.powerset": powerset,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    version = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "4.0.7" if name == "pyannote-audio" else version(name)
    )
    return loaded


def test_both_models_of_community_1_are_loaded(library):
    backend = create_speakers(SpeakersConfig(backend="pyannote", device="cpu"))
    checkpoint = "pyannote/speaker-diarization-community-1"
    assert library == [(checkpoint, "segmentation"), (checkpoint, "embedding")]
    assert (backend.model, backend.revision, backend.dimension) == ("pyannote", "4.0.7", 8)


def test_activities_and_embeddings_have_the_interface(library):
    backend = create_speakers(SpeakersConfig(backend="pyannote", device="cpu"))
    chunks = np.zeros((9, CHUNK_SAMPLES), np.float32)
    chunks[8, : CHUNK_SAMPLES // 2] = 0.5
    active = backend.activities(chunks)
    assert active.shape == (9, CHUNK_FRAMES, 3) and not active[:8].any()
    assert active[8, :290, 0].all() and not active[8, 300:].any()
    windows = np.random.default_rng(0).normal(size=(9, WINDOW_SAMPLES)).astype(np.float32)
    assert np.allclose(np.linalg.norm(backend.embed(windows), axis=1), 1, atol=1e-5)


def test_refused_access_is_told_with_what_to_do(library):
    with pytest.raises(FatalError, match="HF_TOKEN"):
        create_speakers(SpeakersConfig(backend="pyannote", model="refused", device="cpu"))
