"""Random combinations of faults of the environment: each run ends right or with one clear line.

The combinations follow from a seed, so that one that fails can be run again alone.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.environment.commands import FAKE, ROOT, Environment, Result, as_nobody, scriptorium
from tests.faults.environment.random_environment import LOCALES, TRAPS, combination
from tests.faults.harness import checker

pytestmark = pytest.mark.faults

AUDIO = ROOT / "configs/demo/audio/hotline-8khz.wav"
COMBINATIONS = 100
SAMPLE = 8  # of them by default, on commands without Ray
DONE = "1 recording = 1 transcript + 0 dead letters"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may write, with a short path."""
    made = Path(tempfile.mkdtemp(prefix="any-"))
    made.chmod(0o777)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def nobody() -> tuple[str, ...]:
    """What runs a command as another user; empty where that is not possible."""
    try:
        return as_nobody()
    except pytest.skip.Exception:
        return ()


def working_directory(kind: str, parent: Path) -> bytes:
    """A working directory of a kind."""
    folder = os.path.join(os.fsencode(parent), {"not UTF-8": b"\xff\xfe"}.get(kind, b"folder"))
    os.mkdir(folder)
    os.chmod(folder, 0o777)
    if kind == "traps":
        for name in TRAPS:
            Path(os.fsdecode(folder), f"{name}.py").write_text(f"raise ImportError('the trap {name}')")
    return folder


def check(done: Result, environment: Environment, message: str, *, is_run: bool) -> None:
    """Check that a command ended right, or with a message of one line and the exit code of a refusal."""
    said = (environment, done)
    errors = [line for line in done.err.splitlines() if not line.startswith("bash: ")]
    assert "Traceback" not in done.err + done.out, said
    lost = [line for line in errors if "standard output cannot be written" in line]
    if lost and not is_run:
        assert (done.code, errors) == (1, lost), said
        return
    if "ulimit -f" in environment.prelude and "File too large" in done.err:
        # An output directory that cannot be written is no wrong use.
        assert done.code == 1 and len(errors) == 1, said
        return
    assert done.code in (0, 2), said
    if (
        done.code == 0
        and message
        and ">" not in environment.redirections
        and "1<" not in environment.redirections
    ):
        assert message in done.out, said
    if done.code == 2 and "2>" not in environment.redirections:
        assert len(errors) == 1 and errors[0].startswith("scriptorium: "), said
    if done.code == 0:
        assert not [line for line in errors if "Warning" in line or "rror:" in line], said


def run(seed: int, folder: Path, nobody: tuple[str, ...], *, with_ray: bool) -> None:
    environment, kind = combination(seed, nobody)
    mark = uuid.uuid4().hex
    environment = replace(environment, variables={**environment.variables, "SCRIPTORIUM_FAULT_MARK": mark})
    here = working_directory(kind, folder)
    if kind == "removed":
        environment = replace(environment, prelude=f'rmdir "$PWD"; {environment.prelude or ":"}')
    commands = [(("plan", AUDIO), "recordings"), (("transcribe", "--print-config"), "asr:")]
    commands += [(("transcribe", AUDIO, folder / "out", *FAKE), DONE)] * with_ray
    for arguments, message in commands:
        if kind == "removed":
            os.makedirs(here, 0o777, exist_ok=True)
        done = scriptorium(*arguments, environment=environment, folder=here)
        check(done, environment, message, is_run=message == DONE)
    checker.nobody_left(mark, 40)


@pytest.mark.parametrize("seed", range(SAMPLE))
def test_a_command_ends_right_or_with_one_clear_line(
    seed: int, open_folder: Path, nobody: tuple[str, ...]
) -> None:
    run(seed, open_folder, nobody, with_ray=False)


@pytest.mark.ray
def test_a_run_ends_right_or_with_one_clear_line(tmp_path: Path) -> None:
    """With no home directory, no place for sockets, a proxy, another locale and a closed stream at once."""
    variables: dict[str, str | None] = {
        "HOME": "/dev/null",
        "TMPDIR": "/tmp/" + "x" * 90,
        "http_proxy": "http://nowhere.invalid:3128",
        "PYTHONWARNINGS": "error",
        **LOCALES[0],
    }
    environment = Environment(variables, "ulimit -n 1024", "<&-")
    audio = tmp_path / "Gr\u00fc\u00dfe \u97f3.wav"
    audio.write_bytes(AUDIO.read_bytes())
    done = scriptorium("transcribe", audio, tmp_path / "out", *FAKE, environment=environment)
    assert done.code == 0, done
    check(done, environment, DONE, is_run=True)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(COMBINATIONS))
def test_any_run_ends_right_or_with_one_clear_line(
    seed: int, open_folder: Path, nobody: tuple[str, ...]
) -> None:
    run(seed, open_folder, nobody, with_ray=True)
