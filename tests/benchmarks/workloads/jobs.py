"""Whole jobs of the command line with the demo models, on recordings with known words, and evaluations."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import soundfile

from pipelines.evaluation.evaluate import Options, evaluate, write
from tests.benchmarks.workloads.checkpoints import DEMO
from tests.benchmarks.workloads.labelled import Speech

ROOT = DEMO.parents[1]
CONFIG = DEMO.with_suffix(".yaml")


def write_manifests(
    folder: Path,
    recordings: Mapping[str, Speech],
    columns: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    with_columns: bool = False,
) -> tuple[Path, Path]:
    """Write recordings as WAV files.

    Args:
        folder: where to; it may be missing.
        recordings: by id.
        columns: of the manifest of the job, for some ids; a `text` is aligned by `align`.
        with_columns: the references have these columns, too.

    Returns:
        The manifest of the job, which says nothing about words and languages, and that of the references.
    """
    folder.mkdir(parents=True, exist_ok=True)
    manifest, references = folder / "manifest.jsonl", folder / "references.jsonl"
    rows, known = [], []
    for name, speech in recordings.items():
        audio = folder / f"{name}.wav"
        soundfile.write(audio, speech.samples, 16_000, subtype="PCM_16")
        rows.append({"audio": str(audio), "id": name} | dict((columns or {}).get(name, {})))
        known.append({"audio": str(audio), "id": name, "text": speech.text, "words": speech.words})
        if with_columns:
            known[-1] |= dict((columns or {}).get(name, {}))
        if speech.language:
            known[-1]["language"] = speech.language
    for path, lines in ((manifest, rows), (references, known)):
        path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")
    return manifest, references


def run(command: str, manifest: Path, out: Path, settings: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Run `scriptorium transcribe` or `align` with the demo's settings.

    Args:
        command: transcribe or align.
        manifest: what to do.
        out: the output directory.
        settings: further ones, `section.name=value`.

    Returns:
        The transcripts.
    """
    import pyarrow.parquet as pq

    line = [sys.executable, "-m", "pipelines", command, str(manifest), str(out), "--config", str(CONFIG)]
    done = subprocess.run(
        [*line, *(part for setting in settings for part in ("--set", setting))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr[-2000:]}")
    return [
        row for path in sorted(out.glob("transcripts/*.parquet")) for row in pq.read_table(path).to_pylist()
    ]


def evaluated(out: Path, references: Path, options: Options | None = None) -> dict[str, Any]:
    """What `scriptorium evaluate` finds; it also writes the page."""
    result, confidences = evaluate(str(out), str(references), None, options or Options())
    write(result, confidences)
    return result
