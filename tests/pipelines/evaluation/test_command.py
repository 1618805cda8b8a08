"""`scriptorium evaluate`: files, exit codes, and messages that say what to do."""

import json
from pathlib import Path

import fsspec
import pytest

from pipelines.cli import main
from tests.pipelines.evaluation.outputs import make_manifest, make_output, segment, transcript


@pytest.fixture
def out(tmp_path: Path) -> str:
    rows = [transcript("a", "red green"), transcript("b", "blue pink", segments=[segment("blue pink", 0.4)])]
    return make_output(tmp_path / "out", rows)


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    rows = [{"id": "a", "text": "red green", "room": "x"}, {"id": "b", "text": "blue grey", "room": "y"}]
    return make_manifest(tmp_path / "m.jsonl", rows)


def test_all_files_are_written_and_named(
    out: str, manifest: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {
        option: str(tmp_path / option.strip("-")) for option in ("--json", "--csv", "--write-calibration")
    }
    options = [word for pair in names.items() for word in pair]
    assert main(["evaluate", out, "--references", manifest, "--by", "room", *options]) == 0
    printed = capsys.readouterr().out
    for path in (f"{out}/evaluation.html", *names.values()):
        assert Path(path).stat().st_size
        assert path in printed
    assert json.loads(Path(names["--json"]).read_text())["references"]["total"]["wer"] == 0.25
    calibration = json.loads(Path(names["--write-calibration"]).read_text())
    segments = calibration["segments"]
    assert (segments["cases"], calibration["words"]) == (2, None)
    assert len(segments["confidence"]) == len(segments["calibrated"])


def test_an_output_on_any_filesystem_is_evaluated(out: str, manifest: str) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(out, "/evaluated", recursive=True)
    assert (
        main(["evaluate", "memory://evaluated", "--references", manifest, "--json", "memory://figures.json"])
        == 0
    )
    assert memory.exists("/evaluated/evaluation.html")
    assert json.loads(memory.cat("/figures.json"))["references"]["recordings"]["transcripts"] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --references MANIFEST, or --against OUT2"),
        (["--references", "no-such-manifest.jsonl"], "no such file"),
        (["--against", "no-such-output"], "has no transcripts"),
        (["--against", "no-such-output", "--write-calibration", "f"], "needs --references"),
    ],
)
def test_wrong_arguments_end_with_exit_code_2(
    out: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", out, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_an_unknown_column_ends_with_exit_code_2(
    out: str, manifest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", out, "--references", manifest, "--by", "flor"]) == 2
    assert "found: room" in capsys.readouterr().err


def test_without_confidence_there_is_nothing_to_calibrate(
    tmp_path: Path, manifest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = make_output(
        tmp_path / "remote", [transcript("a", "red green", segments=[segment("red green", None)])]
    )
    arguments = ["evaluate", out, "--references", manifest, "--write-calibration", str(tmp_path / "c.json")]
    assert main(arguments) == 2
    assert "no segment" in capsys.readouterr().err
