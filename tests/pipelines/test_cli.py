"""The command line: usage is told at once, with exit code 2 and before anything heavy is imported."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipelines.cli import _cause, main

ROOT = Path(__file__).resolve().parents[2]


def test_help_teaches_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom pipelines.cli import main\n"
        "try:\n    main(['transcribe', '--help'])\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        "heavy = {'ray', 'torch', 'transformers', 'pyarrow', 'pandas', 'pydantic', 'av'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for word in ("MANIFEST", "OUT", "exit codes", "--set", "dead_letters"):
        assert word in done.stdout


def test_without_a_command_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "transcribe" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["transcribe"], "MANIFEST is missing"),
        (["transcribe", "m.jsonl"], "OUT is missing"),
        (["transcribe", "nowhere.jsonl", "out"], "nowhere.jsonl"),
        (["transcribe", "m.jsonl", "out", "--config", "nowhere.yaml"], "cannot read the config file"),
        (["transcribe", "m.jsonl", "out", "--set", "asr.modle=x"], "there is no such setting"),
        (["plan"], "MANIFEST is missing"),
        (["status", "nowhere"], "there is no run"),
        (["retry", "nowhere"], "there is no run"),
        (["report", "nowhere"], "there is no run"),
    ],
)
def test_bad_usage_ends_with_two_and_says_what(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert main(arguments) == 2
        assert not list(tmp_path.iterdir())
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [["status"], ["report"], ["retry"], ["transcribe", "m.jsonl"], ["transcribe", "--dry-run", "m.jsonl"]],
)
@pytest.mark.parametrize("below", ["", "/runs/1"])
def test_an_out_that_is_a_file_is_bad_usage(
    arguments: list[str], below: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert main([*arguments, f"{tmp_path}/notes.txt{below}"]) == 2
    assert f"{tmp_path}/notes.txt is a file" in capsys.readouterr().err


def test_a_wrong_model_folder_is_told_before_ray_starts(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["transcribe", "m.jsonl", str(tmp_path / "out"), "--set", "asr.model=./no/such/folder"]) == 2
    assert "no/such/folder" in capsys.readouterr().err


def test_print_config_is_yaml_that_loads_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["transcribe", "--print-config", "--set", "asr.language=de"]) == 0
    text = capsys.readouterr().out
    assert yaml.safe_load(text)["asr"]["language"] == "German"
    (tmp_path / "c.yaml").write_text(text)
    assert main(["transcribe", "--print-config", "--config", str(tmp_path / "c.yaml")]) == 0
    assert capsys.readouterr().out == text


def test_the_cause_is_found_in_the_stacks_of_ray() -> None:
    message = (
        "The actor died because of an error raised in its creation task, \x1b[36mray::_MapWorker.__init__()\x1b[39m\n"
        '  File "x.py", line 1, in __init__\n'
        "actors.errors.FatalError: asr.model: weights are missing\n"
    )
    assert _cause(RuntimeError(message)).endswith("FatalError: asr.model: weights are missing")
    assert _cause(ValueError("plain")) == "plain"
    assert _cause(ValueError()) == "ValueError"
