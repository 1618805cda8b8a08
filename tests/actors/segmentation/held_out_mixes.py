"""Recordings on which no threshold was chosen: other speech, other sounds and other levels than `mixes`.

Their speech are clips of the corpus without labelled words. A clip's words are the parts that are less than
20 dB below its level: what nobody may drop.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from actors.records import SAMPLING_RATE, Span
from actors.segmentation.levels import frame_levels, runs
from tests.actors.segmentation.mixes import Clip, Maker, Mix, at_level, passage, white

# dB below the loud parts of a clip under which a frame is no word, and frames of the shortest word and gap.
_DEPTH, _SHORTEST, _GAP = 20.0, 8, 6
# Frames of a clip that are the loud parts of it at least.
_LOUDEST = 30
# Seconds of clips, and tags of clips that are not plain speech. In films other sounds are as loud as words.
_SECONDS = (2.0, 20.0)
_OTHER = {"music", "song", "singing", "noise", "silence", "no-speech", "sound-effects", "multi-speaker"}
_OTHER |= {"film", "noisy"}


def rain(count: int, rng: np.random.Generator) -> np.ndarray:
    """Thousands of drops a minute over a hiss that swells."""
    wave = 0.3 * rng.standard_normal(count)
    for place in rng.integers(0, max(1, count - 400), count * 30 // SAMPLING_RATE):
        time = np.arange(400) / SAMPLING_RATE
        drop = np.sin(2 * np.pi * rng.uniform(1500, 6000) * time) * np.exp(-time * rng.uniform(200, 800))
        wave[place : place + 400] += rng.exponential(2) * drop
    return wave * (1 + 0.4 * np.sin(2 * np.pi * 0.1 * np.arange(count) / SAMPLING_RATE))


def engine(count: int, rng: np.random.Generator) -> np.ndarray:
    """A motor whose speed rises and falls, with its harmonics and the wind."""
    time = np.arange(count) / SAMPLING_RATE
    pitch = 45 + 25 * np.sin(2 * np.pi * 0.05 * time + rng.uniform(0, 6)) + 8 * np.sin(2 * np.pi * 0.4 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLING_RATE
    wave = sum(np.sin(k * phase + rng.uniform(0, 6)) / k**0.8 for k in range(1, 25))
    return wave + 0.6 * np.cumsum(rng.standard_normal(count) * 0.02)


def keyboard(count: int, rng: np.random.Generator) -> np.ndarray:
    """Typing: two clicks for each of five keys a second, with pauses, over a faint fan."""
    wave, place = 0.004 * rng.standard_normal(count), 0
    while place < count - 2000:
        for back, strength in ((0, 1.0), (int(rng.integers(700, 1500)), 0.5)):
            time = np.arange(300) / SAMPLING_RATE
            click = rng.standard_normal(300) * np.exp(-time * 350) + np.sin(2 * np.pi * 900 * time) * np.exp(
                -time * 250
            )
            part = wave[place + back : place + back + 300]
            part += strength * click[: len(part)] * rng.uniform(0.5, 1)
        place += int(rng.uniform(0.08, 0.35) * SAMPLING_RATE) if rng.random() > 0.08 else 2 * SAMPLING_RATE
    return wave


def ringing(count: int, rng: np.random.Generator) -> np.ndarray:
    """A telephone that rings: two tones of two seconds, then four seconds of silence."""
    time = np.arange(count) / SAMPLING_RATE
    tones = np.sin(2 * np.pi * 440 * time) + np.sin(2 * np.pi * 480 * time)
    warble = np.sin(2 * np.pi * np.where(time * 20 % 2 < 1, 850, 1050) * time)
    on = time % 6 < 2
    return np.where(on, tones if rng.random() < 0.5 else warble, 0) + 0.002 * rng.standard_normal(count)


def radio(count: int, rng: np.random.Generator) -> np.ndarray:
    """The hiss of a medium-wave receiver that fades, with a whistle and cracks."""
    spectrum = np.fft.rfft(rng.standard_normal(count))
    pitch = np.fft.rfftfreq(count, 1 / SAMPLING_RATE)
    hiss = np.fft.irfft(np.where(pitch < 4500, spectrum, 0), count)
    time = np.arange(count) / SAMPLING_RATE
    whistle = 0.15 * np.sin(2 * np.pi * (1000 * time + 8 * np.sin(2 * np.pi * 0.1 * time)))
    cracks = (rng.random(count) < 2 / SAMPLING_RATE) * rng.standard_normal(count) * 15
    return hiss * (1 + 0.5 * np.sin(2 * np.pi * 0.15 * time)) + whistle + cracks


def _note(pitch: float, length: int, rng: np.random.Generator, decay: float, harmonics: int) -> np.ndarray:
    time = np.arange(length) / SAMPLING_RATE
    tone = sum(
        np.sin(2 * np.pi * pitch * k * time + rng.uniform(0, 6)) * np.exp(-time * decay * k**0.5) / k
        for k in range(1, harmonics)
    )
    return tone * np.minimum(1, time / 0.005)


def piano(count: int, rng: np.random.Generator) -> np.ndarray:
    """Single notes and chords that ring into each other."""
    wave, place = np.zeros(count), 0
    scale = (0, 2, 4, 5, 7, 9, 11, 12)
    while place < count:
        for _ in range(int(rng.choice([1, 1, 2, 3]))):
            pitch = 130.8 * 2 ** ((int(rng.choice(scale)) + 12 * int(rng.integers(0, 3))) / 12)
            note = _note(pitch, min(count - place, 3 * SAMPLING_RATE), rng, 1.5, 8)
            wave[place : place + len(note)] += note
        place += int(rng.choice([0.25, 0.5, 0.5, 1.0]) * SAMPLING_RATE)
    return wave


def pad(count: int, rng: np.random.Generator) -> np.ndarray:
    """Slow chords of strings, many voices slightly out of tune."""
    wave, step = np.zeros(count), 4 * SAMPLING_RATE
    for place in range(0, count, step):
        length = min(count - place, step + SAMPLING_RATE)
        time = np.arange(length) / SAMPLING_RATE
        root = 110 * 2 ** (int(rng.integers(0, 12)) / 12)
        for interval in (0, 3, 7, 10):
            for _ in range(3):
                pitch = root * 2 ** (interval / 12) * rng.uniform(0.997, 1.003)
                phase = 2 * np.pi * pitch * time + rng.uniform(0, 6)
                wave[place : place + length] += sum(np.sin(k * phase) / k for k in range(1, 9)) * np.hanning(
                    length
                )
    return wave


def techno(count: int, rng: np.random.Generator) -> np.ndarray:
    """A bass drum on every beat, a bass line, and a hi-hat between."""
    wave, beat = np.zeros(count), int(60 / rng.uniform(118, 140) * SAMPLING_RATE)
    line = [55 * 2 ** (int(rng.integers(0, 8)) / 12) for _ in range(8)]
    for number, place in enumerate(range(0, count, beat // 2)):
        length = min(count - place, beat // 2)
        time = np.arange(length) / SAMPLING_RATE
        if number % 2 == 0:
            wave[place : place + length] += (
                3 * np.sin(2 * np.pi * 55 * time + 8 * np.exp(-time * 30)) * np.exp(-time * 12)
            )
        else:
            wave[place : place + length] += 0.5 * rng.standard_normal(length) * np.exp(-time * 40)
        saw = (line[number % 8] * time % 1 - 0.5) * np.exp(-time * 4)
        wave[place : place + length] += saw
    return wave


def bells(count: int, rng: np.random.Generator) -> np.ndarray:
    """Bells with partials that are no harmonics."""
    wave, place = np.zeros(count), 0
    while place < count:
        length = min(count - place, 4 * SAMPLING_RATE)
        time = np.arange(length) / SAMPLING_RATE
        pitch = rng.uniform(300, 700)
        for ratio in (0.5, 1, 1.19, 1.5, 2, 2.74, 3.76):
            wave[place : place + length] += np.sin(2 * np.pi * pitch * ratio * time) * np.exp(-time * ratio)
        place += int(rng.uniform(0.6, 2) * SAMPLING_RATE)
    return wave


MUSIC: tuple[Maker, ...] = (piano, pad, techno, bells)
NOISES: tuple[Maker, ...] = (rain, engine, keyboard, ringing, radio)


def clips(folder: Path) -> list[Clip]:
    """Clips of plain speech of the corpus that have no labelled words: other files than those of `mixes`."""
    import soundfile
    import soxr

    found = []
    for line in (folder / "manifest.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        tags = set(row.get("tags") or ())
        if row.get("words") or not row.get("language") or tags & _OTHER:
            continue
        if not _SECONDS[0] <= row["duration"] <= _SECONDS[1]:
            continue
        try:
            wave, rate = soundfile.read(folder / row["audio"], dtype="float64", always_2d=True)
        except soundfile.SoundFileError:
            continue
        samples = soxr.resample(wave[:, 0], rate, SAMPLING_RATE)
        words = spoken_parts(samples)
        if words:
            found.append(Clip(samples, words))
    return found


def spoken_parts(samples: np.ndarray) -> list[Span]:
    """The parts of a clean clip that are loud enough to be words, in samples."""
    levels = frame_levels(np.rint(np.clip(samples, -1, 1) * 32767).astype(np.int16))
    # A clip of a single short word is mostly noise: its loudest third of a second is the word.
    loudest = float(np.sort(levels)[-_LOUDEST:][0])
    loud = levels > max(np.percentile(levels, 90), loudest) - _DEPTH
    for gap in runs(~loud):
        if gap.end - gap.start < _GAP:
            loud[gap.start : gap.end] = True
    return [Span(run.start * 160, run.end * 160) for run in runs(loud) if run.end - run.start >= _SHORTEST]


def _level(wave: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(wave**2) + 1e-12))


def mixes(speech: Sequence[Clip], seed: int, noises: Sequence[Maker] = NOISES) -> Iterator[Mix]:
    """Twenty recordings of one and a half to four minutes; two for each noise and ten others."""
    rng = np.random.default_rng(seed)

    def spoken(dbfs: float, count: int = 5) -> Clip:
        return passage([speech[number] for number in rng.permutation(len(speech))[:count]], dbfs, rng)

    def bed(maker: Maker, seconds: float, dbfs: float) -> Clip:
        return Clip(at_level(maker(round(seconds * SAMPLING_RATE), rng), dbfs), [])

    def over(clip: Clip, maker: Maker, dbfs: float) -> Clip:
        # What is softer than the noise is heard by nobody.
        words = [word for word in clip.words if _level(clip.samples[word.start : word.end]) >= dbfs]
        return Clip(clip.samples + at_level(maker(len(clip.samples), rng), dbfs), words)

    def joined(name: str, parts: Sequence[Clip], floor: float, gain: float = 1.0, offset: float = 0.0) -> Mix:
        wave = np.concatenate([part.samples for part in parts])
        starts = np.cumsum([0, *(len(part.samples) for part in parts)])
        words = [
            Span(int(start) + word.start, int(start) + word.end)
            for part, start in zip(parts, starts, strict=False)
            for word in part.words
        ]
        wave = gain * (wave + 10 ** (floor / 20) * rng.standard_normal(len(wave))) + offset
        return Mix(name, np.rint(np.clip(wave, -1, 1) * 32767).astype(np.int16), words)

    for maker in noises:
        dbfs = float(rng.uniform(-45, -28))
        distance = float(rng.uniform(8, 18))
        parts = [bed(maker, 40, dbfs), over(spoken(dbfs + distance), maker, dbfs), bed(maker, 35, dbfs)]
        yield joined(f"{maker.__name__} at {dbfs:.0f} dB, speech {distance:.0f} dB above", parts, -80)
        dbfs = float(rng.uniform(-55, -35))
        parts = [spoken(-24, 4), bed(maker, 45, dbfs), spoken(-30, 3), bed(maker, 25, dbfs)]
        yield joined(f"speech between {maker.__name__} at {dbfs:.0f} dB", parts, -75)
    for maker in MUSIC:
        dbfs = float(rng.uniform(-36, -24))
        distance = float(rng.uniform(6, 15))
        parts = [bed(maker, 35, dbfs), over(spoken(dbfs + distance), maker, dbfs), bed(maker, 30, dbfs)]
        yield joined(f"{maker.__name__} at {dbfs:.0f} dB, speech {distance:.0f} dB above", parts, -80)
    yield joined("clipped", [bed(white, 30, -45), spoken(-16), bed(white, 30, -45), spoken(-14)], -75, 3.0)
    yield joined("an offset", [bed(white, 30, -60), spoken(-30), bed(white, 30, -60)], -75, 1.0, 0.12)
    for quiet, loud in ((-60.0, -18.0), (-65.0, -25.0)):
        parts = [over(spoken(loud, 8), white, loud - 28), spoken(quiet, 4), spoken(loud, 3), spoken(quiet, 3)]
        yield joined(f"speech at {quiet:g} and {loud:g} dB by turns", parts, -92)
    yield joined("a quiet room", [bed(rain, 30, -70), spoken(-45), bed(rain, 40, -70), spoken(-50, 3)], -85)
    parts = [bed(piano, 30, -28), spoken(-58, 4), bed(techno, 20, -20), spoken(-25, 3)]
    yield joined("speech at -58 dB behind a piano", parts, -88)
