"""Recordings whose speech is known, mixed from clips of speech and synthetic noise, hum, clicks and music."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from actors.records import SAMPLING_RATE, Span

# Samples around speech that may be sent with it, and samples of a pause that may be sent: 0.5 and 2 s.
AROUND, PAUSE = SAMPLING_RATE // 2, 2 * SAMPLING_RATE


@dataclass
class Clip:
    """A clip of speech: int16 at 16 kHz, and the samples of its words."""

    samples: np.ndarray
    words: list[Span]


@dataclass
class Mix:
    """A recording, and the samples of its words."""

    name: str
    samples: np.ndarray
    words: list[Span]

    def lost_words(self, sent: Sequence[Span]) -> list[Span]:
        """The words of which a part was not sent: 10 ms at their edges are not counted."""
        mask = _mask(sent, len(self.samples))
        return [word for word in self.words if not mask[word.start + 160 : word.end - 160].all()]

    def idle_seconds(self, sent: Sequence[Span]) -> float:
        """The seconds that were sent and hold no speech: neither words, nor what is near them."""
        speech = _mask(
            [Span(max(0, word.start - AROUND), word.end + AROUND) for word in self.words], len(self.samples)
        )
        for left, right in zip(self.words, self.words[1:], strict=False):
            if right.start - left.end <= PAUSE:
                speech[left.end : right.start] = True
        return float((_mask(sent, len(self.samples)) & ~speech).sum() / SAMPLING_RATE)


def _mask(spans: Sequence[Span], total: int) -> np.ndarray:
    mask = np.zeros(total, bool)
    for span in spans:
        mask[span.start : span.end] = True
    return mask


def at_level(wave: np.ndarray, dbfs: float) -> np.ndarray:
    """The wave with this root mean square, in dB relative to full scale: float64 in [-1, 1]."""
    return np.asarray(wave, np.float64) * (10 ** (dbfs / 20) / max(float(np.sqrt(np.mean(wave**2.0))), 1e-9))


def white(count: int, rng: np.random.Generator) -> np.ndarray:
    """White noise."""
    return rng.standard_normal(count)


def street(count: int, rng: np.random.Generator) -> np.ndarray:
    """Brown noise that swells, as cars pass."""
    spectrum = np.fft.rfft(rng.standard_normal(count))
    spectrum /= np.maximum(np.arange(len(spectrum)), 20 * count / SAMPLING_RATE) ** 0.8
    noise = at_level(np.fft.irfft(spectrum, count), -20)
    time = np.arange(count) / SAMPLING_RATE
    swell = sum(np.exp(-(((time - at) / 2) ** 2)) for at in np.arange(2, time[-1], 7))
    return noise * (1 + 2 * swell)


def hum(count: int, rng: np.random.Generator) -> np.ndarray:
    """Mains hum of 50 Hz and its harmonics."""
    time = np.arange(count) / SAMPLING_RATE
    return sum(np.sin(2 * np.pi * 50 * k * time + rng.uniform(0, 6)) / k for k in range(1, 8))


def chords(count: int, rng: np.random.Generator) -> np.ndarray:
    """Chords of plucked strings, one or two seconds each."""
    wave, place = np.zeros(count), 0
    while place < count:
        length = min(count - place, int(rng.choice([1, 2]) * SAMPLING_RATE))
        time = np.arange(length) / SAMPLING_RATE
        root = 110 * 2 ** (rng.integers(0, 12) / 12)
        for interval in (0, 4, 7, 12):
            for harmonic in range(1, 6):
                pitch = root * 2 ** (interval / 12) * harmonic
                tone = np.sin(2 * np.pi * pitch * time + rng.uniform(0, 6)) * np.exp(
                    -time * rng.uniform(0.3, 1.5)
                )
                wave[place : place + length] += tone / harmonic * np.minimum(1, time / 0.02)
        place += length
    return wave


def drums(count: int, rng: np.random.Generator) -> np.ndarray:
    """Bass drum, snare and hi-hat."""
    wave, step = np.zeros(count), int(30 / rng.integers(80, 150) * SAMPLING_RATE)
    for beat, place in enumerate(range(0, count, step)):
        time = np.arange(min(count - place, SAMPLING_RATE // 4)) / SAMPLING_RATE
        noise = rng.standard_normal(len(time))
        hit = 0.25 * noise * np.exp(-time * 60)
        if beat % 4 == 0:
            hit += 2 * np.sin(2 * np.pi * (50 * time + 30 * np.exp(-time * 20))) * np.exp(-time * 12)
        if beat % 4 == 2:
            hit += 0.8 * noise * np.exp(-time * 18) + 0.5 * np.sin(2 * np.pi * 190 * time) * np.exp(
                -time * 20
            )
        wave[place : place + len(time)] += hit
    return wave


def band(count: int, rng: np.random.Generator) -> np.ndarray:
    """Chords and drums, equally loud."""
    return at_level(chords(count, rng), -20) + at_level(drums(count, rng), -20)


def clicks(count: int, rng: np.random.Generator) -> np.ndarray:
    """Clicks of a few milliseconds, about one a second, over a faint noise."""
    wave = 1e-4 * rng.standard_normal(count)
    for place in range(0, count, SAMPLING_RATE):
        at = place + int(rng.integers(0, SAMPLING_RATE // 2))
        length = min(64, max(0, count - at))
        wave[at : at + length] += 0.3 * rng.standard_normal(length) * np.exp(-np.arange(length) / 16)
    return wave


def voice(seconds: float, rng: np.random.Generator) -> Clip:
    """A synthetic voice: four syllables a second with a gliding pitch; each is a word."""
    parts: list[np.ndarray] = []
    words: list[Span] = []
    place = 0
    while place < seconds * SAMPLING_RATE:
        time = np.arange(int(rng.uniform(0.14, 0.24) * SAMPLING_RATE)) / SAMPLING_RATE
        pitch = rng.uniform(100, 180) * (1 + rng.uniform(-1.5, 1.5) * time)
        phase = 2 * np.pi * np.cumsum(pitch) / SAMPLING_RATE
        formants = rng.uniform((300, 900, 2200), (800, 2000, 3000))
        syllable = np.zeros(len(time))
        for harmonic in range(1, 30):
            distance = np.abs(formants - harmonic * pitch.mean()) / 150
            syllable += (0.05 + np.exp(-(distance**2))).sum() / harmonic**0.5 * np.sin(harmonic * phase)
        words.append(Span(place, place + len(time)))
        pause = np.zeros(int(rng.uniform(0.03, 0.12) * SAMPLING_RATE))
        parts += [syllable * np.hanning(len(time)) ** 0.5, pause]
        place += len(time) + len(pause)
    return Clip(np.concatenate(parts), words)


Maker = Callable[[int, np.random.Generator], np.ndarray]


def telephone(wave: np.ndarray) -> np.ndarray:
    """The band of a telephone, 300 to 3400 Hz, with the steps of mu-law."""
    spectrum = np.fft.rfft(wave)
    pitch = np.fft.rfftfreq(len(wave), 1 / SAMPLING_RATE)
    narrow = np.fft.irfft(np.where((pitch > 300) & (pitch < 3400), spectrum, 0), len(wave))
    compressed = np.sign(narrow) * np.log1p(255 * np.abs(narrow)) / np.log(256)
    steps = np.round(compressed * 127) / 127
    return np.sign(steps) * (256 ** np.abs(steps) - 1) / 255


def passage(clips: Sequence[Clip], dbfs: float, rng: np.random.Generator) -> Clip:
    """Clips one after another, with pauses of 0.2 to 0.8 s, at one level: float64."""
    parts: list[np.ndarray] = []
    words: list[Span] = []
    place = 0
    for clip in clips:
        parts += [at_level(clip.samples, dbfs), np.zeros(int(rng.uniform(0.2, 0.8) * SAMPLING_RATE))]
        words += [Span(place + word.start, place + word.end) for word in clip.words]
        place += len(parts[-2]) + len(parts[-1])
    return Clip(np.concatenate(parts), words)


def mixes(clips: Sequence[Clip], seed: int = 16) -> Iterator[Mix]:
    """Twenty recordings of two to four minutes."""
    rng = np.random.default_rng(seed)

    def spoken(dbfs: float, count: int = 5) -> Clip:
        return passage([clips[number] for number in rng.permutation(len(clips))[:count]], dbfs, rng)

    def joined(name: str, parts: Sequence[Clip], floor: float, change: Callable = lambda wave: wave) -> Mix:
        wave = np.concatenate([part.samples for part in parts])
        starts = np.cumsum([0, *(len(part.samples) for part in parts)])
        words = [
            Span(int(start) + word.start, int(start) + word.end)
            for part, start in zip(parts, starts, strict=False)
            for word in part.words
        ]
        wave = change(wave + 10 ** (floor / 20) * rng.standard_normal(len(wave)))
        return Mix(name, np.rint(wave * 32767).clip(-32768, 32767).astype(np.int16), words)

    def bed(maker: Maker, seconds: float, dbfs: float) -> Clip:
        return Clip(at_level(maker(round(seconds * SAMPLING_RATE), rng), dbfs), [])

    def over(speech: Clip, maker: Maker, dbfs: float) -> Clip:
        return Clip(speech.samples + at_level(maker(len(speech.samples), rng), dbfs), speech.words)

    for quiet in (-55.0, -62.0, -68.0):
        parts = [over(spoken(-20, 12), white, -45), spoken(quiet)]
        yield joined(f"speech at {quiet:g} dB behind speech over noise", parts, -90)
    yield joined("speech at -66 dB behind music", [bed(band, 60, -20), spoken(-66), bed(band, 20, -20)], -90)
    for number, maker in enumerate((chords, drums, band)):
        parts = [bed(maker, 25, -30), over(spoken(-20), maker, -30), bed(maker, 40, -30)]
        yield joined(f"a bed of {maker.__name__}", [*parts, over(spoken(-22), maker, -32)], -80)
        music = [bed(maker, 40, -22), spoken(-20), bed(maker, 30, -18), spoken(-24, 4 + number)]
        yield joined(f"speech between {maker.__name__}", music, -75)
    for dbfs in (-40.0, -50.0, -55.0):
        parts = [bed(hum, 60, dbfs), over(spoken(-22), hum, dbfs), bed(hum, 50, dbfs)]
        yield joined(f"hum at {dbfs:g} dB", parts, -85)
    for dbfs in (-30.0, -40.0):
        noise = [bed(street, 45, dbfs), over(spoken(-22), street, dbfs), bed(street, 40, dbfs)]
        yield joined(f"a street at {dbfs:g} dB", noise, -80)
    yield joined("hiss", [bed(white, 60, -35), over(spoken(-22), white, -35), bed(white, 40, -35)], -90)
    yield joined("clicks", [bed(clicks, 60, -50), over(spoken(-25), clicks, -50), bed(clicks, 40, -50)], -85)
    yield joined(
        "clicks and hiss", [bed(clicks, 40, -45), spoken(-30), bed(white, 30, -45), spoken(-26)], -70
    )
    line = [bed(hum, 30, -45), over(spoken(-20), hum, -45), bed(white, 40, -50), spoken(-26)]
    yield joined("a telephone", line, -60, telephone)
    yield joined("a quiet telephone", [bed(white, 40, -55), spoken(-38), bed(white, 40, -55)], -60, telephone)


def labelled_recordings(folder: Path) -> Iterator[Mix]:
    """The recordings of the corpus in `folder` whose words have times."""
    import soundfile
    import soxr

    for line in (folder / "manifest.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        if not row.get("words"):
            continue
        wave, rate = soundfile.read(folder / row["audio"], dtype="float64", always_2d=True)
        samples = np.rint(soxr.resample(wave[:, 0], rate, SAMPLING_RATE) * 32767).clip(-32768, 32767)
        ends = [
            (round(word["start"] * SAMPLING_RATE), round(word["end"] * SAMPLING_RATE))
            for word in row["words"]
        ]
        words = [Span(max(0, start), min(len(samples), end)) for start, end in ends]
        yield Mix(row["audio"], samples.astype(np.int16), words)


def labelled_clips(folder: Path) -> list[Clip]:
    """Clips of nothing but speech from the corpus in `folder`, without songs."""
    clips = []
    for recording in labelled_recordings(folder):
        if "song" in recording.name:
            continue
        first = max(0, recording.words[0].start - SAMPLING_RATE // 10)
        samples = recording.samples[first : recording.words[-1].end + SAMPLING_RATE // 10] / 32768
        words = [Span(word.start - first, word.end - first) for word in recording.words]
        clips.append(Clip(samples, words))
    return clips
