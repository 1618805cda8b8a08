"""Converts float samples to int16 and corrects samples that are too loud, have a DC offset or are not sound.

Every correction sets a flag.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

import numpy as np

from actors.records import SAMPLING_RATE

# Share of samples at full scale from which a recording counts as clipped.
_CLIPPED = 0.001
# DC offset, relative to full scale, that is removed.
_DC = 0.02
# Lossy codecs exceed full scale a little, which is clipped. Above this the recording itself is too loud and
# is scaled.
_OVERSHOOT = 2.0
# Above any scale that samples are written in. A resampler would spread such a sample over all its neighbours.
_OUT_OF_SCALE = 2.0**40
# Share of such samples from which they are no single errors, and samples of a part that is then left out.
_MANY, _NEAR = 0.01, 256
# Samples of a frame of 10 ms.
_FRAME = SAMPLING_RATE // 100
# Frames around an outlier that it may affect: a resampler rings and a decoder overlaps for that long.
_AROUND = 3


class _OutlierRule(NamedTuple):
    """When frames of 10 ms are not sound: a few are much louder than full scale and than all others.

    What is loud for longer than `share` and `seconds` is loud sound.
    """

    # Times louder than full scale and than all other frames.
    factor: float
    # Share of the frames that may be outliers; or `seconds` of them, whichever is more.
    share: float
    seconds: float


# Samples of a float file may have any scale, and may be nothing but a word or a bang. The samples of a lossy
# decoder are never far above full scale, except in frames that it decodes from damaged bytes.
_FLOAT_OUTLIERS = _OutlierRule(32.0, 0.001, 0.1)
_LOSSY_OUTLIERS = _OutlierRule(8.0, 0.01, 0.1)


class Int16Samples(NamedTuple):
    """Samples after conversion."""

    # int16, shape (channels, samples).
    samples: np.ndarray
    # Which corrections were made.
    flags: list[str]
    # Seconds of outliers that were replaced by silence.
    removed: float


def finite(samples: np.ndarray) -> tuple[np.ndarray, bool]:
    """Replace NaN, infinities and samples above any scale by zeros.

    Many such samples are a recording of that scale. If they have any exponent, bytes of something else were
    taken for floats: what is near them is no sound, either.

    Returns:
        The block, and whether it had such samples.
    """
    # One fast sum shows that all is well: it is NaN or huge as soon as one sample is.
    with np.errstate(over="ignore", invalid="ignore"):
        if abs(samples.sum()) < _OUT_OF_SCALE:
            return samples, False
    size = np.abs(samples)
    invalid = ~np.isfinite(samples)
    out_of_scale = ~(size <= _OUT_OF_SCALE)
    if np.count_nonzero(out_of_scale & ~invalid) <= _MANY * samples.size:
        invalid = out_of_scale
    elif size[~invalid].max() > _OUT_OF_SCALE * np.median(size[size > 0]):
        parts = np.add.reduceat(out_of_scale.any(axis=1), np.arange(0, len(samples), _NEAR)) > 0
        parts = np.convolve(parts, np.ones(3), "same") > 0
        invalid = np.broadcast_to(np.repeat(parts, _NEAR)[: len(samples), None], samples.shape)
    return (np.where(invalid, np.float32(0), samples), True) if invalid.any() else (samples, False)


def to_int16(blocks: list[np.ndarray], channels: int, codec: str) -> Int16Samples:
    """Convert float32 samples to int16, block by block, so that the work is done in the processor's cache.

    Args:
        blocks: consecutive samples at 16 kHz, shape (samples, channels).
        channels: of the blocks.
        codec: ffmpeg's name of the codec that the samples came from.
    """
    result = np.empty((channels, sum(map(len, blocks))), np.int16)
    flags: list[str] = []
    if not result.size:
        return Int16Samples(result, flags, 0.0)
    is_float = codec.startswith("pcm_f")
    peak, removed = _peak(blocks), 0.0
    if peak > (rule := _FLOAT_OUTLIERS if is_float else _LOSSY_OUTLIERS).factor:
        blocks, peak, removed = _without_outliers(blocks, peak, rule)
    gain, offset = 1.0, np.zeros(channels)
    if peak > 1.0 and (is_float or peak > _OVERSHOOT):
        gain = 1 / peak
        flags.append("peak_scaled")
    mean = gain * sum(block.sum(axis=0).astype(np.float64) for block in blocks) / result.shape[1]
    if np.abs(mean).max() > _DC:
        offset = mean
        flags.append("dc_offset_removed")
    shift = (32768 * offset).astype(np.float32)
    place = at_full_scale = 0
    for block in blocks:
        scaled = block * np.float32(32768 * gain)
        if shift.any():
            scaled -= shift
        np.rint(scaled, out=scaled)
        np.clip(scaled, -32768, 32767, out=scaled)
        # Without any sample at full scale, as nearly always, there is nothing to count.
        if peak * gain > 0.99 or shift.any():
            at_full_scale += int(np.count_nonzero(np.abs(scaled) >= 32767))
        result[:, place : place + len(block)] = scaled.T
        place += len(block)
    if at_full_scale > _CLIPPED * result.size:
        flags.append("clipped")
    return Int16Samples(result, flags, removed)


def _peak(blocks: list[np.ndarray]) -> float:
    return max(max(float(block.max()), -float(block.min())) for block in blocks)


def _without_outliers(
    blocks: list[np.ndarray], peak: float, rule: _OutlierRule
) -> tuple[list[np.ndarray], float, float]:
    """Replace outliers by silence.

    One frame decoded from damaged bytes must not decide about the level: ten minutes divided by its peak
    would be silence.

    Returns:
        The blocks, the peak that decides about their level, and the seconds that were replaced.
    """
    step = _FRAME * blocks[0].shape[1]
    frames = [np.maximum.reduceat(np.abs(block).ravel(), np.arange(0, block.size, step)) for block in blocks]
    peaks = np.concatenate(frames)
    max_outliers = ceil(max(rule.share * len(peaks), rule.seconds * SAMPLING_RATE / _FRAME))
    if max_outliers >= len(peaks):
        return blocks, peak, 0.0
    usual = max(1.0, float(np.partition(peaks, -max_outliers - 1)[-max_outliers - 1]))
    outliers = peaks > rule.factor * usual
    if not outliers.any():
        return blocks, peak, 0.0
    # Frames around an outlier that are louder than sound belong to it.
    outliers |= (peaks > usual) & (np.convolve(outliers, np.ones(2 * _AROUND + 1), "same") > 0)
    by_block = np.split(outliers, np.cumsum([len(frame) for frame in frames])[:-1])
    cleaned = [
        np.where(np.repeat(mask, _FRAME)[: len(block), None], np.float32(0), block) if mask.any() else block
        for block, mask in zip(blocks, by_block, strict=True)
    ]
    # The usual peak decides about the level, and the little that is far above it is clipped.
    removed = np.count_nonzero(outliers) * _FRAME / SAMPLING_RATE
    return cleaned, min(_peak(cleaned), _OVERSHOOT * usual), removed
