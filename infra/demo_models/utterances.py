"""Utterances made on the fly: word clips strung together with pauses, then put through a room, a channel and
noise.

Every utterance comes with its text and the exact time of every word. All times are seconds, all audio is
float32 mono at 16 kHz.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import fft

from infra.demo_models.codecs import round_trip
from infra.demo_models.words import BY_CODE, LANGUAGES, Language

RATE = 16_000
"""Sampling rate, Hz."""


@dataclass
class Utterance:
    """One labelled recording.

    Attributes:
        audio: samples.
        language: the language said, None for noise and silence.
        words: indices of the words said.
        spans: start and end of each word, seconds.
    """

    audio: np.ndarray
    language: Language | None = None
    words: list[int] = field(default_factory=list)
    spans: list[tuple[float, float]] = field(default_factory=list)

    @property
    def answer(self) -> str:
        """What the recogniser must write."""
        return (
            f"language {self.language.name}<asr_text>{self.language.text(self.words)}"
            if self.language
            else "language None<asr_text>"
        )

    def units(self) -> list[tuple[str, float, float]]:
        """The alignment units with their times; a word of several characters is divided evenly among them."""
        if self.language is None:
            return []
        units = []
        for text, position, k, pieces in self.language.units(self.words):
            start, end = self.spans[position]
            step = (end - start) / pieces
            units.append((text, start + k * step, start + (k + 1) * step))
        return units


class Clips:
    """The word clips of one split, by language and voice."""

    def __init__(self, folder: Path, split: str) -> None:
        self._folder, self._split, self._seen = folder, split, set[str]()
        self.voices: dict[str, list[dict[int, np.ndarray]]] = {language.code: [] for language in LANGUAGES}
        self.names: dict[str, list[str]] = {language.code: [] for language in LANGUAGES}
        self.weights: dict[str, list[float]] = {language.code: [] for language in LANGUAGES}
        self.noise = NoisePool(np.random.default_rng(17))
        self.refresh()

    def refresh(self) -> None:
        """Takes in the voices that were synthesised since the last look."""
        for path in sorted(self._folder.glob(f"{self._split}.*.npz")):
            if path.name in self._seen or path.name.endswith(".tmp.npz"):
                continue
            self._seen.add(path.name)
            code, engine = path.name.split(".")[1:3]
            with np.load(path) as data:
                audio, ends, words = data["audio"], data["ends"], data["words"]
            starts = np.concatenate([[0], ends[:-1]])
            self.voices[code].append(
                {int(word): audio[a:b] for word, a, b in zip(words, starts, ends, strict=True)}
            )
            self.names[code].append(path.name)
            poor = code in ("de", "ru", "ko", "yue")
            self.weights[code].append({"kokoro": 3.0, "espeak": 0.8 if poor else 0.6}.get(engine, 3.0))

    def voice(self, code: str, rng: np.random.Generator) -> dict[int, np.ndarray]:
        """Draws a voice of a language: its clips by word index."""
        weights = np.array(self.weights[code])
        return self.voices[code][rng.choice(len(weights), p=weights / weights.sum())]


@dataclass(frozen=True)
class Style:
    """How utterances are made.

    Attributes:
        seconds: shortest and longest target length.
        silence: share of utterances without speech.
        clean: share of utterances that pass without room, channel and codec.
        stretch: largest relative change of speed and pitch.
        snr: lowest and highest ratio of speech to noise, dB.
        codec: share of utterances that pass through a lossy codec.
        pace: 1 for all lengths of pauses, less for short ones only.
    """

    seconds: tuple[float, float] = (0.5, 16.5)
    silence: float = 0.05
    clean: float = 0.25
    stretch: float = 0.15
    snr: tuple[float, float] = (8.0, 50.0)
    codec: float = 0.06
    pace: float = 1.0


def resampled(wave: np.ndarray, factor: float) -> np.ndarray:
    """Plays a clip ``factor`` times faster, which also raises its pitch and formants."""
    length = max(1, int(len(wave) / factor))
    return np.interp(np.linspace(0, len(wave) - 1, length), np.arange(len(wave)), wave).astype(np.float32)


def coloured_noise(length: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of unit power with a random spectral slope and, at times, a hum or a slow swell."""
    size = fft.next_fast_len(length, real=True)
    spectrum = fft.rfft(rng.standard_normal(size, dtype=np.float32))
    frequency = np.arange(1, len(spectrum) + 1, dtype=np.float32) / len(spectrum)
    spectrum *= frequency ** -np.float32(rng.choice([0.0, 0.0, 0.5, 1.0]))
    if rng.random() < 0.2:
        spectrum *= 1 + 3 * np.exp(-(((frequency - rng.random()) / 0.05) ** 2)).astype(np.float32)
    noise = fft.irfft(spectrum, size)[:length]
    if rng.random() < 0.35:
        time = np.arange(length, dtype=np.float32) / RATE
        noise *= 1 + rng.uniform(0, 0.8) * np.sin(2 * np.pi * rng.uniform(0.2, 4) * time + rng.uniform(0, 6))
        if rng.random() < 0.4:
            hum = rng.choice([50.0, 60.0, 100.0, 120.0])
            noise += (
                sum(rng.uniform(0, 1) * np.sin(2 * np.pi * hum * k * time) for k in (1, 2, 3)) * noise.std()
            )
    return (noise / max(1e-9, float(noise.std()))).astype(np.float32)


