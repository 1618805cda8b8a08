"""The network of pyannote's segmentation-3.0: who speaks when in ten seconds, up to three people at a time.

Methods: Bredin, "pyannote.audio 2.1 speaker diarization pipeline" (Interspeech 2023); Plaquet and Bredin,
"Powerset multi-class cross entropy loss for neural speaker diarization" (Interspeech 2023). The filters of
the first layer are those of Pariente et al., "Filterbank design for end-to-end speech separation" (ICASSP
2020).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING

from actors.records import SAMPLING_RATE
from actors.speakers.base import LOCAL_SPEAKERS

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Speakers of a chunk that may speak at the same time.
_AT_ONCE = 2
# Stride of the first layer, pooling after each of the three, lowest frequency and band in Hz.
_STRIDE, _POOL, _MIN_HZ = 10, 3, 50.0


class SegmentationNetwork:
    """The network with its weights.

    Args:
        weights: the published state, by name.
        device: where it runs.

    Raises:
        KeyError: the weights are those of another network.
    """

    def __init__(self, weights: Mapping[str, Tensor], device: torch.device | str = "cpu") -> None:
        import torch

        self._weights = {name: value.float().to(device) for name, value in weights.items()}
        self._filters = _band_filters(self._weights, "sincnet.conv1d.0.filterbank").to(device)
        hidden = weights["lstm.weight_hh_l0"].shape[1]
        layers = sum(name.startswith("lstm.weight_hh_l") and "reverse" not in name for name in weights)
        lstm = torch.nn.LSTM(
            weights["lstm.weight_ih_l0"].shape[1], hidden, layers, batch_first=True, bidirectional=True
        )
        lstm.load_state_dict(
            {name.removeprefix("lstm."): value for name, value in weights.items() if name.startswith("lstm.")}
        )
        self._lstm = lstm.to(device).eval()
        self._sets = _speaker_sets().to(device)
        if len(self._sets) != len(weights["classifier.bias"]):
            raise KeyError("classifier.bias: a network with other classes")

    def __call__(self, chunks: Tensor) -> Tensor:
        """Who speaks when, for chunks of equal length.

        Args:
            chunks: waveforms in [-1, 1], shape (chunks, samples), on the device.

        Returns:
            Booleans of shape (chunks, frames, LOCAL_SPEAKERS). Numbers of speakers hold within a chunk.
        """
        from torch.nn import functional

        weights = self._weights
        values = self._normalised(chunks[:, None], "sincnet.wav_norm1d")
        values = functional.conv1d(values, self._filters, stride=_STRIDE).abs_()
        values = self._pooled(values, 0)
        for layer in (1, 2):
            name = f"sincnet.conv1d.{layer}"
            values = functional.conv1d(values, weights[f"{name}.weight"], weights[f"{name}.bias"])
            values = self._pooled(values, layer)
        values, _ = self._lstm(values.transpose(1, 2))
        for name in ("linear.0", "linear.1"):
            values = functional.linear(values, weights[f"{name}.weight"], weights[f"{name}.bias"])
            values = functional.leaky_relu(values)
        scores = functional.linear(values, weights["classifier.weight"], weights["classifier.bias"])
        return self._sets[scores.argmax(-1)]

    def _pooled(self, values: Tensor, layer: int) -> Tensor:
        from torch.nn import functional

        values = self._normalised(functional.max_pool1d(values, _POOL), f"sincnet.norm1d.{layer}")
        return functional.leaky_relu_(values)

    def _normalised(self, values: Tensor, name: str) -> Tensor:
        from torch.nn import functional

        return functional.instance_norm(
            values, weight=self._weights[f"{name}.weight"], bias=self._weights[f"{name}.bias"]
        )


def _speaker_sets() -> Tensor:
    """Which speakers each class of the classifier stands for: nobody, one of them, two of them."""
    import torch

    sets = [group for size in range(_AT_ONCE + 1) for group in combinations(range(LOCAL_SPEAKERS), size)]
    return torch.tensor([[speaker in group for speaker in range(LOCAL_SPEAKERS)] for group in sets])


def _band_filters(weights: Mapping[str, Tensor], name: str) -> Tensor:
    """Band-pass filters of learned edges: each as a cosine and, 90 degrees apart, as a sine.

    Returns:
        Shape (filters, 1, samples).
    """
    import torch

    low = _MIN_HZ + weights[f"{name}.low_hz_"].abs()
    high = torch.clamp(low + _MIN_HZ + weights[f"{name}.band_hz_"].abs(), _MIN_HZ, SAMPLING_RATE / 2)
    half = weights[f"{name}.window_"].shape[0]
    # Radians a second of each sample left of the middle.
    times = 2 * math.pi * torch.arange(-half, 0, dtype=low.dtype, device=low.device)[None] / SAMPLING_RATE
    window, band = weights[f"{name}.window_"], high - low
    even = (torch.sin(high * times) - torch.sin(low * times)) / (times / 2) * window
    odd = (torch.cos(low * times) - torch.cos(high * times)) / (times / 2) * window
    cosine = torch.cat([even, 2 * band, even.flip(1)], 1)
    sine = torch.cat([odd, torch.zeros_like(band), -odd.flip(1)], 1)
    return (torch.cat([cosine, sine]) / (2 * torch.cat([band, band])))[:, None]
