"""`scriptorium export`: files, summaries, and messages that say what to do."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import fsspec
import pytest

from pipelines.cli import main
from pipelines.export.documents.writing import DocumentJob, write_documents
from tests.pipelines.export.transcripts import DEMO_AUDIO, HOSTILE_IDS, demo_rows, made_rows, write_output

COUNT = len(made_rows())


def test_every_transcript_has_a_file_inside_the_destination(made_output: str, tmp_path: Path) -> None:
    assert main(["export", made_output, "srt", str(tmp_path / "dest")]) == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == COUNT
    assert all(path.is_relative_to(tmp_path / "dest") for path in files)


def test_processes_write_the_same_files(made_output: str, tmp_path: Path) -> None:
    for name, workers in (("one", 1), ("two", 2)):
        assert main(["export", made_output, "vtt", str(tmp_path / name), "--parallel", str(workers)]) == 0
    one, two = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.vtt")}
        for name in ("one", "two")
    )
    assert one == two
    assert len(one) == COUNT


def test_a_dry_run_counts_and_writes_nothing(
    made_output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["export", made_output, "srt", str(tmp_path / "dest"), "--json"]
    assert main([*options, "--dry-run"]) == 0
    expected = json.loads(capsys.readouterr().out)
    assert not (tmp_path / "dest").exists()
    assert main(options) == 0
    assert json.loads(capsys.readouterr().out) == expected
    written = sum(path.stat().st_size for path in (tmp_path / "dest").rglob("*.srt"))
    assert expected["bytes"] == written
    assert expected["cues"] > COUNT / 2


@pytest.mark.parametrize("form", ["csv", "ctm", "rttm", "stm", "txt"])
def test_lines_of_all_recordings_are_one_file(form: str, made_output: str, tmp_path: Path) -> None:
    path = tmp_path / f"all.{form}"
    assert main(["export", made_output, form, str(path)]) == 0
    text = path.read_text()
    if form == "csv":
        found = {row["recording_id"] for row in csv.DictReader(text.splitlines(keepends=True))}
        assert found == {row["recording_id"] for row in made_rows()} - {"quiet.wav"}
    else:
        assert len(text.splitlines()) >= COUNT - 1


@pytest.mark.parametrize("form", ["json", "labelstudio"])
def test_json_of_all_recordings_is_one_list(form: str, made_output: str, tmp_path: Path) -> None:
    path = tmp_path / "all.json"
    assert main(["export", made_output, form, str(path)]) == 0
    assert len(json.loads(path.read_text())) == COUNT
    assert (tmp_path / "labelling_config.xml").exists() == (form == "labelstudio")


def test_an_object_store_takes_files_and_streams(made_output: str) -> None:
    for dest in ("memory://exports/folder", "memory://exports/all.csv"):
        assert main(["export", made_output, "csv", dest]) == 0
    store = fsspec.filesystem("memory")
    assert len(store.find("/exports/folder")) == COUNT
    assert store.size("/exports/all.csv") > 100


def test_subtitles_beside_audio_never_replace_files_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audio = tmp_path / "audio"
    audio.mkdir()
    for name in ("front-desk.wav", "lesson.ogg"):
        shutil.copy(DEMO_AUDIO / name, audio / name)
    shutil.copy(DEMO_AUDIO / "lesson.ogg", audio / "front-desk.ogg")
    rows = [row for row in demo_rows() if row["recording_id"] in ("front-desk", "lesson")]
    rows = [{**row, "audio": str(audio / Path(row["audio"]).name)} for row in rows]
    rows.append({**rows[1], "recording_id": "other", "audio": str(audio / "front-desk.ogg")})
    rows.append({**rows[1], "recording_id": "gone", "audio": str(audio / "gone.wav")})
    out = write_output(tmp_path / "out", rows)
    (audio / "lesson.srt").write_text("mine")
    assert main(["export", out, "srt", "--beside-audio"]) == 0
    names = {path.name for path in audio.glob("*.srt")}
    assert names == {"front-desk.wav.srt", "front-desk.ogg.srt", "lesson.srt"}
    assert (audio / "lesson.srt").read_text() == "mine"
    printed = capsys.readouterr().out
    assert "the audio is no local file: 1" in printed
    assert "--overwrite replaces it): 1" in printed
    assert main(["export", out, "srt", "--beside-audio", "--overwrite"]) == 0
    assert (audio / "lesson.srt").read_text() != "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["srt"], "DEST is missing"),
        (["srt", "x.srt"], "one recording a file"),
        (["srt", "x", "--beside-audio"], "leave DEST out"),
        (["hf", "x", "--audio", "link"], "holds the audio itself"),
        (["srt", "x", "--profile", "hbo"], "no subtitle profile"),
        (["srt", "x", "--where", "nonsense >"], "--where"),
        (["srt", "x", "--highlight"], "is for vtt"),
        (["nemo", "x", "--per", "language"], "--max-hours"),
        (["nemo", "x", "--split-by", "show"], "--split"),
    ],
)
def test_wrong_arguments_are_refused_with_the_reason(
    arguments: list[str],
    message: str,
    made_output: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", made_output, *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_one_recording_may_be_one_subtitle_file(made_output: str, tmp_path: Path) -> None:
    path = tmp_path / "x.vtt"
    assert main(["export", made_output, "vtt", str(path), "--where", "recording_id = 'zh.wav'"]) == 0
    assert path.read_text().startswith("WEBVTT")


def test_an_export_that_fails_leaves_no_partial_file(made_output: str, tmp_path: Path) -> None:
    job = DocumentJob(made_output, "csv", str(tmp_path / "all.csv"))
    object.__setattr__(job, "subtitles", None)
    broken = DocumentJob(made_output, "vtt", str(tmp_path / "a.vtt"))
    object.__setattr__(broken, "subtitles", None)
    with pytest.raises((AttributeError, Exception)):
        write_documents(broken)
    assert not list(tmp_path.iterdir())


def test_hostile_ids_are_all_exported(made_output: str, tmp_path: Path) -> None:
    assert main(["export", made_output, "txt", str(tmp_path)]) == 0
    texts = [path.read_text() for path in tmp_path.rglob("*.txt")]
    assert texts.count("hello there.\n") == len(HOSTILE_IDS)


@pytest.mark.ray
@pytest.mark.slow
def test_ray_writes_the_same_files(made_output: str, tmp_path: Path) -> None:
    assert main(["export", made_output, "srt", str(tmp_path / "ray"), "--address", "local"]) == 0
    assert main(["export", made_output, "srt", str(tmp_path / "here")]) == 0
    ours, rays = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.srt")}
        for name in ("here", "ray")
    )
    assert rays == ours
