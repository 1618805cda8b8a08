"""Noise from 30 to 0 dB and the telephone band: errors of the demo models, and what the guards flag of them.

The same utterances of held-out voices in every condition. The noise has a random spectral slope; the
telephone passes 300 to 3,400 Hz in mu-law.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import signal

from actors.guards.evidence import flag_names
from actors.guards.text import SUSPECT_TEXT_FLAGS
from actors.guards.words import SUSPECT_WORD_FLAGS
from infra.demo_models.utterances import RATE, coloured_noise
from pipelines.evaluation.evaluate import Options
from tests.benchmarks.workloads import jobs
from tests.benchmarks.workloads.labelled import Speech, held_out_clips, utterances
from tests.benchmarks.workloads.rows import Row

BY_NAME = True
LIMIT_SECONDS = 1200
EACH = 6
RATIOS_DB = (30, 20, 15, 10, 5, 0)
SUSPECT = SUSPECT_TEXT_FLAGS | SUSPECT_WORD_FLAGS
COLUMN = "condition"
Samples = np.ndarray


def measure(full: bool) -> Iterator[Row]:
    """For each condition the error rate, and the shares of segments that are flagged."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "clips").mkdir()
        clean = utterances(held_out_clips(folder / "clips"), 3 * EACH if full else EACH, (3.0, 7.0), seed=9)
        recordings: dict[str, Speech] = {}
        columns: dict[str, dict[str, str]] = {}
        for condition, change in conditions().items():
            for number, speech in enumerate(clean):
                key = f"r{len(recordings):05}"
                noise = np.random.default_rng(number)
                recordings[key] = replace(speech, samples=change(speech.samples, noise))
                columns[key] = {COLUMN: condition}
        manifest, references = jobs.write_manifests(folder / "audio", recordings, columns, with_columns=True)
        rows = jobs.run("transcribe", manifest, folder / "out")
        section = jobs.evaluated(folder / "out", references, Options(by=(COLUMN,), worst=0))["references"]
        for condition in conditions():
            of = [row for row in rows if columns[row["recording_id"]][COLUMN] == condition]
            yield from _rows(condition, section["by"][COLUMN][condition], of)


def conditions() -> dict[str, Callable[[Samples, np.random.Generator], Samples]]:
    """The changes of a recording by name."""
    noisy = {f"noise at {ratio} dB": partial(with_noise, ratio=ratio) for ratio in RATIOS_DB}
    return {"clean": lambda samples, rng: samples, **noisy, "telephone": telephone}


def with_noise(samples: Samples, rng: np.random.Generator, ratio: float) -> Samples:
    """Speech in noise.

    Args:
        samples: float32.
        rng: of the noise.
        ratio: of speech, without its pauses, to noise, in dB.
    """
    frames = samples[: len(samples) // 400 * 400].reshape(-1, 400)
    power = (frames**2).mean(axis=1)
    spoken = float(power[power > power.max() * 1e-3].mean())
    noisy = samples + coloured_noise(len(samples), rng) * np.sqrt(spoken) * 10 ** (-ratio / 20)
    return (noisy / max(1.0, float(np.abs(noisy).max()))).astype(np.float32)


def telephone(samples: Samples, rng: np.random.Generator) -> Samples:
    """Speech as a telephone passes it."""
    band = signal.butter(4, (300, 3400), "bandpass", fs=RATE, output="sos")
    narrow = signal.sosfilt(band, samples)
    peak = max(1e-6, float(np.abs(narrow).max()))
    folded = np.round(np.sign(narrow) * np.log1p(255 * np.abs(narrow) / peak) / np.log(256) * 127) / 127
    return (np.sign(folded) * (256 ** np.abs(folded) - 1) / 255 * peak).astype(np.float32)


def _rows(condition: str, part: dict[str, Any], rows: Sequence[dict[str, Any]]) -> Iterator[Row]:
    segments = [flag_names(segment["flags"]) & SUSPECT for row in rows for segment in row["segments"]]
    counts = Counter(flag for flags in segments for flag in flags)
    listed = ", ".join(f"{flag} {count}" for flag, count in counts.most_common(6))
    empty = sum(not row["text"] for row in rows)
    note = f"{part['recordings']} recordings, {empty} without text"
    yield Row(f"{condition}: errors", 100 * part["error_rate"], "%", "", note)
    flagged = sum(map(bool, segments))
    yield Row(f"{condition}: flagged segments", 100 * flagged / max(1, len(segments)), "%", "", listed)
