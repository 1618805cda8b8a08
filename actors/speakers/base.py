"""The interface of a speaker model: who speaks when in a few seconds, and what a voice sounds like."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from actors.backends.base import Device
from actors.records import SAMPLING_RATE

# Samples of a chunk, the input of `activities`: ten seconds.
CHUNK_SAMPLES = 10 * SAMPLING_RATE
# Speakers that are told apart within a chunk.
LOCAL_SPEAKERS = 3
# Samples between two frames of `activities`, samples that one frame sees, and frames of a chunk.
FRAME_STEP, FRAME_SAMPLES, CHUNK_FRAMES = 270, 991, 589
# Samples of a window, the input of `embed`.
WINDOW_SAMPLES = 3 * SAMPLING_RATE // 2


# Cosine similarity of the means of two groups of voices above which they are one person, by backend.
# campplus: found on other voices than those of the benchmark; pyannote: from what its authors use, not tuned
# here; fake: its bands hardly overlap.
THRESHOLDS = {"campplus": 0.5, "pyannote": 0.45, "fake": 0.8}


class SpeakerBackend(Protocol):
    """A speaker model.

    Attributes:
        model: its name, for the provenance of embeddings: those of different models cannot be compared.
        revision: its version.
        device: where it runs; None: in no device of this process.
        dimension: length of an embedding.
    """

    model: str
    revision: str
    device: Device | None = None
    dimension: int

    def activities(self, chunks: np.ndarray) -> np.ndarray:
        """Who speaks when in each chunk.

        Args:
            chunks: waveforms in [-1, 1], float32, shape (chunks, CHUNK_SAMPLES).

        Returns:
            Booleans of shape (chunks, CHUNK_FRAMES, LOCAL_SPEAKERS). A speaker's number holds within a chunk.
        """
        ...

    def embed(self, windows: np.ndarray) -> np.ndarray:
        """What the voice in each window sounds like.

        Args:
            windows: waveforms of one voice each, float32, shape (windows, WINDOW_SAMPLES).

        Returns:
            Unit vectors, float32, shape (windows, dimension).
        """
        ...
