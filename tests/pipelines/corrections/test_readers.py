"""Exports and evaluation use what people corrected."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.cli import main
from pipelines.corrections import store
from tests.pipelines.export.transcripts import make_segment, make_transcript, write_output


@pytest.fixture
def out(tmp_path: Path) -> str:
    row = make_transcript("talk.wav", [make_segment(0.5, ["Good", "morning,", "eveyone."], confidence=0.3)])
    other = make_transcript("other.wav", [make_segment(0.5, ["Nothing", "to", "correct."])])
    folder = write_output(tmp_path / "out", [row, other])
    made = store.correction_of(row, 0, "Good morning, everyone.", who="ada", source="browse")
    store.add(folder, [made])
    return folder


def test_exports_have_the_corrected_text_and_who_and_when(out: str, tmp_path: Path) -> None:
    assert main(["export", out, "vtt", str(tmp_path / "vtt")]) == 0
    text = (tmp_path / "vtt" / "talk.wav.vtt").read_text()
    assert "everyone." in text
    assert "NOTE corrected_by: ada" in text
    assert "NOTE text_source: corrected" in text
    assert "corrected" not in (tmp_path / "vtt" / "other.wav.vtt").read_text()


def test_the_models_text_is_exported_on_demand(out: str, tmp_path: Path) -> None:
    assert main(["export", out, "txt", str(tmp_path / "txt"), "--original"]) == 0
    assert (tmp_path / "txt" / "talk.wav.txt").read_text() == "Good morning, eveyone.\n"


def test_conditions_see_the_corrected_transcripts(out: str, tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    condition = ["--where", "text_source = 'corrected'", "--min-confidence", "0.99"]
    assert main(["export", out, "txt", str(tmp_path / "txt"), *condition]) == 0
    assert [path.name for path in (tmp_path / "txt").iterdir()] == ["talk.wav.txt"]


def test_a_training_set_has_corrected_samples(out: str, tmp_path: Path) -> None:
    assert main(["export", out, "nemo", str(tmp_path / "nemo"), "--min-confidence", "0.95"]) == 0
    [line] = next((tmp_path / "nemo").glob("*.json*")).read_text().splitlines()
    assert json.loads(line)["text"] == "Good morning, everyone."


def test_corrections_are_references(out: str, tmp_path: Path) -> None:
    pytest.importorskip("whisper_normalizer")
    figures = tmp_path / "figures.json"
    assert main(["evaluate", out, "--references", out, "--json", str(figures)]) == 0
    section = json.loads(figures.read_text())["references"]
    assert section["recordings"]["evaluated"] == 1
    assert section["recordings"]["without_reference"] == 1
    assert section["total"]["wer"] == pytest.approx(1 / 3)


def test_a_run_without_corrections_is_no_reference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_output(tmp_path / "out", [make_transcript("a", [make_segment(0.5, ["Hello"])])])
    assert main(["evaluate", folder, "--references", folder]) == 2
    assert "no corrections" in capsys.readouterr().err
