"""Conversations made from single voices, with the truth about who speaks when."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

RATE = 16_000
# Seconds of a turn, of a pause between turns, and of an overlap.
TURNS, PAUSES, OVERLAPS = (1.0, 20.0), (0.15, 1.8), (0.5, 2.0)
# Speech is at most 35 dB below the level of the clip, and 10 dB above its quietest tenth where that is
# louder; seconds of a pause that is no speech.
_SPEECH_DB, _NOISE_DB, _PAUSE = -35.0, 10.0, 0.5

Turn = tuple[float, float, str]


@dataclass(frozen=True)
class Conversation:
    """Samples at 16 kHz in [-1, 1], and the truth: start and end in seconds, speaker.

    A turn has the pauses within it. In `speech`, those of half a second and more are left out.
    """

    samples: np.ndarray
    turns: list[Turn]
    speech: list[Turn]

    @property
    def speakers(self) -> int:
        """How many people speak."""
        return len({speaker for _, _, speaker in self.turns})


def corpus_voices(folder: Path | None = None) -> dict[str, list[np.ndarray]]:
    """The clips of each voice of the recorded corpus: five LibriSpeech speakers, others with a few clips.

    Raises:
        FileNotFoundError: there is no corpus; the environment variable CORPUS_DIR may name it.
    """
    import soundfile

    beside = Path(__file__).resolve().parents[4] / "shared" / "corpus"
    folder = folder or Path(os.environ.get("CORPUS_DIR") or beside)
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    voices: dict[str, list[np.ndarray]] = {}
    for row in rows:
        name = Path(row["audio"]).stem
        voice = _voice_of(name, row)
        if voice is None or not row["audio"].endswith((".wav", ".flac", ".ogg")):
            continue
        samples, rate = soundfile.read(folder / row["audio"], dtype="float32", always_2d=True)
        samples = samples.mean(1)
        voices.setdefault(voice, []).append(samples if rate == RATE else soxr.resample(samples, rate, RATE))
    return voices


def _voice_of(name: str, row: Mapping[str, object]) -> str | None:
    """The speaker of a file of the corpus; None where it is not known to be one person of its own."""
    if name.startswith("ls_"):
        return name.split("-")[0]
    if name.startswith("so762_"):  # the first five digits are the speaker
        return name[:11]
    if name.startswith("LJ001"):
        return "LJ"
    if name.startswith("kerstin_de"):
        return "kerstin"
    if name.startswith("emotts_"):
        return name[:10]
    single = ("61-70968", "librispeech-1995", "2412-153948", "jfk_16k", "vosk_10001", "beckett", "sense_and")
    return next((prefix for prefix in single if name.startswith(prefix)), None)


def converse(
    rng: np.random.Generator,
    voices: Mapping[str, Sequence[np.ndarray]],
    speakers: int,
    seconds: float,
    overlap: float = 0.05,
) -> Conversation:
    """Make a conversation.

    Args:
        rng: decides everything.
        voices: clips of each voice.
        speakers: how many of them take part.
        seconds: about how long it is.
        overlap: share of the speech in which two speak.
    """
    names = sorted(voices)
    cast = [names[index] for index in rng.choice(len(names), speakers, replace=False)]
    gains = {name: 10 ** (rng.uniform(-3, 3) / 20) for name in cast}
    weights = rng.dirichlet([3.0] * speakers)
    mix = np.zeros(int((seconds + 60) * RATE), np.float32)
    turns: list[Turn] = []
    speech: list[Turn] = []
    position, speaker, overlapped, spoken = 0.3, "", 0.0, 0.0
    order = list(cast)  # everybody speaks at least once
    while position < seconds or order:
        others = [name for name in cast if name != speaker] or cast
        fresh = [name for name in order if name != speaker]
        if fresh and (len(turns) < 2 * speakers or position >= seconds):
            speaker = fresh[0]
        else:
            chances = np.array([weights[cast.index(name)] for name in others])
            speaker = others[int(rng.choice(len(others), p=chances / chances.sum()))]
        if speaker in order:
            order.remove(speaker)
        length = float(np.clip(rng.lognormal(1.5, 0.8), *TURNS))
        clip, spans = _turn(rng, voices[speaker], length)
        start = position
        if turns and overlapped < overlap * spoken and turns[-1][2] != speaker:
            shared = min(float(rng.uniform(*OVERLAPS)), 0.6 * len(clip) / RATE, turns[-1][1] - turns[-1][0])
            start = max(0.0, turns[-1][1] - shared)
            overlapped += shared
        first = int(start * RATE)
        if first + len(clip) > len(mix):
            break
        mix[first : first + len(clip)] += gains[speaker] * clip
        turns.append((first / RATE, (first + len(clip)) / RATE, speaker))
        speech += [(first / RATE + begin, first / RATE + end, speaker) for begin, end in spans]
        spoken += len(clip) / RATE
        position = first / RATE + len(clip) / RATE + float(rng.uniform(*PAUSES))
    end = int((max(turn[1] for turn in turns) + 0.5) * RATE)
    mix = mix[:end] + 0.0005 * rng.standard_normal(end).astype(np.float32)
    return Conversation(mix / max(1.0, float(np.abs(mix).max())), sorted(turns), sorted(speech))


def _turn(
    rng: np.random.Generator, clips: Sequence[np.ndarray], seconds: float
) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """About so many seconds of a voice at -26 dBFS, and its spans of speech."""
    parts: list[np.ndarray] = []
    left = int(seconds * RATE)
    while left > RATE // 2:
        clip = _trimmed(clips[int(rng.integers(len(clips)))])
        offset = int(rng.integers(max(1, len(clip) - left + 1)))
        part = _trimmed(clip[offset : offset + left])
        if len(part) < RATE // 4:
            left -= RATE // 4
            continue
        parts += [part, np.zeros(int(rng.uniform(0.05, 0.3) * RATE), np.float32)]
        left -= len(part)
    wave = np.concatenate(parts[:-1]) if parts else _trimmed(clips[0])[: int(seconds * RATE)]
    wave = wave * (0.05 / max(1e-6, float(np.sqrt(np.mean(wave**2)))))
    fade = min(80, len(wave) // 2)
    wave[:fade] *= np.linspace(0, 1, fade, dtype=np.float32)
    wave[len(wave) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return wave, _speech(wave)


def _levels(wave: np.ndarray) -> np.ndarray:
    """Level of each 10 ms in dB of the whole."""
    frames = wave[: len(wave) // 160 * 160].reshape(-1, 160)
    power = np.mean(frames**2, axis=1) if len(frames) else np.zeros(1)
    return 10 * np.log10(np.maximum(power, 1e-12) / max(1e-12, float(power.mean())))


def _trimmed(wave: np.ndarray) -> np.ndarray:
    loud = np.flatnonzero(_levels(wave) > _SPEECH_DB)
    return wave[loud[0] * 160 : (loud[-1] + 1) * 160] if len(loud) else wave[:0]


def _speech(wave: np.ndarray) -> list[tuple[float, float]]:
    """Spans of speech in seconds, pauses of less than half a second bridged."""
    spans: list[tuple[float, float]] = []
    levels = _levels(wave)
    floor = min(max(_SPEECH_DB, float(np.percentile(levels, 10)) + _NOISE_DB), -15.0)
    for frame in np.flatnonzero(levels > floor):
        start, end = frame / 100, (frame + 1) / 100
        if spans and start - spans[-1][1] < _PAUSE:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return spans


def noisy(rng: np.random.Generator, samples: np.ndarray, decibels: float) -> np.ndarray:
    """The samples with pink noise so many decibels below them."""
    spectrum = np.fft.rfft(rng.standard_normal(len(samples)))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
    noise = np.fft.irfft(spectrum, len(samples))
    scale = np.sqrt(np.mean(samples**2) / np.mean(noise**2)) * 10 ** (-decibels / 20)
    return (samples + scale * noise).astype(np.float32)


def telephone(samples: np.ndarray) -> np.ndarray:
    """The samples as a telephone carries them: 300 to 3,400 Hz, 8 kHz, mu-law."""
    spectrum = np.fft.rfft(samples)
    hertz = np.fft.rfftfreq(len(samples), 1 / RATE)
    spectrum[(hertz < 300) | (hertz > 3400)] = 0
    narrow = soxr.resample(np.fft.irfft(spectrum, len(samples)).astype(np.float32), RATE, 8000)
    narrow = np.clip(narrow / max(1e-6, float(np.abs(narrow).max())), -1, 1)
    coded = np.round(np.sign(narrow) * np.log1p(255 * np.abs(narrow)) / np.log(256) * 127) / 127
    return soxr.resample(np.sign(coded) * np.expm1(np.abs(coded) * np.log(256)) / 255, 8000, RATE).astype(
        np.float32
    )
