"""What `scriptorium evaluate` says of the demo models: held-out voices, plain and degraded, and real digits.

The languages are not given to the run. The tables of the command are printed as Markdown. The real digits are
those of CORPUS_DIR (../shared/corpus); without it they are left out.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from actors.text.languages import code_of
from infra.demo_models.utterances import Clips, Style
from pipelines.evaluation import tables
from pipelines.evaluation.evaluate import Options
from pipelines.evaluation.protocol import Protocol
from tests.benchmarks.workloads import jobs
from tests.benchmarks.workloads.labelled import CODES, PLAIN, Speech, held_out_clips, samples_of, spoken
from tests.benchmarks.workloads.rows import Row

BY_NAME = True
LIMIT_SECONDS = 1200
EACH = 12
SECONDS = (2.0, 8.0)
# As the tables of infra/demo_models/README.md: rooms, channels, codecs, noise down to 8 dB, speed and pitch.
CONDITIONS = {
    "unseen voices": Style(seconds=SECONDS, **PLAIN),
    "unseen voices, degraded": Style(seconds=SECONDS, silence=0.0),
}
COLUMN, DIGITS = "condition", "real digits"


def measure(full: bool) -> Iterator[Row]:
    """Total figures of each condition; the tables by language and condition are printed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "clips").mkdir()
        recordings, columns = _recordings(held_out_clips(folder / "clips"), 3 * EACH if full else EACH)
        manifest, references = jobs.write_manifests(folder / "audio", recordings, columns)
        jobs.run("transcribe", manifest, folder / "out")
        for condition in dict.fromkeys(row[COLUMN] for row in columns.values()):
            kept = _only(references, {key for key, row in columns.items() if row[COLUMN] == condition})
            # The English normaliser writes digits in a row as one number, which is one word.
            protocol = Protocol(normalizer="basic" if condition == DIGITS else "auto")
            section = jobs.evaluated(folder / "out", kept, Options(protocol, worst=0))["references"]
            print(f"\n### {condition}\n\n{markdown(section)}\n", flush=True)
            yield from _rows(condition, section["total"])


def markdown(section: dict[str, Any]) -> str:
    """The tables of an evaluation as Markdown."""
    lines: list[str] = []
    for header, rows, _ in tables.grids(section):
        lines += ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def _rows(name: str, total: dict[str, Any]) -> Iterator[Row]:
    note = f"{total['recordings']} recordings, {total['units']} words or characters"
    yield Row(f"{name}: error rate", 100 * total["error_rate"], "%", "", note)
    if total["language_accuracy"] is not None:
        yield Row(f"{name}: right language", 100 * total["language_accuracy"], "%")
    if total["aas_ms"] is not None:
        yield Row(
            f"{name}: AAS", total["aas_ms"], "ms", "", f"{100 * total['within_100_ms']:.1f} % within 100 ms"
        )


def _recordings(clips: Clips, each: int) -> tuple[dict[str, Speech], dict[str, dict[str, str]]]:
    rng = np.random.default_rng(21)
    recordings: dict[str, Speech] = {}
    columns: dict[str, dict[str, str]] = {}
    for condition, style in CONDITIONS.items():
        for code in CODES:
            for _ in range(each):
                name = f"r{len(recordings):04}"
                recordings[name] = spoken(clips, rng, style, code)
                columns[name] = {COLUMN: condition}
    for row, path in real_digits():
        name = f"r{len(recordings):04}"
        words = [
            {"text": word["word"], "start": word["start"], "end": word["end"]}
            for word in row.get("words") or []
        ]
        samples = samples_of(path).astype(np.float32) / 32768
        recordings[name] = Speech(samples, row["text"], words, code_of(row["language"]))
        columns[name] = {COLUMN: DIGITS}
    return recordings, columns


def real_digits() -> Iterator[tuple[dict[str, Any], Path]]:
    """The recordings of real spoken digits in languages that the models know, with their files."""
    corpus = Path(os.environ.get("CORPUS_DIR", jobs.ROOT.parent / "shared" / "corpus"))
    manifest = corpus / "manifest.jsonl"
    if not manifest.exists():
        return
    for line in manifest.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if "digits" in row["tags"] and row["text"] and code_of(row["language"]) in CODES:
            yield row, corpus / row["audio"]


def _only(references: Path, ids: set[str]) -> Path:
    """A manifest of some of the references."""
    part = references.with_name("part.jsonl")
    lines = [line for line in references.read_text("utf-8").splitlines() if json.loads(line)["id"] in ids]
    part.write_text("\n".join(lines) + "\n", "utf-8")
    return part
