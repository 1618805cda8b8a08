"""Whether two decoders heard the same sound, place by place. Pure functions on arrays.

Both sides are decodings of one file, or of a file and its source, so only a constant delay lies between them.
Both sides are decodings of one file, or of a file and its source, so only a constant delay is between them.
GSM), which is another one in every decoding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.faults.structures.recordings import RATE

# Samples of a frame: 10 ms.
FRAME = RATE // 100
# Frames by which one decoding may be behind the other: the delay of a codec, 0.15 s.
_MAX_SHIFT = 15
# Level of a frame that is heard, relative to full scale, and how much softer it may be in the other decoding.
AUDIBLE, _SOFTER = 10 ** (-48 / 20), 10 ** (-10 / 20)
# Frames around a place in which its sound may be: frames of both sides begin at different samples.
_NEAR = 2
# Level below which differences do not count, relative to full scale, and relative to the loudest frames.
_FLOOR, _FLOOR_BELOW_LOUDEST = 10 ** (-45 / 20), 10 ** (-30 / 20)
# Frames that must be heard, so that loudness can be compared.
_ENOUGH = 50
# Likeness from which frames need not be placed better.
_SURE = 0.98
# Frames of the averages whose course is compared: 50 ms. Parametric codecs keep no waveform.
_SMOOTH = 5


@dataclass(frozen=True)
class Comparison:
    """What a decoding has of the sound of another one."""

    # Seconds of the other one that are heard.
    audible: float
    # Seconds of them that are not heard in this one.
    missing: float
    # Correlation of the course of loudness; 1.0 where too little is heard.
    likeness: float


def levels(samples: np.ndarray) -> np.ndarray:
    """The level of each 10 ms relative to full scale, without its DC offset: float64, shape (frames,)."""
    count = len(samples) // FRAME
    frames = samples[: count * FRAME].reshape(count, FRAME).astype(np.float64) / 32768
    found: np.ndarray = frames.std(axis=1) if count else np.zeros(0)
    return found


def compare(ours: np.ndarray, theirs: np.ndarray) -> Comparison:
    """Compare two decodings of one sound.

    Args:
        ours: int16 values at 16 kHz, zeros where nothing was sent.
        theirs: the same of another decoder, or of the source.
    """
    other = levels(theirs)
    loudest = float(np.sort(other)[-_ENOUGH:][0]) if len(other) else 0.0
    floor = max(_FLOOR, _FLOOR_BELOW_LOUDEST * loudest)
    course = _course(other, floor)
    one, shift, likeness = levels(ours), 0, 0.0
    # The level of noise differs from frame to frame: frames must begin at about the same sample.
    for start in (0, FRAME // 2, FRAME // 4, 3 * FRAME // 4):
        begun = levels(ours[start:])
        found, alike = _best_shift(_course(begun, floor), course)
        if alike > likeness:
            one, shift, likeness = begun, found, alike
        if likeness > _SURE:
            break
    # Every sound of theirs in ours, `shift` frames later.
    placed = np.zeros(len(other))
    source = one[max(0, shift) :][: len(other)]
    start = max(0, -shift)
    placed[start : start + len(source)] = source[: len(other) - start]
    near = placed.copy()
    for step in range(1, _NEAR + 1):
        near[step:] = np.maximum(near[step:], placed[:-step])
        near[:-step] = np.maximum(near[:-step], placed[step:])
    heard = other > AUDIBLE
    missing = int((heard & (near < _SOFTER * other)).sum())
    enough = int((other > floor).sum()) >= _ENOUGH
    return Comparison(int(heard.sum()) / 100, missing / 100, likeness if enough else 1.0)


def _course(values: np.ndarray, floor: float) -> np.ndarray:
    """The logarithm of the loudness of 50 ms around each frame, not below the floor."""
    if len(values) < _SMOOTH:
        return np.zeros(0)
    power = np.convolve(values**2, np.ones(_SMOOTH) / _SMOOTH, "same")
    course: np.ndarray = np.log(np.maximum(np.sqrt(power), floor))
    return course


def _best_shift(one: np.ndarray, other: np.ndarray) -> tuple[int, float]:
    """The frames by which `one` is later, and the correlation there."""
    best = (0, 0.0)
    for shift in sorted(range(-_MAX_SHIFT, _MAX_SHIFT + 1), key=abs):
        first, second = one[max(0, shift) :], other[max(0, -shift) :]
        # What only one of them has counts as silence.
        count = max(len(first), len(second))
        if count <= 1:
            continue
        low = min(first.min(initial=0.0), second.min(initial=0.0))
        first = np.pad(first, (0, count - len(first)), constant_values=low)
        second = np.pad(second, (0, count - len(second)), constant_values=low)
        if first.std() < 1e-6 or second.std() < 1e-6:
            continue
        found = float(np.corrcoef(first, second)[0, 1])
        if found > best[1] + 1e-6:
            best = (shift, found)
    return best
