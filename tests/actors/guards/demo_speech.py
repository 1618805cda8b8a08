"""Utterances in the demo models' languages: words cut from the demo recordings, said in another order."""

from __future__ import annotations

import functools
import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from actors.records import SAMPLING_RATE

DEMO = Path(__file__).parents[3] / "configs" / "demo"
# Languages of the recordings for which the manifest states none.
LANGUAGES = {
    "hotline-8khz": "pt",
    "message": "fr",
    "voice-note": "de",
    "announcement": "yue",
    "street": "zh",
    "interview": "ru",
    "long-meeting": "en",
}
UNSPACED = ("zh", "yue", "ja")
# Seconds around a word that belong to its clip, and of silence between two words.
_MARGIN, _PAUSES = 0.06, (0.05, 0.4)
# Seconds for a fade, so that no cut is heard.
_FADE = 0.01


@dataclass(frozen=True)
class Utterance:
    """Words that are said one after the other."""

    waveform: np.ndarray  # int16 at 16 kHz
    language: str  # ISO code
    words: tuple[str, ...]


def utterances(seed: int, of_each_language: int, words: tuple[int, int] = (7, 11)) -> list[Utterance]:
    """Random utterances, as many of each of eleven languages.

    Args:
        seed: of the choice of words and pauses.
        of_each_language: number of utterances.
        words: fewest and most words of one.
    """
    chance = random.Random(seed)
    return [
        _utterance(language, chance, chance.randint(*words))
        for language in sorted(_clips())
        for _ in range(of_each_language)
    ]


def _utterance(language: str, chance: random.Random, count: int) -> Utterance:
    spoken = [chance.choice(_clips()[language]) for _ in range(count)]
    noise = np.random.default_rng(chance.randrange(2**31))
    pieces: list[np.ndarray] = [_pause(0.3, noise)]
    for _, clip in spoken:
        pieces += [clip, _pause(chance.uniform(*_PAUSES), noise)]
    return Utterance(
        np.concatenate([*pieces, _pause(0.2, noise)]), language, tuple(word for word, _ in spoken)
    )


def _pause(seconds: float, noise: np.random.Generator) -> np.ndarray:
    """The faint noise of a quiet room: -75 dB."""
    return noise.normal(0, 6, round(seconds * SAMPLING_RATE)).astype(np.int16)


@functools.cache
def _clips() -> dict[str, list[tuple[str, np.ndarray]]]:
    """The words of the recordings with their sound, by language."""
    clips: dict[str, list[tuple[str, np.ndarray]]] = {}
    for line in (DEMO / "manifest.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if not entry.get("words") or entry["audio"].endswith((".m4a", ".mp4")):
            continue
        audio, rate = soundfile.read(DEMO / entry["audio"], always_2d=True)
        waveform = soxr.resample(audio.mean(axis=1), rate, SAMPLING_RATE) * 32768
        language = entry.get("language") or LANGUAGES[entry["id"]]
        for word in entry["words"][:60]:
            first = max(0, round((word["start"] - _MARGIN) * SAMPLING_RATE))
            clip = waveform[first : round((word["end"] + _MARGIN) * SAMPLING_RATE)].copy()
            fade = np.linspace(0, 1, round(_FADE * SAMPLING_RATE))
            clip[: len(fade)] *= fade
            clip[-len(fade) :] *= fade[::-1]
            clips.setdefault(language, []).append((word["text"], clip.clip(-32768, 32767).astype(np.int16)))
    return clips


def error_free(text: str, utterance: Utterance) -> bool:
    """Whether a text has exactly the words of an utterance."""
    return _normalized(text) == _normalized("".join(utterance.words))


def _normalized(text: str) -> str:
    return "".join(char for char in text.casefold() if char.isalnum())
