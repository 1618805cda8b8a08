"""What `export` writes changes nothing when it comes back; one changed word changes one segment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli import main
from pipelines.export.documents.formats import DOCUMENTS
from pipelines.export.documents.subtitle_files import SubtitleOptions
from pipelines.importing.changes import find_changes
from pipelines.importing.formats import FORMS, parse
from pipelines.subtitles.profiles import PROFILES, profile_of
from tests.pipelines.export.transcripts import demo_rows, made_rows, make_segment, make_transcript

ROWS = [*made_rows(), *demo_rows()]


@pytest.mark.parametrize("form", FORMS)
def test_an_export_changes_nothing(form: str) -> None:
    for row in ROWS:
        text, _ = DOCUMENTS[form].make(row, SubtitleOptions())
        for document in parse("x", form, text.encode("utf-8", "replace")):
            found = find_changes(row, document)
            assert found.changed == [], (form, row["recording_id"])
            assert not found.counts["unplaced"]


@pytest.mark.parametrize("profile", [*PROFILES, "labelled"])
def test_subtitles_of_any_profile_change_nothing(profile: str) -> None:
    labelled = {"speaker_labels": True}
    chosen = profile_of("netflix", labelled) if profile == "labelled" else PROFILES[profile]
    for form in ("srt", "vtt"):
        for row in ROWS:
            text, _ = DOCUMENTS[form].make(row, SubtitleOptions(chosen, form == "vtt", 0.95))
            [document] = parse("x", form, text.encode("utf-8", "replace"))
            assert find_changes(row, document).changed == [], (form, row["recording_id"])


@pytest.mark.parametrize("form", FORMS)
def test_a_changed_word_changes_its_segment_only(form: str) -> None:
    first = make_segment(0.5, ["We", "meet", "at", "noon", "tomorrow."])
    second = make_segment(3.2, ["Nobody", "knows", "the", "wether", "there."])
    third = make_segment(6.0, ["It", "may", "rain."])
    row = make_transcript("a.wav", [first, second, third], speakers=None)
    text, _ = DOCUMENTS[form].make(row, SubtitleOptions())
    edited = text.replace("wether", "weather")
    [document] = parse("x", form, edited.encode())
    [change] = find_changes(row, document).changed
    assert (change.number, change.text) == (1, "Nobody knows the weather there.")


def test_a_corrected_character_of_a_script_without_spaces() -> None:
    row = make_transcript(
        "zh", [make_segment(0.5, [*"我们明天去北京参加会议。今天天气很好。"], language="zh", step=0.2)]
    )
    text, _ = DOCUMENTS["srt"].make(row, SubtitleOptions())
    [document] = parse("x", "srt", text.replace("京", "海").encode())
    [change] = find_changes(row, document).changed
    assert change.text == "我们明天去北海参加会议。今天天气很好。"


def test_korean_keeps_its_spaces() -> None:
    row = make_transcript("ko", [make_segment(0.5, ["내일", "회의에", "참석합니다."], language="ko")])
    text, _ = DOCUMENTS["vtt"].make(row, SubtitleOptions())
    [document] = parse("x", "vtt", text.replace("회의에", "회이에").encode())
    [change] = find_changes(row, document).changed
    assert change.text == "내일 회이에 참석합니다."


def test_cues_that_are_deleted_are_text_that_is_not_said() -> None:
    row = make_transcript(
        "a", [make_segment(0.5, ["All", "is", "said."]), make_segment(9.0, ["Thanks", "for", "watching!"])]
    )
    text, _ = DOCUMENTS["srt"].make(row, SubtitleOptions())
    [document] = parse("x", "srt", text.split("\n\n")[0].encode())
    [change] = find_changes(row, document).changed
    assert (change.number, change.text) == (1, "")


def test_lines_that_a_table_lacks_stay_as_they_are() -> None:
    row = make_transcript("a", [make_segment(0.5, ["One", "two"]), make_segment(9.0, ["three", "four"])])
    text, _ = DOCUMENTS["csv"].make(row, SubtitleOptions())
    head, first, _ = text.splitlines()
    [document] = parse("x", "csv", f"{head}\n{first.replace('two', 'too')}\n".encode())
    assert [change.text for change in find_changes(row, document).changed] == ["One too"]


def test_borders_that_were_moved_change_no_text() -> None:
    row = make_transcript("a", [make_segment(0.5, ["One", "two"]), make_segment(2.0, ["three", "four"])])
    tasks = json.loads(DOCUMENTS["labelstudio"].make(row, SubtitleOptions())[0])
    for result in tasks[0]["predictions"][0]["result"]:
        result["value"]["end"] += 0.45
    [document] = parse("x", "labelstudio", json.dumps(tasks).encode())
    assert find_changes(row, document).changed == []


def test_an_annotation_counts_before_a_prediction_and_says_who() -> None:
    row = make_transcript("a", [make_segment(0.5, ["One", "two"])])
    [task] = json.loads(DOCUMENTS["labelstudio"].make(row, SubtitleOptions())[0])
    result = json.loads(json.dumps(task["predictions"][0]["result"]))
    result[1]["value"]["text"] = ["One too"]
    result[0]["value"]["labels"] = ["Bo"]
    task["annotations"] = [{"result": result, "completed_by": {"email": "ada@example.org"}}]
    [document] = parse("x", "labelstudio", json.dumps([task]).encode())
    assert document.who == "ada@example.org"
    [change] = find_changes(row, document).changed
    assert (change.text, change.speaker) == ("One too", "Bo")


def test_the_text_of_another_recording_is_not_taken() -> None:
    words = [f"word{number}" for number in range(60)]
    row = make_transcript("a", [make_segment(0.5, words)])
    other = make_transcript("b", [make_segment(0.5, [f"other{number}" for number in range(60)])])
    text, _ = DOCUMENTS["srt"].make(other, SubtitleOptions())
    [document] = parse("x", "srt", text.encode())
    assert find_changes(row, document).is_stranger


def test_files_of_editors_are_read() -> None:
    text = "1\r\n00:00:00,500 --> 00:00:02,000\r\n<i>In the year</i>\r\n1984\r\n\r\n"
    text += "2\r\n0:03:00.5 --> 0:03:01.5\r\nEnd\r\n"
    [document] = parse("x", "srt", b"\xef\xbb\xbf" + text.encode())
    assert [piece.text for piece in document.pieces] == ["In the year\n1984", "End"]
    assert document.pieces[1].start == 180.5
    [document] = parse("x", "csv", "recording_id;start;end;text\na;0,5;1,5;Ärger\n".encode("utf-16"))
    assert (document.pieces[0].start, document.pieces[0].text) == (0.5, "Ärger")


def _edited(folder: Path, suffix: str, old: str, new: str) -> None:
    for path in folder.rglob(f"*{suffix}"):
        path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize("form", FORMS)
def test_the_command_finds_recordings_by_their_files(
    form: str, made_output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "files"
    assert main(["export", made_output, form, str(folder)]) == 0
    capsys.readouterr()
    assert main(["import", made_output, str(folder), "--no-align", "--json"]) == 0
    summary: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert summary["changes"] == []
    assert summary["counts"]["documents"] >= len(made_rows()) - 1
    assert not (Path(made_output) / "corrections").exists()


def test_a_correction_is_imported_shown_and_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.pipelines.export.transcripts import write_output

    row = make_transcript("talks/a.wav", [make_segment(0.5, ["We", "meet", "at", "nune."])])
    out = write_output(tmp_path / "out", [row])
    assert main(["export", out, "srt", str(tmp_path / "srt")]) == 0
    _edited(tmp_path / "srt", ".srt", "nune", "noon")
    given = ["import", out, str(tmp_path / "srt/talks/a.wav.srt"), "--who", "ada", "--no-align"]
    capsys.readouterr()
    assert main([*given, "--dry-run"]) == 0
    assert "'We meet at nune.' → 'We meet at noon.'" in capsys.readouterr().out
    assert not (tmp_path / "out/corrections").exists()
    assert main(given) == 0
    assert main(["export", out, "txt", str(tmp_path / "txt")]) == 0
    assert (tmp_path / "txt/talks/a.wav.txt").read_text() == "We meet at noon.\n"
    # The same file once more has nothing to say.
    capsys.readouterr()
    assert main([*given, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changes"] == []


def test_a_file_of_no_recording_is_reported(
    made_output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "unknown.srt"
    path.write_text("1\n00:00:00,000 --> 00:00:01,000\nHello\n")
    assert main(["import", made_output, str(path), "--no-align", "--dry-run"]) == 3
    assert "unknown.srt" in capsys.readouterr().out
