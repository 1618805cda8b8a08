"""An arbitrary user id without a home directory, as Kubernetes and OpenShift give it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.environment.commands import FAKE, ROOT, Environment, scriptorium

pytestmark = pytest.mark.faults

AUDIO = ROOT / "configs/demo/audio/hotline-8khz.wav"
NOBODY = "65534"
# The interpreter is often below root's home, which others may not enter: it is mounted where they may.
REACH = """
folder=$(mktemp -d) && chmod 755 "$folder" && mount --bind "$0" "$folder" &&
mount -t tmpfs -o mode=755 tmpfs "/$(echo "$0" | cut -d/ -f2)" &&
mkdir -p "$0" && mount --bind "$folder" "$0" &&
exec setpriv --reuid USER --regid USER --clear-groups "$@"
""".replace("USER", NOBODY)


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


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of that user's, since others cannot enter pytest's."""
    wrapper_folder = Path(tempfile.mkdtemp(prefix="nobody-"))
    os.chown(wrapper_folder, int(NOBODY), int(NOBODY))
    yield wrapper_folder
    shutil.rmtree(wrapper_folder)


@pytest.mark.ray
@pytest.mark.parametrize(
    "home",
    ["/nonexistent", pytest.param(None, marks=pytest.mark.slow), pytest.param("/", marks=pytest.mark.slow)],
)
def test_a_run_needs_no_home_directory(home: str | None, folder: Path) -> None:
    wrapper = as_nobody()
    environment = Environment({"HOME": home, "XDG_CACHE_HOME": None}, wrapper=wrapper)
    for command in (
        ["plan", AUDIO],
        ["transcribe", AUDIO, folder / "out", *FAKE],
        ["status", folder / "out"],
    ):
        done = scriptorium(*command, environment=environment, folder=folder)
        assert done.code == 0, done
    assert sorted(path.name for path in folder.iterdir()) == ["out"]


def test_a_cache_that_cannot_be_written_names_the_setting(folder: Path) -> None:
    """The models of the defaults are not on this machine, and there is no folder to download them into."""
    environment = Environment(
        {"HOME": "/nonexistent", "HF_HOME": None, "XDG_CACHE_HOME": None, "HF_HUB_OFFLINE": None},
        wrapper=as_nobody(),
    )
    done = scriptorium("transcribe", AUDIO, folder / "out", environment=environment, folder=folder)
    assert done.code == 2
    assert "set HF_HOME to a folder that can" in done.err
    assert len(done.err.splitlines()) == 1
