"""Words of corrected texts are aligned with the run's aligner, on the audio of their segments."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.cli import main
from pipelines.config import load_config
from pipelines.corrections import store
from pipelines.importing.alignment import WordAligner
from pipelines.importing.changes import Change
from tests.pipelines.export.transcripts import demo_rows, write_output


def _spoken() -> dict:  # type: ignore[type-arg]
    return next(row for row in demo_rows() if row["segments"] and row["text"])


def test_new_words_get_times_within_their_segment(tmp_path: Path) -> None:
    row = _spoken()
    aligner = WordAligner(str(tmp_path), load_config(None, ["aligner.backend=fake"]))
    segment = row["segments"][0]
    [words] = aligner.words(row, [Change(0, f"{segment['text']} indeed")])
    aligner.close()
    assert aligner.problems == []
    assert words is not None
    assert words[-1]["text"] == "indeed"
    assert all(segment["start"] <= word["start"] <= word["end"] <= segment["end"] for word in words)  # type: ignore[operator]


def test_without_audio_words_that_stayed_keep_their_times(tmp_path: Path) -> None:
    row = {**_spoken(), "audio": str(tmp_path / "gone.wav")}
    aligner = WordAligner(str(tmp_path), load_config(None, ["aligner.backend=fake"]))
    assert aligner.words(row, [Change(0, "Something else")]) == [None]
    aligner.close()
    assert len(aligner.problems) == 1


def test_the_command_aligns_with_the_settings_of_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = _spoken()
    out = write_output(tmp_path / "out", [row])
    config = load_config(None, ["asr.backend=fake", "aligner.backend=fake"])
    record = {"config": config.model_dump(mode="json"), "config_hash": "x", "version": "0", "runs": []}
    (tmp_path / "out" / "run.json").write_text(json.dumps(record))
    assert main(["export", out, "csv", str(tmp_path / "all.csv")]) == 0
    first = row["segments"][0]["text"].split()[0]
    text = (tmp_path / "all.csv").read_text()
    (tmp_path / "all.csv").write_text(text.replace(first, "Corrected", 1))
    capsys.readouterr()
    assert main(["import", out, str(tmp_path / "all.csv"), "--who", "ada", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["aligned"] == 1
    [corrected] = store.apply(out, [row])
    assert corrected["segments"][0]["corrected"]["by"] == "ada"
    assert all(word["start"] is not None for word in corrected["segments"][0]["words"])
