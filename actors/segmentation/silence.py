"""Proven silence: stretches in which there is no speech beyond doubt, by their level alone.

Proven silence is a long stretch in which every frame is quieter than an absolute limit, far below the speech
of the recording, and close to the noise floor of its surroundings. A whisper fails one of the three
conditions and is not dropped. In doubt, audio stays: a model can answer that there is no speech in it, but
dropped speech is lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from actors.records import SAMPLING_RATE, Span
from actors.segmentation.levels import FRAME, runs, without_clicks

if TYPE_CHECKING:
    from actors.config import SegmenterConfig

# dB that silence lies below speech.
_BELOW_SPEECH = 30.0
# dB that a stationary noise may rise above its floor.
_ABOVE_FLOOR = 8.0
# dB between the floor and the loudest frame of a stationary noise.
_STATIONARY = 12.0
# dB relative to full scale of dither, +-2 steps of 16 bit.
NEAR_DIGITAL = -84.0
# dB of a recording in which only the last bit changes now and then. Lower levels are digital silence.
_DIGITAL = -100.0
# Frames that speech lasts in all, at least: a second. A click is shorter.
_SUSTAINED = 100
# Frames of a block that has a noise floor of its own: 10 s.
_BLOCK = 1000
# Blocks on both sides whose floor counts: 30 s.
_BLOCKS_AROUND = 3
# Frames of a step, 50 ms, and steps of a stretch, 2.5 s, in which the levels of a steady noise differ by at
# most so many dB: those of noise and hum differ by 1 to 2, those of speech by more, unless noise drowns it.
_STEP, _STEPS, _STEADY = 5, 50, 4.0
# Percentile of the levels that is the noise floor.
_FLOOR = 10


def silent_spans(levels: np.ndarray, config: SegmenterConfig, total: int) -> list[Span]:
    """The runs of proven silence, in samples, without padding.

    Args:
        levels: of all frames, see `frame_levels`.
        config: the limit.
        total: samples of the recording.
    """
    silent = runs(proven_silence(levels, config.silence_dbfs))
    return [Span(run.start * FRAME, min(total, run.end * FRAME)) for run in silent]


def proven_silence(levels: np.ndarray, silence_dbfs: float) -> np.ndarray:
    """Which frames are silent beyond doubt.

    Args:
        levels: of all frames, see `frame_levels`.
        silence_dbfs: dB relative to full scale above which no frame is silent.

    Returns:
        bool, shape (frames,).
    """
    levels = without_clicks(levels)
    audible = levels[levels > NEAR_DIGITAL]
    if not len(audible):
        return np.ones(len(levels), bool)
    floor = float(np.percentile(levels[levels > _DIGITAL], _FLOOR))
    rank = min(_SUSTAINED, max(1, len(levels) // 10))
    speech_level = float(np.partition(levels, -rank)[-rank])
    loudest = float(audible.max())
    # Nothing but a stationary noise.
    if loudest <= silence_dbfs and loudest - floor < _STATIONARY:
        return np.ones(len(levels), bool)
    below_speech = speech_level - _BELOW_SPEECH
    floors = np.where(_is_steady(levels), floor, local_floors(levels, floor))
    limits = np.minimum(min(silence_dbfs, below_speech), floors + _ABOVE_FLOOR)
    return levels <= np.maximum(limits, min(NEAR_DIGITAL, below_speech))


def _is_steady(levels: np.ndarray) -> np.ndarray:
    """Which frames belong to a stretch of steady noise: no quiet speech, although a quieter room is near."""
    steady = np.zeros(len(levels), bool)
    count = len(levels) // _STEP
    if count < _STEPS:
        return steady
    power = (10 ** (levels[: count * _STEP] / 10)).reshape(count, _STEP).mean(axis=1)
    stretches = np.lib.stride_tricks.sliding_window_view(10 * np.log10(power), _STEPS)
    highest, lowest = stretches.max(axis=1), stretches.min(axis=1)
    for run in runs(highest - lowest <= _STEADY):
        steady[run.start * _STEP : (run.end + _STEPS - 1) * _STEP] = True
    return steady


def local_floors(levels: np.ndarray, floor: float) -> np.ndarray:
    """The noise floor around each frame: that of the recording, or of the quietest 10 s within 30 s.

    Loud passages raise the floor of the whole recording above quiet speech. Their own floor must not decide
    about what is quieter than they are.

    Args:
        levels: of all frames.
        floor: noise floor of the recording, an upper bound of the local ones.

    Returns:
        float64, shape (frames,).
    """
    count = max(1, len(levels) // _BLOCK)
    floors = np.full(count, floor)
    for block in range(count):
        # The last block takes the rest, and is up to twice as long.
        part = levels[block * _BLOCK : len(levels) if block == count - 1 else (block + 1) * _BLOCK]
        part = part[part > _DIGITAL]
        if len(part):
            floors[block] = min(floor, float(np.percentile(part, _FLOOR)))
    lowest = [
        floors[max(0, block - _BLOCKS_AROUND) : block + _BLOCKS_AROUND + 1].min() for block in range(count)
    ]
    return np.array(lowest)[np.minimum(np.arange(len(levels)) // _BLOCK, count - 1)]


def padded_silences(silences: list[Span], config: SegmenterConfig, total: int) -> list[Span]:
    """The silences without the padding that belongs to the speech around them; short ones are left out."""
    pad, shortest = round(config.speech_pad * SAMPLING_RATE), round(config.min_silence * SAMPLING_RATE)
    shrunk = [_shrink(silence, pad, total) for silence in silences]
    return [
        silence
        for silence in shrunk
        if silence.end - silence.start >= shortest or (silence.start == 0 and silence.end == total)
    ]


def _shrink(silence: Span, pad: int, total: int) -> Span:
    """A silence without `pad` samples on each side that has audio next to it."""
    start = silence.start + (pad if silence.start > 0 else 0)
    end = silence.end - (pad if silence.end < total else 0)
    return Span(start, max(start, end))
