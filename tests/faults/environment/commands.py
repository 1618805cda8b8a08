"""Runs the command as a user would, in an environment that lacks something."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
# What the console script does. -P: this file's folder and the working directory are not on the path.
COMMAND = (sys.executable, "-P", "-c", "import sys; from pipelines.cli import main; sys.exit(main())")
FAKE = (
    *("--set", "asr.backend=fake", "--set", "aligner.backend=fake"),
    *("--set", "cluster.object_store_memory=0.1"),
)
SECONDS = 240.0  # for one run, with Ray, on a busy machine

NOBODY = "65534"
# The interpreter is often below root's home, which others may not enter: it is mounted where they may.
REACH = """
folder=$(mktemp -d -p /tmp) && chmod 755 "$folder" && mount --bind "$0" "$folder" &&
mount -t tmpfs -o mode=755 tmpfs "/$(echo "$0" | cut -d/ -f2)" &&
mkdir -p "$0" && mount --bind "$folder" "$0" &&
exec setpriv --reuid USER --regid USER --clear-groups "$@"
""".replace("USER", NOBODY)


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
    folder: Path | bytes | None = None,
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
    # PATH is set last: the shell and the wrapper are found by the usual one.
    path = variables.get("PATH")
    search = "unset PATH" if path is None else f"export PATH={shlex.quote(path)}"
    script = f'{environment.prelude or ":"}; {search}; exec "$@" {environment.redirections}'
    done = subprocess.run(
        [*environment.wrapper, "bash", "-c", script, "bash", *COMMAND, *map(str, arguments)],
        cwd=folder or ROOT,
        env={name: value for name, value in variables.items() if value is not None}
        | {"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        **options,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def as_nobody() -> tuple[str, ...]:
    """What runs a command as a user without a home; skips the test where that is not possible."""
    if os.geteuid() != 0:
        pytest.skip("only root can run a command as another user")
    plain = ("setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups")
    mounted = ("unshare", "--mount", "bash", "-c", REACH, sys.base_prefix)
    script = "import pipelines.cli, ray"
    for wrapper in (plain, mounted):
        if shutil.which(wrapper[0]):
            # With a shell as in `scriptorium`: setpriv itself may still execute what this user may not.
            command = [*wrapper, "bash", "-c", 'exec "$@"', "bash", sys.executable, "-c", script]
            if not subprocess.run(command, cwd=ROOT, capture_output=True).returncode:
                return wrapper
    pytest.skip("another user cannot reach this interpreter")
