"""Corrupted copies of real recordings, and outputs of two runs over them: given texts, and what is heard."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from actors.text.languages import CODES, normalize_language
from tests.pipelines.export.transcripts import make_transcript, write_output

CORPUS = Path(__file__).parents[4] / "shared/corpus"
KINDS = ("noise", "cut", "wrong_text", "other_language", "clipping", "silence", "duplicate")
_RATE = 16_000
_HARD = {"singing", "music", "noise", "silence", "digits", "code-switching", "broken"}


def good_recordings(count: int, rng: random.Random, corpus: Path = CORPUS) -> list[dict[str, Any]]:
    """Recordings of clear speech, each once, in any language of the model."""
    found: dict[str, dict[str, Any]] = {}
    for line in (corpus / "manifest.jsonl").read_text().splitlines():
        row = json.loads(line)
        tags = set(row.get("tags") or ())
        text = row.get("text") or ""
        if not text or not row["language"] or tags & _HARD or not 2.0 <= row["duration"] <= 25.0:
            continue
        try:
            code = CODES[str(normalize_language(row["language"]))]
        except Exception:
            continue
        found.setdefault(text.casefold(), {**row, "code": code, "path": str(corpus / row["audio"])})
    rows = sorted(found.values(), key=lambda row: row["audio"])
    readable = [row for row in rows if Path(row["path"]).suffix in (".wav", ".flac", ".ogg", ".mp3")]
    rng.shuffle(readable)
    return readable[:count]


def make(folder: Path, count: int, seed: int, corpus: Path = CORPUS) -> tuple[str, str, dict[str, str]]:
    """Write audio and the outputs of two runs.

    Returns:
        OUT, whose texts are given; the output of a recogniser that hears what is there, with some errors; and
        the kind of each recording by id: `good`, or one of KINDS.
    """
    rng = random.Random(seed)
    recordings = good_recordings(count, rng, corpus)
    given: list[dict[str, Any]] = []
    heard: list[dict[str, Any]] = []
    kinds: dict[str, str] = {}
    (folder / "audio").mkdir(parents=True)

    def add(kind: str, number: int, samples: np.ndarray, row: dict[str, Any], text: str, said: str) -> None:
        name = f"{kind}-{number:03d}.flac"
        path = folder / "audio" / name
        soundfile.write(path, samples, _RATE, subtype="PCM_16")
        seconds = len(samples) / _RATE
        for rows, content in ((given, text), (heard, said)):
            segment = {
                "start": 0.0, "end": seconds, "language": row["code"], "text": content, "confidence": None,
                "words": [], "word_source": "none", "flags": [], "speaker": None,
            }  # fmt: skip
            segments = [segment] if content else []
            rows.append(make_transcript(name, segments, audio=str(path), duration=seconds))
        kinds[name] = kind

    for number, row in enumerate(recordings):
        samples = _mono(row["path"])
        text, said = row["text"], _misheard(row["text"], rng)
        others = [other for other in recordings if other is not row]
        same = [other for other in others if other["code"] == row["code"]] or others
        foreign = [other for other in others if other["code"] != row["code"]]
        add("good", number, samples, row, text, said)
        add("noise", number, _noisy(samples, rng), row, text, _misheard(text, rng))
        share = rng.uniform(0.35, 0.65)
        add("cut", number, samples[: int(len(samples) * share)], row, text, text[: int(len(text) * share)])
        add("wrong_text", number, samples, row, rng.choice(same)["text"], said)
        add("other_language", number, samples, row, rng.choice(foreign)["text"], said)
        add("clipping", number, _clipped(samples, rng), row, text, said)
        quiet = np.random.default_rng(seed + number).normal(0, rng.choice([0.0, 1e-5, 3e-4]), len(samples))
        add("silence", number, quiet, row, text, "")
        add("duplicate", number, samples * rng.uniform(0.4, 0.9), row, text, said)
    out = write_output(folder / "out", given)
    other = write_output(folder / "other", heard)
    return out, other, kinds


def _mono(path: str) -> np.ndarray:
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    return soxr.resample(mono, rate, _RATE) if rate != _RATE else mono


def _misheard(text: str, rng: random.Random) -> str:
    """A text with errors in one word of twenty, as a good recogniser makes them."""
    return "".join("e" if char.isalpha() and rng.random() < 0.02 else char for char in text)


def _noisy(samples: np.ndarray, rng: random.Random) -> np.ndarray:
    """White or brown noise, at -5 to 3 dB of the speech's power."""
    generator = np.random.default_rng(rng.randrange(1 << 30))
    noise = generator.normal(size=len(samples))
    if rng.random() < 0.5:
        spectrum = np.fft.rfft(noise) / np.maximum(np.fft.rfftfreq(len(noise), 1 / _RATE), 100.0) ** 0.5
        noise = np.fft.irfft(spectrum, len(noise))
    power = float(np.mean(samples**2)) / 10 ** (rng.uniform(-5, 3) / 10)
    mixed = samples + noise * np.sqrt(power / np.mean(noise**2))
    return mixed / max(1.0, float(np.abs(mixed).max()) / 0.95)


def _clipped(samples: np.ndarray, rng: random.Random) -> np.ndarray:
    """Amplified until so many samples are beyond full swing, and cut off there."""
    limit = float(np.quantile(np.abs(samples), 1 - rng.uniform(0.01, 0.1)))
    return np.clip(samples / max(limit, 1e-6), -1, 1) * rng.uniform(0.5, 0.99)
