"""Confidence is learned from one half of the recordings, and means what it says on the other."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pipelines.output import transcripts
from tests.e2e.conftest import read_transcripts, write_manifest

Scriptorium = Callable[..., int]
FAKE = ("--set", "asr.backend=fake", "--set", "aligner.backend=fake")
RECORDINGS, SECONDS = 16, 8


def noise(folder: Path, first: int) -> Path:
    """A manifest of recordings in which the fake recogniser hears words."""
    rows = []
    for number in range(first, first + RECORDINGS):
        sound = np.random.default_rng(number).standard_normal(SECONDS * 16_000) * 0.1
        soundfile.write(folder / f"{number}.wav", sound, 16_000)
        rows.append({"id": str(number), "audio": str(folder / f"{number}.wav")})
    return write_manifest(folder / f"{first}.jsonl", rows)


def references(path: Path, out: Path) -> Path:
    """The transcripts with other words in place of most words below the middle of the confidences."""
    chance = random.Random(5)
    rows = []
    for key, row in read_transcripts(out).items():
        words = [word for segment in row["segments"] for word in segment["words"]]
        wrong = [word["confidence"] < 0.95 and chance.random() < 0.8 for word in words]
        said = ["other" if bad else word["text"] for bad, word in zip(wrong, words, strict=True)]
        rows.append({"id": key, "audio": f"{key}.wav", "text": " ".join(said)})
    return write_manifest(path, rows)


def stitched_without_calibration(out: Path, copy: Path) -> Path:
    """The same run with the confidences of the model, which OUT/shards keeps."""
    shutil.copytree(out, copy, ignore=shutil.ignore_patterns("transcripts"))
    arguments = ("hash", "version", "run", "zstd")
    transcripts.stitch_all(
        str(copy),
        transcripts.unstitched(str(copy), 100),
        lambda batches: [transcripts.stitch_batch(str(copy), batch, *arguments) for batch in batches],
    )
    return copy


@pytest.mark.slow
def test_a_calibration_from_one_half_makes_the_other_half_honest(
    scriptorium: Scriptorium, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learned, out, file = tmp_path / "learned", tmp_path / "out", tmp_path / "calibration.json"
    assert scriptorium("transcribe", noise(tmp_path, 0), learned, *FAKE, config=None) == 0
    said = references(tmp_path / "said.jsonl", learned)
    assert scriptorium("evaluate", learned, "--references", said, "--write-calibration", file) == 0

    rest, calibrated = noise(tmp_path, 100), ("--set", f"asr.calibration={file}")
    assert scriptorium("transcribe", rest, out, *FAKE, *calibrated, config=None) == 0
    raw = stitched_without_calibration(out, tmp_path / "raw")
    said = references(tmp_path / "rest.jsonl", raw)

    def figures(of: Path) -> dict[str, Any]:
        json_file = tmp_path / f"{of.name}.json"
        assert scriptorium("evaluate", of, "--references", said, "--json", json_file) == 0
        found: dict[str, Any] = json.loads(json_file.read_text())["references"]["confidence"]
        return found

    before, after = figures(raw), figures(out)
    for part in (lambda found: found, lambda found: found["words"]):
        assert part(after)["calibration_error"] < 0.5 * part(before)["calibration_error"]
    assert after["words"]["auc"] > before["words"]["auc"] - 0.02

    # The transcripts and the run name the calibration, and a run that goes on must have the same.
    digest = json.loads((out / "run.json").read_text())["calibration"]["digest"]
    assert {row["provenance"]["calibration"] for row in read_transcripts(out).values()} == {digest}
    assert scriptorium("evaluate", out, "--references", said, "--write-calibration", tmp_path / "c") == 2
    assert "calibrated already" in capsys.readouterr().err
    file.write_text(file.read_text() + "\n")
    assert scriptorium("transcribe", rest, out, *FAKE, *calibrated, config=None) == 2
    assert "has changed since" in capsys.readouterr().err
    assert scriptorium("transcribe", rest, out, *FAKE, config=None) == 2
    other = ("--set", "asr.model=fake:0.1")
    assert scriptorium("transcribe", rest, tmp_path / "new", *FAKE, *calibrated, *other, config=None) == 2
    assert "was learned from" in capsys.readouterr().err
