"""Log mel energies as Kaldi computes them, the input of speaker embeddings.

80 triangular filters from 20 Hz to half the sampling rate over Fourier transforms of 25 ms every 10 ms, with
Kaldi's window ("povey") and pre-emphasis, without dither.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from actors.records import SAMPLING_RATE

if TYPE_CHECKING:
    from torch import Tensor

FRAME_STEP = 160  # samples
FRAME_SAMPLES = 400
BANDS = 80
_FFT = 512
_LOWEST_HZ = 20.0
_PREEMPHASIS = 0.97


def log_mel(waves: Tensor) -> Tensor:
    """Log mel energies of waveforms of equal length.

    Args:
        waves: samples in [-1, 1], shape (waveforms, samples), with at least FRAME_SAMPLES samples.

    Returns:
        Shape (waveforms, frames, BANDS).
    """
    import torch

    frames = waves.unfold(1, FRAME_SAMPLES, FRAME_STEP)
    frames = frames - frames.mean(-1, keepdim=True)
    before = torch.cat([frames[..., :1], frames[..., :-1]], -1)
    window, filters = (torch.from_numpy(table).to(waves.device) for table in _tables())
    spectrum = torch.fft.rfft((frames - _PREEMPHASIS * before) * window, _FFT)
    power = spectrum.real**2 + spectrum.imag**2
    energies = torch.matmul(power[..., :-1], filters)
    return torch.log(torch.clamp(energies, min=float(np.finfo(np.float32).eps)))


@cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """The window, and the filters of shape (frequencies, BANDS)."""
    position = np.arange(FRAME_SAMPLES) / (FRAME_SAMPLES - 1)
    window = (0.5 - 0.5 * np.cos(2 * np.pi * position)) ** 0.85

    def mel(hertz: np.ndarray | float) -> np.ndarray:
        return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)

    edges = np.linspace(mel(_LOWEST_HZ), mel(SAMPLING_RATE / 2), BANDS + 2)
    frequencies = mel(np.arange(_FFT // 2) * (SAMPLING_RATE / _FFT))[:, None]
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0.0, np.minimum(rising, falling))
    return window.astype(np.float32), filters.astype(np.float32)
