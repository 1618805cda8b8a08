"""Float samples to int16: what is too loud, off its centre or plain nonsense is put right, and told."""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

import numpy as np

from actors.records import SAMPLING_RATE

_CLIPPED = 0.001  # share of samples at full scale from which a recording counts as clipped
_DC = 0.02  # offset, relative to full scale, that is worth removing
_OVERSHOOT = 2.0  # lossy codecs swing a little above full scale, which is clipped; beyond this the recording itself is too loud
_WILD = (
    2.0**40
)  # beyond any scale that samples are written in; a resampler would smear it over all its neighbours
_FRAME = SAMPLING_RATE // 100
_AROUND = 3  # frames: so long a resampler rings, and a decoder overlaps


class _Nonsense(NamedTuple):
    """What is no sound: a few frames of 10 ms, `factor` times louder than full scale and than all other frames of the recording."""

    factor: float
    share: float  # of the frames, or
    seconds: float  # of sound, whichever is more: what is loud for longer is loud in earnest


# Samples of a float file may have any scale, and a word or a bang may be all that it has. A lossy decoder's are never far above full scale,
# but the frames that it makes of damaged bytes are.
_IN_FLOATS = _Nonsense(32.0, 0.001, 0.1)
_IN_LOSSY = _Nonsense(8.0, 0.01, 0.1)


class Levelled(NamedTuple):
    """int16 of shape (channels, samples), flags that say what had to be done, and seconds of nonsense that became silence."""

    samples: np.ndarray
    flags: list[str]
    nonsense: float


def finite(samples: np.ndarray) -> tuple[np.ndarray, bool]:
    """A block without NaN, infinities and single samples beyond any scale (zeros instead), and whether it had some."""
    # One fast sum tells that all is well; it is not a number, or huge, as soon as one sample is.
    with np.errstate(over="ignore", invalid="ignore"):
        if abs(samples.sum()) < _WILD:
            return samples, False
    broken = ~np.isfinite(samples)
    wild = ~(np.abs(samples) <= _WILD)
    if np.count_nonzero(wild & ~broken) <= 0.01 * samples.size:
        broken = wild
    return (np.where(broken, np.float32(0), samples), True) if broken.any() else (samples, False)


def to_int16(pieces: list[np.ndarray], channels: int, codec: str) -> Levelled:
    """Pieces of float32 of shape (samples, channels) at 16 kHz to int16.

    Piece by piece, so that it happens in the processor's cache.
    """
    result = np.empty((channels, sum(map(len, pieces))), np.int16)
    flags: list[str] = []
    if not result.size:
        return Levelled(result, flags, 0.0)
    floats = codec.startswith("pcm_f")
    peak, nonsense = _peak(pieces), 0.0
    if peak > (rule := _IN_FLOATS if floats else _IN_LOSSY).factor:
        pieces, peak, nonsense = _without_nonsense(pieces, peak, rule)
    gain, offset = 1.0, np.zeros(channels)
    if peak > 1.0 and (floats or peak > _OVERSHOOT):
        gain = 1 / peak
        flags.append("peak_scaled")
    mean = gain * sum(piece.sum(axis=0).astype(np.float64) for piece in pieces) / result.shape[1]
    if np.abs(mean).max() > _DC:
        offset = mean
        flags.append("dc_offset_removed")
    shift = (32768 * offset).astype(np.float32)
    place = full = 0
    for piece in pieces:
        scaled = piece * np.float32(32768 * gain)
        if shift.any():
            scaled -= shift
        np.rint(scaled, out=scaled)
        np.clip(scaled, -32768, 32767, out=scaled)
        # Without a single sample at full scale, as nearly always, there is nothing to count.
        if peak * gain > 0.99 or shift.any():
            full += int(np.count_nonzero(np.abs(scaled) >= 32767))
        result[:, place : place + len(piece)] = scaled.T
        place += len(piece)
    if full > _CLIPPED * result.size:
        flags.append("clipped")
    return Levelled(result, flags, nonsense)


def _peak(pieces: list[np.ndarray]) -> float:
    return max(max(float(piece.max()), -float(piece.min())) for piece in pieces)


def _without_nonsense(
    pieces: list[np.ndarray], peak: float, rule: _Nonsense
) -> tuple[list[np.ndarray], float, float]:
    """Pieces with silence for nonsense, the peak that decides about their level, seconds of nonsense.

    One frame that a decoder made of damaged bytes must not decide: ten minutes divided by its peak would be silence.
    """
    step = _FRAME * pieces[0].shape[1]
    frames = [np.maximum.reduceat(np.abs(piece).ravel(), np.arange(0, piece.size, step)) for piece in pieces]
    every = np.concatenate(frames)
    few = ceil(max(rule.share * len(every), rule.seconds * SAMPLING_RATE / _FRAME))
    if few >= len(every):
        return pieces, peak, 0.0
    usual = max(1.0, float(np.partition(every, -few - 1)[-few - 1]))
    absurd = every > rule.factor * usual
    if not absurd.any():
        return pieces, peak, 0.0
    # What surrounds nonsense, and is louder than sound, belongs to it.
    absurd |= (every > usual) & (np.convolve(absurd, np.ones(2 * _AROUND + 1), "same") > 0)
    kept = [
        np.where(np.repeat(found, _FRAME)[: len(piece), None], np.float32(0), piece) if found.any() else piece
        for piece, found in zip(
            pieces, np.split(absurd, np.cumsum([len(found) for found in frames])[:-1]), strict=True
        )
    ]
    # Of what is left the usual decides, and the little that is far above it is clipped.
    return kept, min(_peak(kept), _OVERSHOOT * usual), np.count_nonzero(absurd) * _FRAME / SAMPLING_RATE
