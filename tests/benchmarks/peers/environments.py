"""An environment of its own for each contestant, with pinned packages: made once, in an ignored folder."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.workloads.rows import Skipped

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / ".peers"
REQUIREMENTS = Path(__file__).with_name("requirements")
PIP = "pip==26.3"
# Free bytes that an installation needs, with downloads. NeMo Curator brings torch with CUDA libraries.
ROOM = {"nemo": 16 << 30, "qwen": 5 << 30, "ray": 5 << 30, "daft": 1 << 30}
TIMEOUT = 1800  # seconds of one installation


def python_of(name: str, install: bool = True) -> Path:
    """The interpreter of an environment, which is made first if it is missing or out of date.

    Args:
        name: of a file in `requirements`, without its suffix.
        install: make it.

    Raises:
        Skipped: it cannot be made here, or may not; the message says why.
    """
    folder = FOLDER / f"env-{name}"
    python, stamp = folder / "bin/python", folder / "installed"
    requirements = REQUIREMENTS / f"{name}.txt"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return python
    if not install:
        raise Skipped(
            f"its environment is not installed: run `make bench-peers`, or leave out --no-install ({name})"
        )
    if sys.version_info[:2] != (3, 11):
        raise Skipped(f"its packages are pinned for Python 3.11, and this is {sys.version.split()[0]}")
    FOLDER.mkdir(exist_ok=True)
    if (free := shutil.disk_usage(FOLDER).free) < ROOM[name]:
        raise Skipped(f"installing it needs {ROOM[name] >> 30} GiB of disk, and {free >> 30} GiB are free")
    shutil.rmtree(folder, ignore_errors=True)
    _run(name, sys.executable, "-m", "venv", str(folder))
    _run(name, str(python), "-m", "pip", "install", "--quiet", PIP)
    # The files list every package, so that pip has nothing to resolve.
    _run(
        name, str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--requirement", str(requirements)
    )
    stamp.write_text(digest)
    return python


def _run(name: str, *command: str) -> None:
    print(f"peers: {name}: {' '.join(Path(part).name for part in command)}", flush=True)
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        raise Skipped(f"its installation took longer than {TIMEOUT // 60} minutes") from None
    _check(done.returncode, done.stderr)


def _check(code: int, said: str) -> None:
    """Raise what an installation said last, if it failed."""
    if code:
        lines = [line for line in said.splitlines() if line.startswith("ERROR")] or ["no message"]
        raise Skipped(f"it cannot be installed here: {lines[0][:200]}")
