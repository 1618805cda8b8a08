"""Every command, in a folder of somebody else's files that have the names of modules: none of them is run."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.cli import COMMANDS
from tests.faults.environment.commands import COMMAND, FAKE, ROOT, SECONDS, clean_environment, scriptorium
from tests.pipelines.export.transcripts import interview, write_output

pytestmark = pytest.mark.faults

AUDIO = ROOT / "configs/demo/audio/hotline-8khz.wav"


MODELS = (
    *("--config", str(ROOT / "configs/demo.yaml")),
    *("--set", "cluster.object_store_memory=0.1", "--set", "speakers.backend=fake"),
)
# In this order, since most of them need the output of the first.
RUNS = (
    ("transcribe", "recording.wav", "out", "--show", *MODELS),
    ("align", "texts.jsonl", "aligned", *FAKE),
    ("status", "out"),
    ("report", "out"),
    ("retry", "out"),
    ("evaluate", "out", "--references", "texts.jsonl"),
    ("evaluate", "out", "--against", "aligned"),
    ("plan", "texts.jsonl", "--json"),
    ("speakers", "out"),
    *(
        ("export", "out", name, f"exported-{name}")
        for name in ("srt", "json", "textgrid", "hf", "webdataset")
    ),
    ("import", "out", "exported-srt"),
    ("select", "out", "selected"),
)
SERVERS = {
    "serve": ("serve", "--set", "serve.port=0", *FAKE),
    "browse": ("browse", "found", "--port", "0"),
}


@pytest.fixture(scope="module")
def inbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recording, and a trap for each module that a process could import.

    A trap that is imported writes a file into `marks` beside the folder.
    """
    folder = tmp_path_factory.mktemp("traps") / "inbox"
    folder.mkdir()
    marks = folder.with_name("marks")
    marks.mkdir()
    names = {*sys.stdlib_module_names, *importlib.metadata.packages_distributions(), "actors", "pipelines"}
    names |= {name.partition(".")[0] for name in sys.modules} | {"sitecustomize", "usercustomize", "tests"}
    for name in filter(str.isidentifier, names):
        (folder / f"{name}.py").write_text(
            f"import sys\nopen({str(marks / name)!r}, 'a').write(' '.join(sys.orig_argv))\n"
            f"raise ImportError('the trap {name} was imported')\n"
        )
    shutil.copy(AUDIO, folder / "recording.wav")
    (folder / "texts.jsonl").write_text(
        json.dumps({"audio": "recording.wav", "text": "Sempre dois", "language": "pt"}) + "\n"
    )
    return folder


def sprung(inbox: Path) -> dict[str, str]:
    """The traps that were imported, with the command lines of the processes."""
    return {path.name: path.read_text() for path in inbox.with_name("marks").iterdir()}


def test_the_traps_work(inbox: Path) -> None:
    """A child that has the working directory on its path falls into one."""
    code = "import statistics"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=inbox, env=clean_environment(), capture_output=True, text=True
    )
    assert done.returncode and "was imported" in done.stderr + str(sprung(inbox))
    for mark in inbox.with_name("marks").iterdir():
        mark.unlink()


def test_commands_without_ray_import_nothing_from_the_working_directory(inbox: Path) -> None:
    for arguments in (["--help"], ["--version"], ["transcribe", "--print-config"], ["plan", "."]):
        done = scriptorium(*arguments, folder=inbox)
        assert done.code == 0, (arguments, done)
    done = scriptorium("transcribe", ".", "out", "--dry-run", "--nodes", "1x(CPU=4)", *FAKE, folder=inbox)
    assert done.code == 0, done
    assert not sprung(inbox)


def test_every_command_is_run_among_the_traps() -> None:
    assert {*COMMANDS} == {arguments[0] for arguments in RUNS} | {*SERVERS}


@pytest.mark.ray
def test_a_run_imports_nothing_from_the_working_directory(inbox: Path) -> None:
    """With the demo's models, so that the engine and its libraries are loaded as well."""
    for arguments in RUNS:
        done = scriptorium(*arguments, folder=inbox)
        assert done.code == 0, (arguments, done)
        assert not sprung(inbox), arguments


@pytest.mark.ray
def test_the_server_imports_nothing_from_the_working_directory(inbox: Path, tmp_path: Path) -> None:
    said, log = said_until_ended(SERVERS["serve"], inbox, tmp_path)
    assert len(said) == 2, said
    assert said[0].startswith("scriptorium: listening on "), said
    assert said[1].startswith("scriptorium: shutting down"), said
    assert "raylet" not in log
    assert not sprung(inbox)


def test_the_browser_imports_nothing_from_the_working_directory(inbox: Path, tmp_path: Path) -> None:
    write_output(inbox / "found", [interview()])
    said, _ = said_until_ended(SERVERS["browse"], inbox, tmp_path)
    assert said[-1].startswith("http://127.0.0.1:"), said
    assert not any("Traceback" in line for line in said), said
    assert not sprung(inbox)


def said_until_ended(server: tuple[str, ...], inbox: Path, folder: Path) -> tuple[list[str], str]:
    """Start a server, hold Ctrl-C as soon as it listens, and return its lines of stderr and its stdout."""
    log, errors = folder / "log", folder / "errors"
    with open(log, "wb") as out, open(errors, "wb") as err:
        process = subprocess.Popen(
            [*COMMAND, *server],
            cwd=inbox,
            stdout=out,
            stderr=err,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + SECONDS
        while not any(b"http://" in stream.read_bytes() for stream in (log, errors)):
            assert process.poll() is None and time.monotonic() < deadline, errors.read_text()
            time.sleep(0.1)
        # As somebody does who holds Ctrl-C in a terminal, until the process is gone.
        deadline = time.monotonic() + 90
        while process.poll() is None:
            assert time.monotonic() < deadline, errors.read_text()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.1)
        assert process.returncode == 0, errors.read_text()
    finally:
        process.kill()
    return errors.read_text().splitlines(), log.read_text()
