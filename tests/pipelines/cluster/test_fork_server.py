"""Workers are forked from one process, and are what Ray would have started."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.cluster import lean_ray, worker_launcher

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the fork server")

FILES = 789
# In place of Ray's script: writes what kind of process it is, and how many there were.
WORKER = """
import json, os, resource, signal, sys
with open(sys.argv[1], "a") as file:
    file.write(json.dumps({
        "arguments": sys.argv[2:], "parent": os.getppid(), "process": os.getpid(), "group": os.getpgid(0),
        "folder": os.getcwd(), "variable": os.environ.get("A_VARIABLE"), "name": __name__,
        "forked": "pandas" in sys.modules, "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "signals": [
            str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
        ],
    }) + "\\n")
print("said")
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with lean_ray.forking_workers() as path:
        assert path is not None
        yield path
    deadline = time.monotonic() + 20
    while os.path.exists(os.path.dirname(path)):  # it cleans up after itself
        assert time.monotonic() < deadline, "the fork server does not end with its driver"
        time.sleep(0.05)


def _launch(path: str, folder: Path, *options: str) -> tuple[subprocess.Popen[str], Path]:
    script, told = folder / "worker.py", folder / "told"
    script.write_text(WORKER)
    command = [
        sys.executable,
        "-I",
        "-S",
        str(lean_ray.WORKER_LAUNCHER),
        path,
        str(script),
        str(told),
        *options,
    ]
    launcher = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "A_VARIABLE": "a=b\nc"},
        process_group=0,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES)),
    )
    return launcher, told


def test_a_forked_worker_is_what_ray_would_have_started(server: str, tmp_path: Path) -> None:
    launcher, told = _launch(server, tmp_path, "--runtime-env-hash=0", "--more=a b")
    assert launcher.communicate(timeout=60)[0] == "said\n"  # the worker's own output
    worker = json.loads(told.read_text())
    assert worker["forked"]
    assert worker["arguments"] == ["--runtime-env-hash=0", "--more=a b"]
    assert worker["folder"] == str(tmp_path)
    assert worker["variable"] == "a=b\nc"
    assert worker["name"] == "__main__"
    # Ray ends a worker's children with the group of the process that it started.
    assert worker["group"] == launcher.pid
    assert worker["process"] != launcher.pid
    assert worker["files"] == FILES
    ordinary = [signal.default_int_handler, signal.getsignal(signal.SIGHUP), signal.SIG_DFL]
    assert [text.split(" at ")[0] for text in worker["signals"]] == [
        str(one).split(" at ")[0] for one in ordinary
    ]


def test_a_worker_with_a_runtime_environment_is_not_forked(server: str, tmp_path: Path) -> None:
    launcher, told = _launch(server, tmp_path, "--runtime-env-hash=7")
    launcher.communicate(timeout=60)
    worker = json.loads(told.read_text())
    assert not worker["forked"]
    assert worker["process"] == launcher.pid


def test_without_a_server_a_launcher_becomes_the_worker(tmp_path: Path) -> None:
    launcher, told = _launch(str(tmp_path / "nothing"), tmp_path, "--runtime-env-hash=0")
    launcher.communicate(timeout=60)
    worker = json.loads(told.read_text())
    assert not worker["forked"]
    assert worker["process"] == launcher.pid


def test_a_server_that_hangs_makes_no_second_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The launcher gives up and becomes the worker. What was forked for it later hears no word to go."""
    path = os.path.join(tempfile.mkdtemp(), "socket")
    monkeypatch.setattr(worker_launcher, "ANSWER_SECONDS", 0.2)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as hanging:
        hanging.bind(path)
        hanging.listen(1)
        with pytest.raises(OSError, match="timed out"):
            worker_launcher.ask(path, ["worker.py"])
        late, _ = hanging.accept()
        with late:
            late.settimeout(10)
            while late.recv(1 << 16):
                pass
            with pytest.raises(OSError):  # nobody is told that the worker is ready
                for _ in range(2):
                    late.sendall(worker_launcher.READY)


def test_ray_is_not_imported_before_the_fork() -> None:
    """Forks would share the random numbers of its core, and have the wrong process id of the raylet."""
    script = "import sys\nfrom pipelines.cluster.fork_server import preload\npreload()\n"
    script += "print([name for name in sys.modules if name.split('.')[0] == 'ray'])"
    assert subprocess.check_output([sys.executable, "-c", script], text=True).strip() == "[]"


def test_the_raylet_is_told_of_the_launcher() -> None:
    command = ["raylet", "--session_dir=/s", "--node_id=n"]
    command += ["--python_worker_command=python /r/setup_worker.py /r/default_worker.py --a=b"]
    *_, worker = lean_ray._lean_raylet(command, "/t/socket")
    launcher = f"-I -S {lean_ray.WORKER_LAUNCHER} /t/socket"
    assert (
        worker == f"--python_worker_command=python /r/setup_worker.py {launcher} /r/default_worker.py --a=b"
    )
    assert lean_ray._lean_raylet(command, None) == command
    # Flags of the interpreter would be lost.
    command[-1] = command[-1].replace("/r/default_worker.py", "-s /r/default_worker.py")
    assert lean_ray._lean_raylet(command, "/t/socket") == command
