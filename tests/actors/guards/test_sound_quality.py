"""Noise, bandwidth, clipping and copies are measured as they are."""

from __future__ import annotations

import numpy as np
import pytest

from actors.guards.sound_quality import bandwidth, clipped_share, fingerprint, measure

RATE = 16_000


def _speechlike(seed: int = 0, seconds: float = 4.0, top: float = 8000.0) -> np.ndarray:
    """Syllables of noise below `top` Hz, at 4 Hz, with pauses."""
    generator = np.random.default_rng(seed)
    count = round(seconds * RATE)
    spectrum = np.fft.rfft(generator.normal(size=count))
    frequencies = np.fft.rfftfreq(count, 1 / RATE)
    spectrum[frequencies > top] = 0
    carrier = np.fft.irfft(spectrum, count)
    syllables = np.repeat(generator.uniform(0.3, 1.0, round(seconds * 4) + 1), RATE // 4)[:count]
    envelope = syllables * np.maximum(0.0, np.sin(2 * np.pi * 4 * np.arange(count) / RATE))
    signal = carrier * envelope
    return np.asarray(signal / np.abs(signal).max() * 20000, np.int16)


@pytest.mark.parametrize("snr", [0, 10, 20, 30])
def test_noise_is_measured_within_three_decibels(snr: int) -> None:
    speech = _speechlike().astype(float)
    loud = np.sort(speech.reshape(-1, 160).var(axis=1))[-len(speech) // 320 :].mean()
    noise = np.random.default_rng(1).normal(size=len(speech)) * np.sqrt(loud / 10 ** (snr / 10))
    measured = measure(np.clip(speech + noise, -32768, 32767).astype(np.int16)).snr_db
    assert measured == pytest.approx(snr, abs=3)


@pytest.mark.parametrize("top", [2000.0, 3400.0, 7000.0])
def test_the_bandwidth_is_where_the_spectrum_ends(top: float) -> None:
    assert bandwidth(_speechlike(top=top)) == pytest.approx(top, abs=350)


def test_clipping_is_found_at_any_level_and_not_in_loud_speech() -> None:
    samples = _speechlike(top=1500.0).astype(float)
    clipped = np.clip(samples * 4, -20000, 20000) * 0.3
    assert clipped_share(clipped.astype(np.int16)) > 0.01
    assert clipped_share(_speechlike(top=3400.0)) < 0.001


def test_silence_has_no_noise_and_no_bandwidth() -> None:
    signal = measure(np.zeros(RATE, np.int16))
    assert (signal.snr_db, signal.bandwidth_hz, signal.fingerprint) == (None, None, b"")


def test_copies_share_a_fingerprint_and_others_do_not() -> None:
    def differing(one: bytes, other: bytes) -> int:
        return (int.from_bytes(one) ^ int.from_bytes(other)).bit_count()

    samples = _speechlike()
    quieter = (samples * 0.4 + np.random.default_rng(2).normal(0, 20, len(samples))).astype(np.int16)
    assert differing(fingerprint(samples), fingerprint(quieter)) < 40
    assert differing(fingerprint(samples), fingerprint(_speechlike(seed=5))) > 80
