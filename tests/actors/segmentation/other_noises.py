"""Noises on which no threshold was chosen, beside those of `held_out_mixes`: machines, alarms, nature."""

from __future__ import annotations

import numpy as np

from actors.records import SAMPLING_RATE
from tests.actors.segmentation.mixes import Maker


def _time(count: int) -> np.ndarray:
    return np.arange(count) / SAMPLING_RATE


def _band(count: int, low: float, high: float, rng: np.random.Generator) -> np.ndarray:
    spectrum = np.fft.rfft(rng.standard_normal(count))
    pitch = np.fft.rfftfreq(count, 1 / SAMPLING_RATE)
    return np.fft.irfft(np.where((pitch > low) & (pitch < high), spectrum, 0), count)


def siren(count: int, rng: np.random.Generator) -> np.ndarray:
    """A siren that rises and falls, with odd harmonics and some wind."""
    pitch = 900 + rng.uniform(200, 450) * np.sin(2 * np.pi * rng.uniform(0.15, 0.5) * _time(count))
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLING_RATE
    return sum(np.sin(k * phase) / k for k in (1, 3, 5)) + 0.05 * rng.standard_normal(count)


def alarm(count: int, rng: np.random.Generator) -> np.ndarray:
    """Groups of short beeps."""
    place = _time(count) % rng.uniform(1.2, 2.0)
    on = (place < 0.5) & (place % 0.125 < 0.07)
    return np.where(on, np.sin(2 * np.pi * rng.uniform(900, 3000) * _time(count)), 0) + 0.002 * (
        rng.standard_normal(count)
    )


def fan(count: int, rng: np.random.Generator) -> np.ndarray:
    """The wind of blades, and the hum of their motor."""
    wind = _band(count, 50, 3000, rng) * (1 + 0.3 * np.sin(2 * np.pi * rng.uniform(12, 30) * _time(count)))
    return wind / wind.std() + 0.5 * sum(np.sin(2 * np.pi * 100 * k * _time(count)) / k for k in range(1, 6))


def applause(count: int, rng: np.random.Generator) -> np.ndarray:
    """Hundreds of claps a second that swell and fade."""
    clap = np.exp(-_time(800) * 250)
    wave = np.zeros(count)
    for place in rng.integers(0, max(1, count - 800), count * 150 // SAMPLING_RATE):
        wave[place : place + 800] += rng.exponential(1) * clap * rng.standard_normal(800)
    return wave * (1 + 0.5 * np.sin(2 * np.pi * 0.08 * _time(count)))


def crickets(count: int, rng: np.random.Generator) -> np.ndarray:
    """Chirps of four pulses near 4 kHz, two or three times a second."""
    place = _time(count) % (1 / rng.uniform(2, 3))
    pulses = (place < 0.16) * np.maximum(0, np.sin(2 * np.pi * 25 * place)) ** 2
    return pulses * np.sin(2 * np.pi * rng.uniform(3500, 5000) * _time(count)) + 0.01 * (
        rng.standard_normal(count)
    )


def washing(count: int, rng: np.random.Generator) -> np.ndarray:
    """A drum that turns and stops, with water."""
    turning = np.clip(3 * np.sin(2 * np.pi * 0.07 * _time(count)), 0, 1)
    phase = 2 * np.pi * np.cumsum(30 + 60 * turning) / SAMPLING_RATE
    motor = sum(np.sin(k * phase + rng.uniform(0, 6)) / k**0.7 for k in range(1, 15))
    return turning * motor + _band(count, 200, 2500, rng) * (1 + 0.6 * np.sin(2 * np.pi * 0.9 * _time(count)))


def drill(count: int, rng: np.random.Generator) -> np.ndarray:
    """A drill whose speed drops under load, with noise of the stone."""
    pitch = (
        260
        - 80 * (np.sin(2 * np.pi * 0.2 * _time(count)) > 0.3)
        + 6 * np.cumsum(rng.standard_normal(count)) / np.sqrt(count)
    )
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLING_RATE
    return sum(np.sin(k * phase) / k**0.6 for k in range(1, 20)) + 0.5 * rng.standard_normal(count)


OTHER_NOISES: tuple[Maker, ...] = (siren, alarm, fan, applause, crickets, washing, drill)
