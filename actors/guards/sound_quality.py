"""How good a recording sounds: noise, bandwidth, clipping, level, fingerprint. Pure.

All of it is computed from samples at 16 kHz, so that a bandwidth is at most 8 kHz.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from actors.guards.sound import heard_syllables
from actors.records import SAMPLING_RATE
from actors.segmentation.levels import FRAME, frame_levels, smoothed

_END_FRAMES = 4  # frames of 10 ms at the end
_WINDOW = 512  # samples of a spectrum: 32 ms
# dB below the strongest part of the spectrum of speech at which it ends.
_DEPTH = 50.0
# A run of samples near the peak is cut off if it is so long; share of the peak; lowest peak that counts.
_RUN, _NEAR, _LOUD = 3, 0.97, 0.05
# Moments and bands of a fingerprint: 32 x 8 bits.
_MOMENTS, _BANDS = 33, 9


@dataclass(frozen=True, slots=True)
class Signal:
    """Facts about a span.

    Attributes:
        snr_db: the power of speech to that of the quietest tenth of the time; None: nothing is heard.
        bandwidth_hz: the highest frequency at which speech has power; None: nothing is heard.
        clipped_share: of the samples, in runs at full swing.
        level_dbfs: of the louder half, relative to full scale.
        syllables: that are heard.
        end_db: level of the last 40 ms, relative to `level_dbfs`; None: nothing is heard.
        fingerprint: 256 bits that copies share, also after another codec or level; empty: nothing is heard.
    """

    snr_db: float | None
    bandwidth_hz: float | None
    clipped_share: float
    level_dbfs: float
    syllables: int
    fingerprint: bytes
    end_db: float | None = None


def measure(samples: np.ndarray, around: np.ndarray | None = None) -> Signal:
    """Measure a span.

    Args:
        samples: of the span; int16, mono, 16 kHz.
        around: the span with what is right before and behind it, in which there may be pauses.
    """
    levels = frame_levels(samples)
    if len(levels) == 0 or levels.max() <= -90.0:
        level = float(levels.max()) if len(levels) else -120.0
        return Signal(None, None, 0.0, level, 0, b"")
    power = np.sort(10 ** (levels / 10))
    speech = float(power[len(power) // 2 :].mean())
    background = frame_levels(around if around is not None and len(around) else samples)
    noise = float(10 ** (np.percentile(smoothed(background), 10) / 10))
    snr = 10 * np.log10(max(speech - noise, 1e-12) / max(noise, 1e-12))
    return Signal(
        snr_db=round(float(min(snr, 100.0)), 1),
        bandwidth_hz=bandwidth(samples),
        clipped_share=round(clipped_share(samples), 6),
        level_dbfs=round(float(10 * np.log10(speech)), 1),
        syllables=len(heard_syllables(samples)),
        fingerprint=fingerprint(samples),
        end_db=round(float(levels[: len(samples) // FRAME][-_END_FRAMES:].max() - 10 * np.log10(speech)), 1)
        if len(samples) >= FRAME
        else None,
    )


def bandwidth(samples: np.ndarray) -> float | None:
    """The highest frequency in Hz at which the louder half of a span has power; None if it is too short."""
    spectra = _spectra(samples)
    if len(spectra) < 2:
        return None
    energy = spectra.sum(axis=1)
    loud = spectra[energy >= np.median(energy)].mean(axis=0)
    smooth = np.convolve(loud, np.full(8, 1 / 8), mode="same")
    decibels = 10 * np.log10(np.maximum(smooth, 1e-9))
    above = np.flatnonzero(decibels > decibels[2:].max() - _DEPTH)
    return float(above[-1] * SAMPLING_RATE / _WINDOW) if len(above) else None


def clipped_share(samples: np.ndarray) -> float:
    """The share of samples in runs near the peak: waves that were cut off."""
    if not len(samples):
        return 0.0
    size = np.abs(samples.astype(np.int32))
    peak = int(size.max())
    if peak < _LOUD * 32768:
        return 0.0
    near = np.concatenate(([0], (size >= _NEAR * peak).astype(np.int8), [0]))
    edges = np.flatnonzero(np.diff(near))
    lengths = edges[1::2] - edges[::2]
    return float(lengths[lengths >= _RUN].sum() / len(samples))


def fingerprint(samples: np.ndarray) -> bytes:
    """Whether the differences of neighbouring bands grow from moment to moment, as bits.

    Source of the method: Haitsma and Kalker, "A Highly Robust Audio Fingerprinting System", ISMIR 2002; here
    with a fixed number of moments for the whole span.
    """
    spectra = _spectra(samples)
    if len(spectra) < _MOMENTS:
        return b""
    bins = np.round(np.geomspace(250, 3400, _BANDS + 1) * _WINDOW / SAMPLING_RATE).astype(int)
    bands = np.stack([spectra[:, low:high].sum(axis=1) for low, high in pairwise(bins)], 1)
    borders = np.linspace(0, len(bands), _MOMENTS + 1).astype(int)
    moments = np.stack([bands[a:b].mean(axis=0) for a, b in pairwise(borders)])
    levels = np.log(moments + 1e-3)
    differences = levels[:, :-1] - levels[:, 1:]
    return np.packbits((differences[1:] > differences[:-1]).reshape(-1)).tobytes()


def _spectra(samples: np.ndarray) -> np.ndarray:
    """Power spectra of 32 ms, every 16 ms."""
    count = (len(samples) - _WINDOW) // (_WINDOW // 2) + 1
    if count < 1:
        return np.zeros((0, _WINDOW // 2 + 1))
    frames = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW)[:: _WINDOW // 2]
    spectra: np.ndarray = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW), axis=1)) ** 2
    return spectra
