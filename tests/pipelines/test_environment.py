"""Standard streams that fail, and warnings of libraries."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from pipelines.environment import prepared_process

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-P", "-c", "import sys; from pipelines.cli import main; sys.exit(main())"]


def shell(line: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash, in which `"$@"` is the command."""
    return subprocess.run(
        ["bash", "-c", line, "bash", *COMMAND],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=100,
    )


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('"$@" transcribe --print-config > /dev/full', "No space left on device"),
        ('"$@" --help > /dev/full', "No space left on device"),
        ('"$@" --version 1< /dev/null', "Bad file descriptor"),
    ],
)
def test_output_that_cannot_be_written_is_an_error(line: str, problem: str) -> None:
    done = shell(line)
    expected = f"scriptorium: standard output cannot be written: {problem}\n"
    assert (done.returncode, done.stderr) == (1, expected)


@pytest.mark.parametrize("redirection", ["2> /dev/full", "2< /dev/null", "> /dev/full 2> /dev/full"])
def test_messages_that_cannot_be_written_change_no_exit_code(redirection: str) -> None:
    done = shell(f'"$@" plan /nonexistent.jsonl {redirection}')
    assert (done.returncode, done.stderr) == (2, "")


def test_output_that_cannot_be_written_is_known_before_the_end(tmp_path: Path) -> None:
    """A run must not end with another code because of it, so it has to be asked for."""
    file = tmp_path / "read-only"
    file.touch()
    before = sys.stdout
    with open(file) as unwritable, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", os.fdopen(os.dup(unwritable.fileno()), "w"))
        with prepared_process() as output:
            print("lost")
            assert output.check() == "Bad file descriptor"
            print("lost too")
            assert output.check() == "Bad file descriptor"
    assert sys.stdout is before


def test_warnings_never_become_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.delenv("SCRIPTORIUM_TRACEBACK", raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with prepared_process():
            warnings.warn("deprecated", DeprecationWarning, stacklevel=1)
            assert os.environ["PYTHONWARNINGS"] == "ignore"
        with pytest.raises(DeprecationWarning):
            warnings.warn("deprecated", DeprecationWarning, stacklevel=1)
