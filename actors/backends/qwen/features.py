"""Log-mel features, one clip at a time, and their collation into a batch.

The stock processor pads *waveforms* to the longest of the batch. The STFT then sees other samples at a clip's end, and the last frames of
its features, and through the encoder's attention the text, depend on the clip's neighbours. Here features are made per clip and the
*features* are zero-padded: what the model gets for a clip is the same, bit for bit, in every batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from actors.records import SAMPLING_RATE

if TYPE_CHECKING:
    import torch

Request = TypeVar("Request")

GPU_THREADS = 4  # a core makes 1,400 seconds of features a second, half of what a GPU recognises in that time
MIN_SAMPLES = 8_000  # 0.5 s: the model was not trained on less; shorter clips get silence behind them
TOKENS_PER_SECOND = 13  # audio tokens of a full second: 100 frames through three convolutions of stride 2


@dataclass(frozen=True, slots=True)
class Mel:
    """Features of one clip."""

    features: torch.Tensor  # float32 (mel bins, padded frames); frames are padded to whole encoder chunks
    frames: int  # valid ones, 100 a second

    @property
    def tokens(self) -> int:
        """How many audio tokens the encoder makes of it."""
        return audio_tokens(self.frames)


def extract(extractor: Any, waveform: np.ndarray, n_window: int = 50) -> Mel:
    """Features of one clip, exactly as the processor makes them for a batch of one.

    Args:
        extractor: a Qwen3ASRFeatureExtractor.
        waveform: int16, mono, 16 kHz, shape (samples,). Divided by 32,768; no peak normalisation, so that a level means the same
            in every segment of a recording.
        n_window: half an encoder chunk, in frames.
    """
    samples = waveform.astype(np.float32) / 32768
    if len(samples) < MIN_SAMPLES:
        samples = np.pad(samples, (0, MIN_SAMPLES - len(samples)))
    output = extractor(
        [samples], padding=True, sampling_rate=SAMPLING_RATE, return_attention_mask=True, n_window=n_window
    )
    return Mel(output["input_features"][0], int(output["attention_mask"][0].sum()))


def collate(mels: Sequence[Mel]) -> tuple[torch.Tensor, torch.Tensor]:
    """Zero-pad features to the longest clip.

    Returns:
        Features float32 (clips, mel bins, frames), and their mask int64 (clips, frames), 1 where a frame is real.
    """
    import torch

    bins = mels[0].features.shape[0]
    longest = max(mel.features.shape[1] for mel in mels)
    features = torch.zeros(len(mels), bins, longest)
    mask = torch.zeros(len(mels), longest, dtype=torch.long)
    for row, mel in enumerate(mels):
        features[row, :, : mel.features.shape[1]] = mel.features
        mask[row, : mel.frames] = 1
    return features, mask


def audio_tokens(frames: int, n_window: int = 50) -> int:
    """How many tokens the encoder makes of so many mel frames: 13 for each full chunk, and three halvings, rounded up, of the rest."""
    chunks, rest = divmod(frames, 2 * n_window)
    for _ in range(3):
        rest = (rest + 1) // 2
    return chunks * TOKENS_PER_SECOND + rest


class Ahead(Generic[Request]):
    """Features made by threads while the model computes the batch before.

    They are found again by the request itself, the same object, never by its content or place: a segment cannot get another's features.

    Args:
        make: features of one request.
        threads: 0: nothing is made ahead. So on a CPU, whose cores are busy with the model.
    """

    def __init__(self, make: Callable[[Request], Mel], threads: int) -> None:
        self._make = make
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="mel") if threads else None
        self._older: dict[int, tuple[Request, Future[Mel]]] = {}
        self._newer: dict[int, tuple[Request, Future[Mel]]] = {}

    def start(self, requests: Sequence[Request]) -> None:
        """Begin with these requests. What was begun two calls ago and never taken is forgotten."""
        if self._pool is not None:
            # With its request in hand no id can come to mean another one.
            self._older, self._newer = (
                self._newer,
                {id(request): (request, self._pool.submit(self._make, request)) for request in requests},
            )

    def take(self, request: Request) -> Mel:
        """The features of a request: begun before, or made now. Raises what making them raised."""
        found = self._older.pop(id(request), None) or self._newer.pop(id(request), None)
        return found[1].result() if found else self._make(request)
