"""What a segment sounds like, for comparison with its text and words: syllables, and where speech is.

A syllable is a peak of the level of the voice, as in de Jong and Wempe, "Praat script to detect syllable
nuclei and measure speech rate automatically", Behavior Research Methods 41 (2009). Their number depends
neither on the language nor on pauses: see docs/trust.md for how well it agrees with texts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from actors.records import SAMPLING_RATE
from actors.segmentation import silero
from actors.segmentation.levels import frame_levels
from actors.segmentation.silero_network import STEP

# Samples that are averaged: what is above 1 kHz, which is mostly the noise of consonants, is left out.
_DECIMATION = 8
# Averaged samples of a frame, and frames of a second.
_FRAME, _FRAMES = SAMPLING_RATE // _DECIMATION // 100, 100
# Frames whose mean is the level of the voice: 50 ms.
_SMOOTH = 5
# dB by which the level falls on both sides of a syllable.
_DIP = 2.0
# Frames between two syllables at least: 120 ms.
_APART = 12
# dB below the loud frames, and relative to full scale, under which there is no syllable.
_DEPTH, _FAINT = 15.0, -75.0
# Probability from which a step of the VAD may be speech, and steps around it that may be, too.
_POSSIBLE, _AROUND = 0.3, 1
# Probability from which a step of the VAD is speech.
_LIKELY = 0.5
# Steps for which the probability of speech lasts: 0.1 s.
_LASTING = 3
# dB relative to full scale at which the VAD gets the loud frames, and dB by which that is raised or lowered.
_LOUDNESS, _MIN_GAIN, _MAX_GAIN = -25.0, -20.0, 60.0


@dataclass(frozen=True, slots=True)
class Speech:
    """What a VAD hears in a segment."""

    seconds: float  # of speech
    probability: float  # the highest one that lasts 0.1 s
    syllables: int  # that are heard where speech is possible
    mask: np.ndarray  # bool, for each step of 32 ms: whether speech is possible


def heard_syllables(samples: np.ndarray, possible: np.ndarray | None = None) -> np.ndarray:
    """The times of the syllables that are heard, in seconds, in order.

    Args:
        samples: int16 at 16 kHz.
        possible: where there may be speech, one entry for each step of 32 ms; None: everywhere.
    """
    levels = _voice_levels(samples)
    if len(levels) < 3:
        return np.zeros(0)
    rank = len(levels) - 1 - len(levels) // 20
    floor = max(float(np.partition(levels, rank)[rank]) - _DEPTH, _FAINT)
    if possible is not None:
        steps = np.minimum(np.arange(len(levels)) * (SAMPLING_RATE // _FRAMES) // STEP, len(possible) - 1)
        levels = np.where(possible[steps], levels, _FAINT)
    # Between turning points the level only rises, or only falls.
    turns = np.flatnonzero(np.diff(np.signbit(np.diff(levels)))) + 1
    times: list[int] = []
    lowest, highest, highest_at, inside = float(levels[0]), 0.0, 0, False
    for frame, level in zip(
        [*turns.tolist(), len(levels) - 1, len(levels)],
        [*levels[turns].tolist(), float(levels[-1]), _FAINT - _DIP],
        strict=True,
    ):
        if inside:
            if level > highest:
                highest, highest_at = level, frame
            elif level <= highest - _DIP:
                if not times or highest_at - times[-1] >= _APART:
                    times.append(highest_at)
                inside, lowest = False, level
        elif level >= lowest + _DIP and level > floor:
            inside, highest, highest_at = True, level, frame
        else:
            lowest = min(lowest, level)
    return np.array(times) / _FRAMES


def find_speech(samples: np.ndarray) -> Speech | None:
    """What the VAD hears; None where the extra `vad` is not installed. It takes 1 to 2 ms for a second.

    Args:
        samples: int16 at 16 kHz.
    """
    if not len(samples) or not silero.is_installed():
        return None
    levels = frame_levels(samples)
    rank = min(len(levels) - 1, len(levels) * 9 // 10)
    gain = np.clip(_LOUDNESS - float(np.partition(levels, rank)[rank]), _MIN_GAIN, _MAX_GAIN)
    wave = np.clip(samples.astype(np.float32) * np.float32(10 ** (gain / 20) / 32768), -1, 1)
    [found] = silero.speech_probabilities([wave])
    possible = np.convolve(found >= _POSSIBLE, np.ones(2 * _AROUND + 1), mode="same") > 0
    lasting = np.lib.stride_tricks.sliding_window_view(found, min(_LASTING, len(found))).min(axis=1)
    return Speech(
        seconds=float(np.count_nonzero(found >= _LIKELY)) * STEP / SAMPLING_RATE,
        probability=float(lasting.max()),
        syllables=len(heard_syllables(samples, possible)),
        mask=possible,
    )


def _voice_levels(samples: np.ndarray) -> np.ndarray:
    """The level of the voice's band, about 0.2 to 1 kHz, in frames of 10 ms: dB relative to full scale."""
    usable = len(samples) // (_DECIMATION * _FRAME) * _DECIMATION * _FRAME
    if not usable:
        return np.zeros(0)
    averaged = samples[:usable:_DECIMATION].astype(np.float32)
    for offset in range(1, _DECIMATION):
        averaged += samples[offset:usable:_DECIMATION]
    averaged /= _DECIMATION * 32768.0
    # The difference of neighbours is a high-pass filter.
    band = np.zeros_like(averaged)
    np.subtract(averaged[1:], averaged[:-1], out=band[1:])
    frames = band.reshape(-1, _FRAME)
    power = np.einsum("ij,ij->i", frames, frames) / _FRAME
    padded = np.pad(power, (_SMOOTH // 2, _SMOOTH // 2), mode="edge")
    total = np.cumsum(np.concatenate(([0.0], padded)), dtype=np.float64)
    smooth: np.ndarray = 10 * np.log10(np.maximum((total[_SMOOTH:] - total[:-_SMOOTH]) / _SMOOTH, 1e-12))
    return smooth
