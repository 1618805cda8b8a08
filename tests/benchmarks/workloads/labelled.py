"""Speech with known words and times, said by voices that the demo models were not trained on.

The words are strung together by `infra.demo_models.utterances` from word clips. By default the clips are cut
from the demo's recordings by the word times of its manifest: one voice for each language. SCRIPTORIUM_CLIPS
may name a folder of clips of more held-out voices, as `infra/demo_models/build.sh` makes them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from infra.demo_models.utterances import RATE, Clips, Style, coloured_noise, utterance
from infra.demo_models.words import BY_CODE, LANGUAGES
from tests.benchmarks.workloads.checkpoints import DEMO

CODES = tuple(language.code for language in LANGUAGES)
# The voice as it is, with a little noise, as in `infra.demo_models.evaluation`.
PLAIN = {"silence": 0.0, "clean": 1.0, "stretch": 0.0, "snr": (25.0, 50.0), "codec": 0.0}


@dataclass
class Speech:
    """A recording with what is said in it.

    Attributes:
        samples: float32 at 16 kHz.
        text: what is said.
        words: {text, start, end}, in seconds.
        language: ISO code; None: several.
    """

    samples: np.ndarray
    text: str
    words: list[dict[str, Any]]
    language: str | None

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.samples) / RATE


def held_out_clips(folder: Path) -> Clips:
    """The clips of SCRIPTORIUM_CLIPS, or clips of the demo's recordings.

    Args:
        folder: an empty folder, for clips of the demo's recordings.
    """
    if given := os.environ.get("SCRIPTORIUM_CLIPS"):
        return Clips(Path(given), "test")
    codes = {}
    for line in (DEMO / "manifest.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        words = row.get("words") or []
        code = _language_of(words)
        if code:
            codes.setdefault(code, []).append((DEMO / row["audio"], words))
    for code, recordings in codes.items():
        _store(folder / f"test.{code}.demo.cut.0.npz", code, recordings)
    return Clips(folder, "test")


def utterances(clips: Clips, each: int, seconds: tuple[float, float], seed: int = 7) -> list[Speech]:
    """So many utterances of each language, one language after the other."""
    rng = np.random.default_rng(seed)
    style = Style(seconds=seconds, **PLAIN)
    return [spoken(clips, rng, style, code) for code in CODES for _ in range(each)]


def joined(
    parts: Sequence[Speech], rng: np.random.Generator, pause: tuple[float, float] = (0.3, 1.5)
) -> Speech:
    """One recording of utterances with pauses between them, in a faint noise."""
    waves: list[np.ndarray] = []
    words: list[dict[str, Any]] = []
    at = 0
    for part in parts:
        offset = at / RATE
        words += [
            {**word, "start": round(word["start"] + offset, 4), "end": round(word["end"] + offset, 4)}
            for word in part.words
        ]
        waves += [part.samples, np.zeros(round(rng.uniform(*pause) * RATE), np.float32)]
        at += len(waves[-2]) + len(waves[-1])
    samples = np.concatenate(waves)
    samples = samples + 0.0008 * np.resize(coloured_noise(30 * RATE, rng), len(samples)).astype(np.float32)
    languages = {part.language for part in parts}
    text = "".join(
        part.text + ("" if part.language in ("zh", "yue", "ja") else " ") for part in parts
    ).strip()
    return Speech(samples, text, words, languages.pop() if len(languages) == 1 else None)


def spoken(clips: Clips, rng: np.random.Generator, style: Style, code: str) -> Speech:
    """One utterance of a language."""
    made = utterance(clips, rng, style, code)
    language = BY_CODE[code]
    words = [
        {"text": language.words[word], "start": start, "end": end}
        for word, (start, end) in zip(made.words, made.spans, strict=True)
    ]
    return Speech(made.audio, language.text(made.words), words, code)


def _language_of(words: Sequence[dict[str, Any]]) -> str | None:
    texts = {word["text"] for word in words}
    return next((code for code in CODES if texts and texts <= set(BY_CODE[code].words)), None)


def _store(path: Path, code: str, recordings: Sequence[tuple[Path, list[dict[str, Any]]]]) -> None:
    """Write one clip of each word, its first one, in the form that `Clips` reads."""
    clips: dict[int, np.ndarray] = {}
    for audio, words in recordings:
        samples = samples_of(audio)
        for word in words:
            start, end = round(word["start"] * RATE), round(word["end"] * RATE)
            clips.setdefault(BY_CODE[code].words.index(word["text"]), samples[start:end])
    np.savez(
        path,
        audio=np.concatenate([*clips.values()]),
        ends=np.cumsum([len(clip) for clip in clips.values()]),
        words=np.array([*clips]),
    )


def samples_of(path: Path) -> np.ndarray:
    """A whole file as int16 at 16 kHz, mono."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    with av.open(str(path)) as container:
        frames = [made for frame in container.decode(audio=0) for made in resampler.resample(frame)]
    frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray().ravel() for frame in frames]).astype(np.int16)
