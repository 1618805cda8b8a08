"""`scriptorium select`: its files, and that its manifest can be used again."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.cli import main
from pipelines.manifests.manifest import read_manifest
from tests.pipelines.export.transcripts import demo_rows, make_segment, make_transcript, write_output


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> str:
    bad = make_transcript("bad.wav", [make_segment(0.5, ["Oh", "no."], flags=("repetitive",))])
    return write_output(tmp_path_factory.mktemp("select") / "out", [*demo_rows(), bad])


def test_what_was_kept_and_why_not_is_written(out: str, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    assert main(["select", out, str(dest), "--max-speakers", "1"]) == 0
    rows = pq.read_table(dest / "selection.parquet").to_pylist()
    summary = json.loads((dest / "summary.json").read_text())
    kept = [json.loads(line) for line in (dest / "manifest.jsonl").read_text().splitlines()]
    assert len(rows) == summary["candidates"] == summary["kept"] + summary["dropped"]
    assert [row["id"] for row in rows if row["kept"]] == [row["id"] for row in kept]
    assert all(row["kept"] == (row["reason"] is None) for row in rows)
    assert sum(counts["dropped"] for counts in summary["reasons"].values()) == summary["dropped"]
    assert any(row["reason"] == "flag:repetitive" for row in rows)
    assert any(row["snr_db"] is not None for row in rows)
    recordings = list(read_manifest(str(dest / "manifest.jsonl")))
    assert len(recordings) == len(kept) > 0
    assert all(recording.text for recording in recordings)


def test_a_dry_run_writes_nothing(out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["select", out, str(tmp_path / "dest"), "--dry-run", "--no-audio"]) == 0
    assert not (tmp_path / "dest").exists()
    assert "would keep" in capsys.readouterr().out


def test_another_run_decides(out: str, tmp_path: Path) -> None:
    rows = demo_rows()
    spoken = [row for row in rows if row["text"]]
    spoken[0]["text"] = "Something else was heard here"
    other = write_output(tmp_path / "other", rows)
    dest = tmp_path / "dest"
    given = ["select", out, str(dest), "--against", other, "--no-audio", "--unit", "recording"]
    assert main(given) == 0
    found = {row["recording_id"]: row for row in pq.read_table(dest / "selection.parquet").to_pylist()}
    assert "agreement" in found[spoken[0]["recording_id"]]["reasons"]
    assert found[spoken[1]["recording_id"]]["agreement"] == 1.0


def test_wrong_limits_are_told(out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["select", out, str(tmp_path), "--without-flags", "nonsense"]) == 2
    assert "there is no flag" in capsys.readouterr().err
    assert main(["select", out, str(tmp_path), "--against", out]) == 2


def test_a_training_set_has_the_kept_segments_only(
    out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dest = tmp_path / "dest"
    assert main(["select", out, str(dest), "--no-audio"]) == 0
    kept = [json.loads(line)["id"] for line in (dest / "manifest.jsonl").read_text().splitlines()]
    assert main(["export", out, "kaldi", str(tmp_path / "kaldi"), "--selection", str(dest)]) == 0
    [path] = (tmp_path / "kaldi").rglob("text")
    assert len(path.read_text().splitlines()) == len(kept)
    capsys.readouterr()
    assert main(["export", out, "srt", str(tmp_path / "srt"), "--selection", str(dest)]) == 2
    assert "select --unit recording" in capsys.readouterr().err


def test_documents_of_the_kept_recordings(out: str, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    assert main(["select", out, str(dest), "--no-audio", "--unit", "recording"]) == 0
    kept = len((dest / "manifest.jsonl").read_text().splitlines())
    assert main(["export", out, "srt", str(tmp_path / "srt"), "--selection", str(dest)]) == 0
    assert len(list((tmp_path / "srt").rglob("*.srt"))) == kept