class NoisePool:
    """Stretches of noise made once and cut at random: making them anew for every utterance would cost more
    than the training step.
    """

    def __init__(self, rng: np.random.Generator, count: int = 80, seconds: float = 24.0) -> None:
        self._noises = [coloured_noise(int(seconds * RATE), rng) for _ in range(count)]

    def cut(self, length: int, rng: np.random.Generator) -> np.ndarray:
        """Takes ``length`` samples of unit-power noise."""
        noise = self._noises[rng.integers(len(self._noises))]
        if length > len(noise):
            return np.resize(noise, length)
        start = rng.integers(0, len(noise) - length + 1)
        return noise[start : start + length]


def music(length: int, rng: np.random.Generator) -> np.ndarray:
    """A string of decaying chords and drum-like clicks: no speech, but not steady either."""
    out, time = np.zeros(length, np.float32), np.arange(length) / RATE
    beat = rng.uniform(0.15, 0.8)
    for number in range(int(length / RATE / beat) + 1):
        start = int(number * beat * RATE)
        left = time[: max(0, length - start)]
        if not len(left):
            break
        envelope = np.exp(-left / rng.uniform(0.05, 0.6))
        if rng.random() < 0.3:
            tone = rng.standard_normal(len(left)) * np.exp(-left / 0.03)
        else:
            base = 110 * 2 ** (rng.integers(0, 36) / 12)
            tone = (
                sum(
                    np.sin(2 * np.pi * base * ratio * left) / ratio
                    for ratio in rng.choice([1.0, 1.26, 1.5, 2.0, 3.0], 3)
                )
                * envelope
            )
        out[start:] += tone.astype(np.float32)
    return out / max(1e-9, float(np.abs(out).max()))


