"""Speakers by pyannote's community-1, for those who have accepted its terms (extra `pyannote`).

Its segmentation and its embedding are used, not its pipeline: clustering has to see all shards of a
recording. The hub asks for an account that has accepted the terms; its token is read from HF_TOKEN as usual.
"""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from actors.errors import FatalError
from actors.speakers.base import CHUNK_FRAMES, LOCAL_SPEAKERS, SpeakerBackend

if TYPE_CHECKING:
    import torch

COMMUNITY = "pyannote/speaker-diarization-community-1"
_CPU_BATCH, _GPU_BATCH = 8, 64


class PyannoteBackend(SpeakerBackend):
    """The two models of community-1.

    Args:
        model: hub id, or a folder with `segmentation/` and `embedding/`; None: community-1.
        device: where they run.

    Raises:
        FatalError: they cannot be loaded; the message says what to do.
    """

    model = "pyannote"

    def __init__(self, model: str | None, device: torch.device) -> None:
        from pyannote.audio.utils.powerset import Powerset

        checkpoint = model or COMMUNITY
        self.device: torch.device = device
        self.revision = importlib.metadata.version("pyannote-audio")
        self._batch = _GPU_BATCH if device.type == "cuda" else _CPU_BATCH
        self._segmentation = _load(checkpoint, "segmentation", device)
        self._embedding = _load(checkpoint, "embedding", device)
        specifications = self._segmentation.specifications
        if not specifications.powerset or len(specifications.classes) != LOCAL_SPEAKERS:
            raise FatalError(
                f"{checkpoint}: its segmentation does not tell {LOCAL_SPEAKERS} speakers apart; "
                f"use {COMMUNITY}"
            )
        self._speakers = Powerset(LOCAL_SPEAKERS, specifications.powerset_max_classes).to(device)
        self.dimension = int(self._embedding.dimension)

    def activities(self, chunks: np.ndarray) -> np.ndarray:
        """See `SpeakerBackend`."""
        active = self._in_batches(
            chunks, lambda waves: self._speakers.to_multilabel(self._segmentation(waves), soft=False)
        )
        if active.shape[1:] != (CHUNK_FRAMES, LOCAL_SPEAKERS):
            raise FatalError(f"the segmentation model has {active.shape[1]} frames a chunk: use {COMMUNITY}")
        return active.astype(bool)

    def embed(self, windows: np.ndarray) -> np.ndarray:
        """See `SpeakerBackend`."""
        vectors = self._in_batches(windows, self._embedding)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)

    def _in_batches(self, waves: np.ndarray, run: Any) -> np.ndarray:
        import torch

        parts = []
        with torch.inference_mode():
            for first in range(0, len(waves), self._batch):
                part = torch.from_numpy(waves[first : first + self._batch, None]).to(self.device)
                parts.append(run(part).float().cpu().numpy())
        return np.concatenate(parts)


def _load(checkpoint: str, part: str, device: torch.device) -> Any:
    from pyannote.audio import Model

    try:
        model = Model.from_pretrained(checkpoint, subfolder=part)
    except Exception as error:  # whatever the hub, the network or the checkpoint raise
        raise FatalError(_advice(checkpoint, part, f"{type(error).__name__}: {error}")) from error
    if model is None:
        raise FatalError(_advice(checkpoint, part, "access was refused"))
    return model.eval().to(device)


def _advice(checkpoint: str, part: str, cause: str) -> str:
    return (
        f"{part} of {checkpoint} cannot be loaded ({cause[:300]}): accept its terms on the hub and set "
        "HF_TOKEN, or use speakers.backend=campplus, which needs no account"
    )
