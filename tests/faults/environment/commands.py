"""Runs the command as a user would, in an environment that lacks something."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
# What the console script does. -P: this file's folder and the working directory are not on the path.
COMMAND = (sys.executable, "-P", "-c", "import sys; from pipelines.cli import main; sys.exit(main())")
FAKE = (
    *("--set", "asr.backend=fake", "--set", "aligner.backend=fake"),
    *("--set", "cluster.object_store_memory=0.1"),
)
SECONDS = 240.0  # for one run, with Ray, on a busy machine


@dataclass(frozen=True)
class Environment:
    """What a command finds.

    Attributes:
        variables: of the environment; None: not set.
        prelude: shell commands that come first, such as `ulimit -n 64`.
        redirections: of the shell, such as `2>&-`.
        wrapper: a program that runs the shell, such as `unshare --net`.
    """

    variables: Mapping[str, str | None] = field(default_factory=dict)
    prelude: str = ""
    redirections: str = ""
    wrapper: Sequence[str] = ()


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str


def clean_environment() -> dict[str, str]:
    """The variables of this process without those that a Ray of an earlier test set in it."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("RAY_") and name != "PYTHONSAFEPATH"
    }


def scriptorium(
    *arguments: Any,
    environment: Environment = Environment(),
    folder: Path | None = None,
    timeout: float = SECONDS,
    **options: Any,
) -> Result:
    """Run `scriptorium ARGUMENTS` in an environment.

    Args:
        arguments: of the command line.
        environment: see there.
        folder: the working directory.
        timeout: seconds after which the test fails.
        options: of `subprocess.run`.
    """
    variables = {**clean_environment(), "PYTHONPATH": str(ROOT), **environment.variables}
    script = f'{environment.prelude or ":"}; exec "$@" {environment.redirections}'
    done = subprocess.run(
        [*environment.wrapper, "bash", "-c", script, "bash", *COMMAND, *map(str, arguments)],
        cwd=folder or ROOT,
        env={name: value for name, value in variables.items() if value is not None},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        **options,
    )
    return Result(done.returncode, done.stdout, done.stderr)
