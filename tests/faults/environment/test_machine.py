"""Machines that lack what Ray needs: said at once with what to do, or done without."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tests.faults.environment.commands import FAKE, ROOT, Environment, Result, as_nobody, scriptorium

pytestmark = pytest.mark.faults

AUDIO = ROOT / "configs/demo/audio/hotline-8khz.wav"
AT_ONCE = 60.0  # seconds, on a busy machine; Ray's own reports take minutes


def isolated(*command: str) -> tuple[str, ...]:
    """`unshare` with some namespaces; skips the test where this user may not create them."""
    if not shutil.which("unshare") or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("this user may not create namespaces")
    return command


def run(environment: Environment, out: Path, *settings: str) -> Result:
    options = [part for setting in settings for part in ("--set", setting)]
    return scriptorium("transcribe", AUDIO, out, *FAKE, *options, environment=environment)


def refused(environment: Environment, out: Path, *settings: str) -> str:
    """The message of a run that ends at once with exit code 2 and has started nothing."""
    began = time.monotonic()
    done = run(environment, out, *settings)
    assert time.monotonic() - began < AT_ONCE
    assert done.code == 2, done
    assert len(done.err.splitlines()) == 1, done.err
    return done.err


def test_without_a_loopback_interface_a_run_says_what_to_do(tmp_path: Path) -> None:
    message = refused(Environment(wrapper=isolated("unshare", "--net")), tmp_path / "out")
    assert "no connection to 127.0.0.1" in message
    assert "ip link set lo up" in message


def test_with_few_open_files_a_run_says_what_to_do(tmp_path: Path) -> None:
    assert "ulimit -n 65536" in refused(Environment(prelude="ulimit -n 200"), tmp_path / "out")


def test_with_little_address_space_a_run_says_what_to_do(tmp_path: Path) -> None:
    assert "ulimit -v unlimited" in refused(Environment(prelude="ulimit -v 3000000"), tmp_path / "out")


def test_with_small_files_a_run_says_what_to_do(tmp_path: Path) -> None:
    assert "ulimit -f unlimited" in refused(Environment(prelude="ulimit -f 100"), tmp_path / "out")


def test_with_few_processes_a_run_says_what_to_do(tmp_path: Path) -> None:
    environment = Environment(prelude="ulimit -u 40", wrapper=as_nobody())
    # pytest's own folders are closed to other users.
    with tempfile.TemporaryDirectory(prefix="any-") as folder:
        Path(folder).chmod(0o777)
        assert "ulimit -u 16384" in refused(environment, Path(folder, "out"))


def test_without_docstrings_a_run_says_what_to_do(tmp_path: Path) -> None:
    assert "unset PYTHONOPTIMIZE" in refused(Environment({"PYTHONOPTIMIZE": "2"}), tmp_path / "out")


def test_in_a_removed_folder_a_run_says_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "removed"
    folder.mkdir()
    message = refused(Environment(prelude=f"cd {folder}; rmdir {folder}"), tmp_path / "out")
    assert "the working directory cannot be used" in message


@pytest.mark.ray
def test_long_temporary_folders_proxies_and_small_shared_memory_are_no_obstacle(tmp_path: Path) -> None:
    """All at once, since each run starts Ray: none of them depends on another."""
    long = tmp_path / ("x" * 80)
    long.mkdir()
    nowhere = "http://127.0.0.1:9"
    mount = "mount -t tmpfs -o size=10m tmpfs /dev/shm"
    environment = Environment(
        {"TMPDIR": str(long), "http_proxy": nowhere, "https_proxy": nowhere, "ALL_PROXY": nowhere},
        prelude=mount,
        wrapper=isolated("unshare", "--mount"),
    )
    done = run(environment, tmp_path / "out")
    assert done.code == 0, done
    assert "/dev/shm has 0.0098 GiB free, of 0.1 GiB that are needed" in done.err
    assert "raylet" not in done.err


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("state", ["ro,size=1g", "size=10m,mode=700"])
def test_shared_memory_that_cannot_be_used_is_no_obstacle(state: str, tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o {state} tmpfs /dev/shm"
    done = run(Environment(prelude=mount, wrapper=isolated("unshare", "--mount")), tmp_path / "out")
    assert done.code == 0, done
    assert "decoded audio is kept in files" in done.err
