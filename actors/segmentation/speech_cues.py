"""Cheap cues for and against speech, from levels and a few spectra. Pure functions on arrays.

Speech is modulated: its level rises and falls with the syllables, 2 to 8 times a second. Its spectrum has
narrow peaks, the harmonics of the voice, which move. Noise has no peaks, notes of most instruments have peaks
that stay where they are, and drums are modulated but have no peaks.
"""

from __future__ import annotations

import numpy as np

from actors.segmentation.levels import FRAME, runs

# Frames of a window: 2 s.
WINDOW = 200
# dB below the loudest frame of a window under which differences do not count.
_DEPTH = 40.0
# Frames of the averages whose difference is the modulation, about 2 to 8 Hz.
_FAST, _SLOW = 6, 50
# dB of modulation from which a window may be speech beyond doubt. Syllables have 3 to 11, drums 9 to 12,
# chords and drums 2 to 6, songs 1 to 4, noise below 2.
_MODULATED = 3.0
# Spectra in a window: at the loudest frame of each half second.
_SPECTRA = 4
# Samples of a spectrum: 64 ms, 16 Hz between bins.
_SIZE = 1024
_WEIGHTS = np.hanning(_SIZE).astype(np.float32)
# Bins of 300 to 3600 Hz.
_BINS = slice(19, 230)
# A bin is a peak if it is higher than its neighbours and so many times the typical bin.
_PEAK = 2.5
# What speech beyond doubt has: dB of modulation, the share of the peaks in the spectrum, and less than this
# share of lasting peaks in them. Less modulation needs more of the rest.
_CLEAR = ((4.0, 0.12, 0.5), (_MODULATED, 0.2, 0.35))
# The same of windows that are speech beyond doubt because they follow such windows, or come before them.
_NEXT = (2.0, 0.2, 0.5)
# Peaks that have most of the height of all, in the median of the spectra. Voices have 3 to 8, ringing
# telephones 1 to 2.
_HARMONICS = 2.0
# Share of the peaks in the spectrum below which there is only noise: noise has 0.01 to 0.19, speech in all
# but 2 % of windows more.
_NOISY = 0.22
# Share of lasting peaks from which all notes are fixed. Chords, with or without drums, and fast arpeggios
# have 0.83 to 0.99, a song 0.62 to 0.87.
_FIXED = 0.8
# dB of modulation that singing has at least: a song 1.5 to 3.3, motors up to 0.9, sirens 0.
_SUNG = 1.1
# Peaks that have most of the height of all, in the median of the spectra of singing: a song has 1.9 to 7 and
# more, tones, sirens and warbling telephones 1 to 2.
_SUNG_HARMONICS = 2.0
# The most that singing has, and the most of singing whose peaks do not last: a song has up to 8. The peaks of
# noise, also of one that turns or beats over a motor, are many and equally high: 9 to 27, of which 0.3 to 0.5
# last.
_MOST_HARMONICS, _MOST_FLEETING, _FLEETING = 14.0, 8.5, 0.5
# Samples between the spectra that decide about notes: 64 ms. Every second one is the middle of three.
_NOTE_STEP = 1024
# Middle spectra of a passage that is judged as one: 4 s.
_PASSAGE = 32


