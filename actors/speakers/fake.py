"""A speaker model without weights: a voice is a pitch. Deterministic, for tests and load tests."""

from __future__ import annotations

import numpy as np

from actors.records import SAMPLING_RATE
from actors.speakers.base import CHUNK_FRAMES, FRAME_SAMPLES, FRAME_STEP, LOCAL_SPEAKERS, SpeakerBackend

# Amplitude of what is no silence: -60 dBFS.
_SILENCE = 0.001
# Bands up to 4,800 Hz, by which frames are told apart. Frames are too short for narrow ones.
_BANDS, _BAND_HZ = 8, 600.0
# A second voice is heard where another band has this share of the strongest one's energy.
_SECOND = 0.3


class FakeSpeakers(SpeakerBackend):
    """Tells tones apart by their bands: one person a band; two loud bands are two people at once.

    Within a chunk the first tone is speaker 0, the next other one speaker 1, and so on.
    """

    model = "fake"
    revision = "1"
    dimension = _BANDS

    def activities(self, chunks: np.ndarray) -> np.ndarray:
        """See `SpeakerBackend`."""
        active = np.zeros((len(chunks), CHUNK_FRAMES, LOCAL_SPEAKERS), bool)
        for chunk, table in zip(chunks, active, strict=True):
            known: list[int] = []
            for frame in range(CHUNK_FRAMES):
                start = frame * FRAME_STEP + (FRAME_SAMPLES - FRAME_STEP) // 2
                for band in _loud_bands(chunk[start : start + FRAME_STEP]):
                    if band not in known and len(known) < LOCAL_SPEAKERS:
                        known.append(band)
                    if band in known:
                        table[frame, known.index(band)] = True
        return active

    def embed(self, windows: np.ndarray) -> np.ndarray:
        """See `SpeakerBackend`."""
        bands = np.stack([np.sqrt(_bands(window)) for window in windows]).astype(np.float32)
        norms = np.linalg.norm(bands, axis=1, keepdims=True)
        return bands / np.where(norms > 0, norms, 1)


def _loud_bands(wave: np.ndarray) -> list[int]:
    # A part of a tone is a click, which has all pitches.
    if np.mean(np.abs(wave) > _SILENCE) < 0.5:
        return []
    energies = _bands(wave)
    return [int(band) for band in np.flatnonzero(energies >= _SECOND * energies.max())][:2]


def _bands(wave: np.ndarray) -> np.ndarray:
    """The energy in each band."""
    power = np.abs(np.fft.rfft(wave * np.hanning(len(wave)))) ** 2
    hertz = np.fft.rfftfreq(len(wave), 1 / SAMPLING_RATE)
    bands = np.floor(hertz / _BAND_HZ).astype(int)
    inside = bands < _BANDS
    return np.bincount(bands[inside], power[inside], _BANDS)
