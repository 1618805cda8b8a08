"""The command line: help and version are fast, and wrong arguments end with exit code 2 before Ray starts."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from actors.errors import StorageError
from pipelines import cli
from pipelines.cli import COMMANDS, _cause, _parser, _print_outcome, main
from pipelines.transcribe import Outcome

ROOT = Path(__file__).resolve().parents[2]


def run_without_heavy_imports(arguments: list[str]) -> str:
    """Run a command that exits with 0 in a new process; returns its output."""
    code = (
        "import sys\nfrom pipelines.cli import main\n"
        f"try:\n    main({arguments})\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        "heavy = {'ray', 'torch', 'transformers', 'pyarrow', 'pandas', 'pydantic', 'av'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_help_of_a_command_explains_it_and_imports_nothing_heavy() -> None:
    text = run_without_heavy_imports(["transcribe", "--help"])
    for word in ("MANIFEST", "OUT", "exit codes", "--set", "dead_letters", "examples:"):
        assert word in text


def test_the_help_has_a_purpose_and_an_example_of_each_command() -> None:
    text = run_without_heavy_imports(["--help"])
    for name in COMMANDS:
        assert re.search(rf"^    {name} +\w", text, re.M), f"{name} has no purpose"
        assert re.search(rf"^  scriptorium {name}\b", text, re.M), f"{name} has no example"


def test_every_example_in_the_help_can_be_parsed() -> None:
    helps = [run_without_heavy_imports(["--help"])]
    helps += [run_without_heavy_imports([name, "--help"]) for name in COMMANDS]
    examples = [
        shlex.split(line)[1:] for text in helps for line in re.findall(r"^  (scriptorium .*)", text, re.M)
    ]
    assert len(examples) >= 2 * len(COMMANDS)
    for arguments in examples:
        assert _parser().parse_args(arguments).run


@pytest.mark.parametrize(
    ("arguments", "promised"),
    [
        (["plan", "m"], False),
        (["status", "out"], False),
        (["transcribe", "m", "out", "--dry-run"], False),
        (["transcribe", "m", "out"], True),
        (["align", "m", "out"], True),
        (["retry", "out"], True),
    ],
)
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("odd"), StorageError("store is gone")])
def test_only_commands_that_store_work_say_that_it_is_kept(
    arguments: list[str],
    promised: bool,
    error: BaseException,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise error

    for name in ("_config", "_folder"):
        monkeypatch.setattr(cli, name, fail)
    assert main(arguments) == 1
    assert ("Finished work is kept" in capsys.readouterr().err) is promised


def test_the_version_names_python_ray_and_torch_without_importing_them() -> None:
    pattern = r"scriptorium \d[\w.]* \(Python 3\.[\d.]+\w*, Ray \d[\w.]*(, torch \d[\w.+]*)?\)\n"
    assert re.fullmatch(pattern, run_without_heavy_imports(["--version"]))


@pytest.mark.parametrize(
    ("outcome", "line"),
    [
        (Outcome(1, 1, 0, 1), "1 recording = 1 transcript + 0 dead letters"),
        (Outcome(2000, 1999, 1, 5), "2,000 recordings = 1,999 transcripts + 1 dead letter"),
        (Outcome(2, 1, 0, 1), "2 recordings, but only 1 transcript + 0 dead letters: not finished"),
        (Outcome(1, 1, 0, 0), "nothing to do: the 1 recording is done in out"),
        (Outcome(2, 2, 0, 0), "nothing to do: all 2 recordings are done in out"),
        (Outcome(1, 0, 1, 1), "`scriptorium retry out` runs it again"),
    ],
)
def test_the_totals_are_printed_in_the_singular_and_plural(
    outcome: Outcome, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _print_outcome(outcome, "out") == outcome.exit_code
    assert line in capsys.readouterr().out


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
def test_wrong_arguments_end_with_exit_code_2_and_a_message(
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
def test_an_out_that_is_a_file_is_refused(
    arguments: list[str], below: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert main([*arguments, f"{tmp_path}/notes.txt{below}"]) == 2
    assert f"{tmp_path}/notes.txt is a file" in capsys.readouterr().err


def test_a_missing_model_folder_is_named_before_ray_starts(
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


def test_the_cause_is_found_in_the_tracebacks_of_ray() -> None:
    message = (
        "The actor died because of an error raised in its creation task, "
        "\x1b[36mray::_MapWorker.__init__()\x1b[39m\n"
        '  File "x.py", line 1, in __init__\n'
        "actors.errors.FatalError: asr.model: weights are missing\n"
    )
    assert _cause(RuntimeError(message)).endswith("FatalError: asr.model: weights are missing")
    assert _cause(ValueError("plain")) == "plain"
    assert _cause(ValueError()) == "ValueError"


def test_columns_of_a_manifest_may_be_named() -> None:
    given = _parser().parse_args(
        ["transcribe", "m.csv", "out", "--columns", "audio=file, id=key", "--columns", "text=a=b"]
    )
    assert given.columns == [("audio", "file"), ("id", "key"), ("text", "a=b")]


@pytest.mark.parametrize("columns", ["file=audio", "audio", "audio=", ""])
def test_columns_that_are_not_known_are_refused(columns: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        _parser().parse_args(["plan", "m.csv", "--columns", columns])
    assert stop.value.code == 2
    assert "is not NAME=COLUMN with one of the names audio, id" in capsys.readouterr().err


def test_plan_reads_columns_by_their_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.csv").write_text("file,key\nnone.wav,a\n")
    assert main(["plan", str(tmp_path / "m.csv"), "--columns", "audio=file,id=key", "--json"]) == 0
    assert '"audio_not_found": 1' in capsys.readouterr().out
