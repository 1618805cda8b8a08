"""Noises that beat, turn or come and go, beside those of `held_out_mixes` and `other_noises`."""

from __future__ import annotations

import numpy as np

from actors.records import SAMPLING_RATE
from tests.actors.segmentation.mixes import Maker


def _time(count: int) -> np.ndarray:
    return np.arange(count) / SAMPLING_RATE


def _band(count: int, low: float, high: float, rng: np.random.Generator) -> np.ndarray:
    """Noise between two frequencies, of unit power."""
    spectrum = np.fft.rfft(rng.standard_normal(count))
    pitch = np.fft.rfftfreq(count, 1 / SAMPLING_RATE)
    wave = np.fft.irfft(np.where((pitch > low) & (pitch < high), spectrum, 0), count)
    return wave / max(wave.std(), 1e-9)


def _motor(pitch: np.ndarray, harmonics: int, slope: float, rng: np.random.Generator) -> np.ndarray:
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLING_RATE
    wave = sum(np.sin(k * phase + rng.uniform(0, 6)) / k**slope for k in range(1, harmonics))
    return np.asarray(wave / np.std(wave))


def _strokes(count: int, places: np.ndarray, stroke: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    wave = np.zeros(count + len(stroke))
    for place in places.astype(int):
        if 0 <= place < count:
            wave[place : place + len(stroke)] += stroke * rng.uniform(0.6, 1.0)
    return wave[:count]


def train(count: int, rng: np.random.Generator) -> np.ndarray:
    """A rumble, and pairs of knocks at the joints of the rails."""
    time = np.arange(1600) / SAMPLING_RATE
    knock = np.exp(-time * 60) * (rng.standard_normal(1600) + np.sin(2 * np.pi * rng.uniform(80, 180) * time))
    step = rng.uniform(0.9, 1.6) * SAMPLING_RATE
    starts = np.arange(0, count, step)
    places = np.concatenate([starts + shift * SAMPLING_RATE for shift in (0, 0.12, 0.45, 0.57)])
    return 0.3 * _band(count, 30, 700, rng) + 3 * _strokes(count, places, knock, rng)


def vacuum_cleaner(count: int, rng: np.random.Generator) -> np.ndarray:
    """A fast motor whose pitch follows the strokes of the nozzle, and the wind."""
    pitch = rng.uniform(180, 320) * (1 + 0.05 * np.sin(2 * np.pi * rng.uniform(0.4, 0.8) * _time(count)))
    stroke = 1 + 0.4 * np.sin(2 * np.pi * 0.6 * _time(count))
    return _motor(pitch, 16, 0.8, rng) + 0.8 * stroke * _band(count, 200, 5000, rng)


def dishwasher(count: int, rng: np.random.Generator) -> np.ndarray:
    """A pump, and the water of two arms that turn."""
    turn = np.clip(np.sin(2 * np.pi * rng.uniform(0.5, 1.0) * _time(count)), 0, 1)
    other = np.clip(np.sin(2 * np.pi * rng.uniform(1.0, 1.6) * _time(count) + 1), 0, 1)
    water = (0.3 + turn) * _band(count, 300, 3000, rng) + other * _band(count, 800, 5000, rng)
    return 0.7 * _motor(np.full(count, rng.uniform(48, 60)), 20, 0.7, rng) + water


def spinning(count: int, rng: np.random.Generator) -> np.ndarray:
    """A washing machine that spins up and down, out of balance."""
    speed = 10 + 190 * np.abs(np.sin(2 * np.pi * rng.uniform(0.01, 0.03) * _time(count)))
    beat = 1 + 0.5 * np.sin(2 * np.pi * np.cumsum(speed / 12) / SAMPLING_RATE)
    return beat * _motor(speed, 20, 0.6, rng) + 0.5 * _band(count, 100, 2000, rng)


def helicopter(count: int, rng: np.random.Generator) -> np.ndarray:
    """Blades that beat the air, over a turbine."""
    beat = np.maximum(0, np.sin(2 * np.pi * rng.uniform(8, 16) * _time(count))) ** 3
    return beat * _band(count, 40, 1500, rng) + 0.1 * _motor(np.full(count, rng.uniform(600, 900)), 4, 1, rng)


def clock(count: int, rng: np.random.Generator) -> np.ndarray:
    """A clock that ticks and tocks in a quiet room."""
    time = np.arange(500) / SAMPLING_RATE
    tick = np.exp(-time * 400) * np.sin(2 * np.pi * rng.uniform(2000, 4000) * time)
    tock = np.exp(-time * 300) * np.sin(2 * np.pi * rng.uniform(1200, 2000) * time)
    whole = _strokes(count, np.arange(0, count, SAMPLING_RATE), tick, rng)
    return (
        0.003 * rng.standard_normal(count)
        + whole
        + _strokes(count, np.arange(SAMPLING_RATE // 2, count, SAMPLING_RATE), tock, rng)
    )


def hammering(count: int, rng: np.random.Generator) -> np.ndarray:
    """Strokes on wood and metal that ring, in groups."""
    time = np.arange(6000) / SAMPLING_RATE
    ring = sum(
        np.sin(2 * np.pi * rng.uniform(300, 3500) * time) * np.exp(-time * rng.uniform(15, 80))
        for _ in range(5)
    )
    stroke = ring + 2 * rng.standard_normal(6000) * np.exp(-time * 150)
    gaps = rng.choice([0.3, 0.35, 0.4, 2.5], size=count // 3000 + 1, p=[0.35, 0.3, 0.25, 0.1])
    return _strokes(count, np.cumsum(gaps) * SAMPLING_RATE, stroke, rng) + 0.01 * rng.standard_normal(count)


def waves(count: int, rng: np.random.Generator) -> np.ndarray:
    """The sea: noise that swells and breaks every few seconds."""
    swell = np.maximum(0, np.sin(2 * np.pi * rng.uniform(0.1, 0.2) * _time(count))) ** 2
    return (0.15 + swell) * (_band(count, 60, 1500, rng) + 0.5 * swell * _band(count, 1500, 6000, rng))


def wipers(count: int, rng: np.random.Generator) -> np.ndarray:
    """Wipers that rub and squeak, over a motor at a steady speed."""
    turn = np.sin(2 * np.pi * rng.uniform(0.7, 1.0) * _time(count))
    squeak = np.maximum(0, turn) ** 6 * np.sin(2 * np.pi * np.cumsum(700 + 250 * turn) / SAMPLING_RATE)
    rub = np.abs(turn) * _band(count, 300, 2500, rng)
    return 0.6 * rub + 0.4 * squeak + _motor(np.full(count, rng.uniform(35, 70)), 14, 1.0, rng)


def sewing_machine(count: int, rng: np.random.Generator) -> np.ndarray:
    """A needle ten times a second while the pedal is down, and the motor's whine."""
    down = (_time(count) % rng.uniform(4, 7)) < 3
    rate = rng.uniform(8, 14)
    stitch = np.maximum(0, np.sin(2 * np.pi * rate * _time(count))) ** 4
    whine = _motor(np.where(down, 220 + 30 * np.sin(2 * np.pi * 0.5 * _time(count)), 60), 10, 0.8, rng)
    return down * (stitch * _band(count, 500, 5000, rng) + 0.5 * whine) + 0.02 * rng.standard_normal(count)


def printer(count: int, rng: np.random.Generator) -> np.ndarray:
    """A carriage that goes to and fro, with the pitch of its stepper."""
    step = int(rng.uniform(0.8, 1.4) * SAMPLING_RATE)
    number = np.arange(count) // step
    pitch = np.where(number % 3 == 2, 90.0, np.where(number % 2, 310.0, 280.0))
    inside = np.minimum(1, np.minimum(np.arange(count) % step, step - np.arange(count) % step) / 1200)
    return inside * _motor(pitch, 12, 0.9, rng) + 0.15 * _band(count, 500, 6000, rng)


def traffic(count: int, rng: np.random.Generator) -> np.ndarray:
    """Engines and tyres that come near and go away."""
    wave = 0.1 * _band(count, 40, 800, rng)
    for at in np.cumsum(rng.exponential(4, size=max(1, count // (3 * SAMPLING_RATE)))):
        near = np.exp(-(((_time(count) - at) / rng.uniform(0.8, 2.5)) ** 2))
        pitch = rng.uniform(45, 110) * (1 + 0.06 * np.tanh(at - _time(count)))
        wave = wave + near * (0.5 * _motor(pitch, 18, 0.9, rng) + _band(count, 80, 2500, rng))
    return wave


def chopping(count: int, rng: np.random.Generator) -> np.ndarray:
    """A knife on a board, four times a second, with pauses, and an extractor hood."""
    time = np.arange(1500) / SAMPLING_RATE
    cut = np.exp(-time * 120) * (rng.standard_normal(1500) + 2 * np.sin(2 * np.pi * 240 * time))
    places = np.arange(0, count, SAMPLING_RATE / rng.uniform(3.2, 5))
    places = places[(places / SAMPLING_RATE) % 5 < 3.5] + rng.uniform(-500, 500)
    return 0.1 * _band(count, 80, 3000, rng) + _strokes(count, places, cut, rng)


def tractor(count: int, rng: np.random.Generator) -> np.ndarray:
    """A slow diesel: single strokes, whose speed wanders."""
    rate = 9 + 2 * np.sin(2 * np.pi * 0.07 * _time(count))
    phase = np.cumsum(rate) / SAMPLING_RATE % 1
    pulse = np.exp(-phase * 6) * np.sin(2 * np.pi * 12 * phase * (1 + 0.2 * np.sin(2 * np.pi * _time(count))))
    return pulse + 0.15 * _band(count, 60, 1500, rng) * np.exp(-phase * 3)


RHYTHMIC_NOISES: tuple[Maker, ...] = (
    train, vacuum_cleaner, dishwasher, spinning, helicopter, clock, hammering, waves, wipers,
    sewing_machine, printer, traffic, chopping, tractor,
)  # fmt: skip
