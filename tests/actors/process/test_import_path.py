"""Nothing is imported from the working directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from actors.errors import FatalError
from actors.process import isolation
from actors.process.import_path import (
    PACKAGE_ROOT,
    child_command,
    child_environment,
    leave_working_directory,
)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory outside the checkout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def test_the_working_directory_leaves_the_path(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = list(sys.path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", "/plugins", str(elsewhere), "/more"]))
    sys.path[:] = ["", str(elsewhere), *others, "."]
    leave_working_directory()
    assert sys.path == [path for path in others if path]
    assert os.environ["PYTHONPATH"] == os.pathsep.join(["/plugins", "/more"])


def test_the_working_directory_stays_if_the_packages_are_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ray job submit --working-dir .` runs the job in the folder that was uploaded."""
    monkeypatch.chdir(PACKAGE_ROOT)
    monkeypatch.setattr(sys, "path", [PACKAGE_ROOT, "/other"])
    leave_working_directory()
    assert sys.path == [PACKAGE_ROOT, "/other"]


def test_a_deleted_working_directory_is_no_error(elsewhere: Path) -> None:
    elsewhere.rmdir()
    leave_working_directory()
    assert child_environment()["PYTHONSAFEPATH"] == "1"
    elsewhere.mkdir()


def test_a_child_imports_nothing_from_the_working_directory(elsewhere: Path) -> None:
    for name in ("numpy", "secrets", "statistics", "pickle", "actors"):
        (elsewhere / f"{name}.py").write_text(f"open({str(elsewhere / 'mark')!r}, 'w')\n")
    child = isolation.Child(1.0)
    try:
        assert child.call("statistics:mean", [1, 3], timeout=60) == 2
    finally:
        child.close()
    assert not (elsewhere / "mark").exists()


def test_the_command_as_a_module_imports_nothing_from_the_working_directory(elsewhere: Path) -> None:
    """Except what Python itself imports for `-m`, before this program has any say."""
    for name in ("actors", "yaml", "fsspec", "rich", "argparse", "pydantic"):
        (elsewhere / f"{name}.py").write_text(f"open({str(elsewhere / 'mark')!r}, 'w')\n")
    done = subprocess.run(
        [sys.executable, "-m", "pipelines", "transcribe", "--print-config"],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": PACKAGE_ROOT},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "asr:" in done.stdout
    assert not (elsewhere / "mark").exists()


def test_a_module_that_cannot_be_imported_is_not_the_inputs_fault() -> None:
    child = isolation.Child(1.0)
    try:
        with pytest.raises(FatalError, match="No module named 'absent_module'"):
            child.call("absent_module:function", timeout=60)
    finally:
        child.close()


def test_a_child_that_cannot_import_its_modules_is_not_the_inputs_fault() -> None:
    child = isolation.Child(1.0, imports=["absent_module"])
    with pytest.raises(FatalError, match="does not start: ModuleNotFoundError: No module named 'absent_mod"):
        child.call("statistics:mean", [1], timeout=60)
    child.close()


def test_a_child_that_cannot_be_started_is_not_the_inputs_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/absent/python")
    assert child_command("actors.process.isolation")[0] == "/absent/python"
    with pytest.raises(FatalError, match="cannot be started"):
        isolation.Child(1.0).call("statistics:mean", [1], timeout=60)