def is_clear_speech(samples: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Which windows of 2 s have speech beyond doubt.

    Args:
        samples: int16 at 16 kHz.
        levels: of its frames.

    Returns:
        bool, shape (windows,); a rest that is shorter than a window has none.
    """
    count = len(levels) // WINDOW
    frames = levels[: count * WINDOW].reshape(count, WINDOW)
    clear = np.zeros(count, bool)
    modulation = _modulation(frames) if count else np.zeros(0)
    modulated = np.flatnonzero(modulation >= _NEXT[0])
    if not len(modulated):
        return clear
    part = WINDOW // _SPECTRA
    loudest = frames[modulated].reshape(-1, _SPECTRA, part).argmax(axis=2)
    places = (modulated[:, None] * WINDOW + np.arange(_SPECTRA) * part + loudest).reshape(
        -1
    ) * FRAME + FRAME // 2
    # Two spectra, one behind the other. Both are behind the loudest frame, where a note begins: before it is
    # another one, whose peaks would not last.
    starts = np.clip(places, 0, len(samples) - 2 * _SIZE)[:, None]
    amplitudes = _amplitudes(samples[starts + np.arange(2 * _SIZE)].reshape(-1, 2, _SIZE))
    peaks = _peaks(amplitudes)
    heights = np.where(peaks, amplitudes[..., 1:-1], 0.0)
    lasting = (heights * (peaks[:, :1] & peaks[:, 1:])).sum(axis=(1, 2)).reshape(-1, _SPECTRA).sum(axis=1)
    tonal = heights.sum(axis=(1, 2)).reshape(-1, _SPECTRA).sum(axis=1)
    total = amplitudes.sum(axis=(1, 2)).reshape(-1, _SPECTRA).sum(axis=1)
    squares = np.maximum((heights**2).sum(axis=2), 1e-9)
    voiced = np.median((heights.sum(axis=2) ** 2 / squares).reshape(-1, 2 * _SPECTRA), axis=1) >= _HARMONICS

    def have(least: float, share: float, most: float) -> np.ndarray:
        found: np.ndarray = (
            (modulation[modulated] >= least) & (tonal > share * total) & (lasting < most * tonal) & voiced
        )
        return found

    clear[modulated] = np.any([have(*limits) for limits in _CLEAR], axis=0)
    next_to_clear = clear.copy()
    next_to_clear[modulated] |= have(*_NEXT)
    for run in runs(next_to_clear):
        clear[run.start : run.end] = clear[run.start : run.end].any()
    return clear


def may_be_voice(samples: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Which passages of about 4 s may have a voice, although a VAD does not hear speech: singing, for
    instance.

    Noise, music whose notes are fixed, motors and tones have none.

    Args:
        samples: int16 at 16 kHz.
        levels: of its frames.

    Returns:
        bool, shape (passages,): passages of equal length that cover the samples. Audio that is too short to
        judge may be a voice.
    """
    count = len(samples) // _NOTE_STEP
    middles = (count - 1) // 2
    if middles < 1:
        return np.ones(1, bool)
    passages = max(1, middles // _PASSAGE)
    voice = np.zeros(passages, bool)
    changes = _changes(np.maximum(levels, levels.max() - _DEPTH))
    sung = np.array([np.sqrt((part**2).mean()) for part in np.array_split(changes, passages)]) >= _SUNG
    for passage, numbers in enumerate(np.array_split(np.arange(middles), passages)):
        if not sung[passage]:
            continue
        part = samples[2 * numbers[0] * _NOTE_STEP : (2 * numbers[-1] + 3) * _NOTE_STEP]
        amplitudes = _amplitudes(part.reshape(-1, _SIZE))
        peaks = _peaks(amplitudes)
        before, middle, after = peaks[:-2:2], peaks[1:-1:2], peaks[2::2]
        heights = np.where(middle, amplitudes[1:-1:2, 1:-1], 0.0)
        tonal, total = heights.sum(), amplitudes[1:-1:2].sum()
        lasting = (heights * (before | after)).sum()
        squares = np.maximum((heights**2).sum(axis=1), 1e-9)
        harmonics = float(np.median(heights.sum(axis=1) ** 2 / squares))
        most = _MOST_FLEETING if lasting < _FLEETING * tonal else _MOST_HARMONICS
        has_notes = tonal >= _NOISY * total and lasting < _FIXED * tonal
        voice[passage] = has_notes and _SUNG_HARMONICS <= harmonics <= most
    return voice


def _modulation(frames: np.ndarray) -> np.ndarray:
    """How much the level of each window changes with 2 to 8 Hz, in dB (root mean square)."""
    clipped = np.maximum(frames, frames.max(axis=1, keepdims=True) - _DEPTH).reshape(-1)
    modulation: np.ndarray = np.sqrt((_changes(clipped).reshape(frames.shape) ** 2).mean(axis=1))
    return modulation


def _changes(levels: np.ndarray) -> np.ndarray:
    """The part of the levels that changes with 2 to 8 Hz, in dB."""
    return _averaged(levels, _FAST) - _averaged(levels, _SLOW)


def _averaged(values: np.ndarray, width: int) -> np.ndarray:
    """The moving average; `width` is even."""
    total = np.cumsum(np.concatenate(([0.0], np.pad(values, (width // 2, width // 2 - 1), mode="edge"))))
    average: np.ndarray = (total[width:] - total[:-width]) / width
    return average


def _amplitudes(parts: np.ndarray) -> np.ndarray:
    """The spectra of int16 parts, shape (..., 1024), in the band of the voice: shape (..., bins)."""
    amplitudes: np.ndarray = np.abs(np.fft.rfft(parts * _WEIGHTS)[..., _BINS])
    return amplitudes


def _peaks(amplitudes: np.ndarray) -> np.ndarray:
    """Which of the inner bins are peaks: bool, shape (..., bins - 2)."""
    # Peaks hardly count in the mean of square roots, and it takes less time than the median.
    typical = np.sqrt(amplitudes).mean(axis=-1, keepdims=True) ** 2
    inner = amplitudes[..., 1:-1]
    higher = (inner > amplitudes[..., :-2]) & (inner >= amplitudes[..., 2:])
    peaks: np.ndarray = higher & (inner > _PEAK * typical)
    return peaks