def silence(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Anything that holds no words: digital silence, noise, hum, music, clicks."""
    length = int(seconds * RATE)
    kind = rng.random()
    if kind < 0.15:
        return np.zeros(length, np.float32)
    if kind < 0.45:
        wave = music(length, rng) * rng.uniform(0.02, 0.7)
        return (wave + coloured_noise(length, rng) * 10 ** rng.uniform(-4, -2)).astype(np.float32)
    wave = coloured_noise(length, rng) * 10 ** rng.uniform(-4.5, -0.9)
    for _ in range(rng.poisson(1.0)):
        at, width = rng.integers(0, length), int(rng.uniform(0.002, 0.15) * RATE)
        burst = (
            rng.standard_normal(min(width, length - at))
            * np.hanning(2 * width)[width : width + min(width, length - at)]
        )
        wave[at : at + width] += (burst * rng.uniform(0.02, 0.4)).astype(np.float32)
    return wave.astype(np.float32)


def room(rng: np.random.Generator) -> np.ndarray:
    """Impulse response of a synthetic room (60 dB decay in 0.1 to 0.6 s)."""
    decay = rng.uniform(0.1, 0.6)
    length = int(decay * 0.7 * RATE)
    response = rng.standard_normal(length, dtype=np.float32) * np.exp(
        -6.9 * np.arange(length, dtype=np.float32) / np.float32(decay * RATE)
    )
    response[: int(0.002 * RATE)] = 0
    response *= np.float32(rng.uniform(0.1, 0.7)) / np.sqrt((response**2).sum())
    response[0] = 1.0
    return response


def channel(frequency: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gain of a random equaliser and, half of the time, of a telephone band or another low sampling rate.

    Args:
        frequency: where to evaluate it, Hz.
    """
    gain = np.interp(frequency, np.linspace(0, RATE / 2, 7), 10 ** (rng.uniform(-8, 8, 7) / 20)).astype(
        np.float32
    )
    draw = rng.random()
    if draw < 0.5:
        top = rng.uniform(3200, 4000) if draw < 0.4 else rng.uniform(4000, 7800)
        gain[frequency > top] *= 0.003
    if rng.random() < 0.4:
        ratio = np.minimum(frequency / np.float32(rng.uniform(60, 320)), 4) ** 4
        gain *= ratio / (1 + ratio)
    return gain


def transmitted(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Puts an utterance through a room and a channel, and at times through mu-law."""
    reverberant, filtered = rng.random() < 0.4, rng.random() < 0.75
    if reverberant or filtered:
        response = room(rng) if reverberant else np.ones(1, np.float32)
        size = fft.next_fast_len(len(wave) + len(response), real=True)
        spectrum = fft.rfft(wave, size)
        if reverberant:
            spectrum *= fft.rfft(response, size)
        if filtered:
            spectrum *= channel(np.linspace(0, RATE / 2, len(spectrum), dtype=np.float32), rng)
        wave = fft.irfft(spectrum, size)[: len(wave)]
    if rng.random() < 0.2:
        peak = max(1e-6, float(np.abs(wave).max()))
        folded = np.sign(wave) * np.log1p(255 * np.abs(wave) / peak) / np.log(256)
        folded = np.round(folded * 127) / 127
        wave = np.sign(folded) * (256 ** np.abs(folded) - 1) / 255 * peak
    return wave.astype(np.float32)


def _gap(rng: np.random.Generator, pace: float) -> float:
    if pace < 0.15:
        return float(rng.uniform(0.02, 0.15))
    if pace < 0.75:
        return float(rng.uniform(0.08, 0.5))
    return float(rng.uniform(0.25, 1.2))


def utterance(
    clips: Clips, rng: np.random.Generator, style: Style, code: str | None = None, count: int | None = None
) -> Utterance:
    """Makes one utterance.

    Args:
        clips: where words come from.
        rng: source of all randomness.
        style: how long, how noisy.
        code: language; None draws one, or now and then none at all.
        count: number of words; None fills the drawn length.
    """
    seconds = rng.uniform(*style.seconds)
    if code is None:
        if rng.random() < style.silence:
            return Utterance(silence(rng, seconds))
        code = LANGUAGES[rng.integers(len(LANGUAGES))].code
    language, voice = BY_CODE[code], clips.voice(code, rng)
    other = clips.voice(code, rng) if rng.random() < 0.15 else voice
    factor, pace = 0.97 + rng.uniform(-style.stretch, style.stretch), rng.random() * style.pace
    digits = rng.random() < 0.25
    lead = rng.uniform(0.0, 0.15) if rng.random() < 0.3 else rng.uniform(0.05, 0.6)
    if rng.random() < 0.06:
        lead += rng.uniform(0, 0.4 * seconds)
    parts, spans, words, at = [np.zeros(int(lead * RATE), np.float32)], [], [], int(lead * RATE)
    while True:
        word = int(rng.integers(10 if digits else len(language.words)))
        clip = (other if rng.random() < 0.4 else voice).get(word)
        if clip is None:
            continue
        wave = resampled(
            clip.astype(np.float32) / 32768, factor * (1 + rng.uniform(-0.04, 0.04))
        ) * rng.uniform(0.55, 1.2)
        if words and (len(words) >= count if count else at + len(wave) > seconds * RATE):
            break
        spans.append((at / RATE, (at + len(wave)) / RATE))
        words.append(word)
        gap = _gap(rng, pace) + (rng.uniform(0.5, 3.0) if rng.random() < 0.02 else 0)
        parts += [wave, np.zeros(int(gap * RATE), np.float32)]
        at += len(wave) + len(parts[-1])
    at -= len(parts.pop())
    parts.append(
        np.zeros(
            int((rng.uniform(0.0, 0.15) if rng.random() < 0.3 else rng.uniform(0.05, 0.7)) * RATE), np.float32
        )
    )
    audio = np.concatenate(parts)
    if rng.random() >= style.clean:
        audio = transmitted(audio, rng)
    power = float(np.sqrt((audio**2).mean())) + 1e-6
    if rng.random() < 0.9:
        audio = audio + clips.noise.cut(len(audio), rng) * power * 10 ** (-rng.uniform(*style.snr) / 20)
    audio = np.clip(audio * 10 ** rng.uniform(-1.3, 0.25), -1, 1).astype(np.float32)
    if rng.random() < style.codec:
        audio = round_trip(audio, rng)
    return Utterance(audio, language, words, spans)
