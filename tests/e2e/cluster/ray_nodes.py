"""Real Ray nodes, each started by `ray start` as on its own machine, and `ray job` against them.

The cluster has its own network namespace with only a loopback device, so nothing outside reaches its ports.
Each worker has its own mount namespace in which the other nodes' files and the `hidden` folders are empty:
whatever it needs from there must have been sent to it, as to another machine.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.harness import checker

BIN = Path(sys.executable).parent
START_ATTEMPTS = 3


@dataclass
class Cluster:
    """A head and workers.

    Args:
        folder: Ray's own files. The path is short because it holds Unix sockets.
        environment: of the nodes and their clients: the token, and a mark that identifies its processes.
        address: for `cluster.address` and `ray start`.
        dashboard: for `ray job --address`.
    """

    folder: Path
    environment: dict[str, str]
    address: str
    dashboard: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def inside(self, command: Sequence[Any]) -> list[str]:
        """A command in the cluster's network."""
        return ["nsenter", f"--net=/proc/{self.processes[0].pid}/ns/net", *map(str, command)]

    def ray(self, *arguments: Any, timeout: float = 300, **options: Any) -> subprocess.CompletedProcess[str]:
        """The `ray` command."""
        command = self.inside([BIN / "ray", *arguments])
        return subprocess.run(
            command,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            **options,
        )

    def job(self, verb: str, *arguments: Any, **options: Any) -> str:
        """Run `ray job VERB` and return its output."""
        done = self.ray("job", verb, "--address", self.dashboard, *arguments, **options)
        assert done.returncode == 0, done.stdout[-3000:]
        return done.stdout

    def wait_for(self, job: str, states: Sequence[str], timeout: float = 300) -> str:
        """Wait until a job reaches one of these states; return that state."""
        deadline = time.monotonic() + timeout
        while True:
            said = self.job("status", job).upper()
            state = next(
                state for state in ("SUCCEEDED", "FAILED", "STOPPED", "RUNNING", "PENDING") if state in said
            )
            if state in states:
                return state
            assert state in ("RUNNING", "PENDING"), f"{state}: {self.job('logs', job)[-3000:]}"
            assert time.monotonic() < deadline, (
                f"still {state} after {timeout:g} s: {self.job('logs', job)[-3000:]}"
            )
            time.sleep(2)


def can_isolate() -> bool:
    """Whether this user may create network and mount namespaces (root may)."""
    if not all(map(shutil.which, ("unshare", "nsenter", "ip", "mount"))):
        return False
    return (
        subprocess.run(
            ["unshare", "--net", "--mount", "sh", "-c", "ip link set lo up && mount -t tmpfs tmpfs /mnt"]
        ).returncode
        == 0
    )


@contextmanager
def cluster(workers: Sequence[Sequence[str]], hidden: Sequence[Path] = ()) -> Iterator[Cluster]:
    """A head without CPUs, and one worker per list of `ray start` options."""
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
    mark = secrets.token_hex(8)
    variables = {
        **{
            name: value
            for name, value in os.environ.items()
            if name not in ("RAY_ADDRESS", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")
        },
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_JOB_STOP_WAIT_TIME_S": "20",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "SCRIPTORIUM_FAULT_MARK": mark,
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }
    made = Cluster(folder, variables, "127.0.0.1:6379", "http://127.0.0.1:8265")
    try:
        isolated = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
        _join(made, [*isolated, *_ray_start("--head", "--port=6379", "--num-cpus=0", "--num-gpus=0")])
        for options in workers:
            add_node(made, options, hidden)
        yield made
    finally:
        for process in reversed(made.processes):
            process.send_signal(signal.SIGTERM)
        for process in made.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
        for pid in checker.marked(f"SCRIPTORIUM_FAULT_MARK={mark}"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
        _log(made).unlink(missing_ok=True)


def add_node(made: Cluster, options: Sequence[str], hidden: Sequence[Path] = ()) -> None:
    """Add a worker with these options of `ray start`."""
    mounts = "".join(f"mount -t tmpfs tmpfs {path} && " for path in (made.folder, *hidden))
    own_files = ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'{mounts}exec "$@"', "sh"]
    worker = _ray_start(
        f"--address={made.address}", f"--dashboard-agent-listen-port={52365 + len(made.processes)}", *options
    )
    _join(made, made.inside([*own_files, *worker]))


def _ray_start(*options: str) -> list[str]:
    return [
        str(BIN / "ray"),
        "start",
        *options,
        "--node-ip-address=127.0.0.1",
        "--object-store-memory=100000000",
        "--block",
    ]


def _start(made: Cluster, command: Sequence[str]) -> None:
    command = [*command, f"--temp-dir={made.folder}"]
    with open(_log(made), "ab") as log:
        made.processes.append(
            subprocess.Popen(
                command,
                env=made.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        )


def _log(made: Cluster) -> Path:
    return made.folder.with_suffix(".log")


def _join(made: Cluster, command: Sequence[str]) -> None:
    """Start a node and wait until it has joined.

    It is started again where a busy machine needs longer than Ray's fixed thirty seconds.
    """
    for attempt in range(START_ATTEMPTS):
        _start(made, command)
        if _lives(made, len(made.processes)):
            return
        assert attempt < START_ATTEMPTS - 1, _log(made).read_text()[-3000:]
        made.processes.pop()


def _lives(made: Cluster, nodes: int) -> bool:
    """Wait until this many nodes are alive and jobs are accepted; False if the last node started exits."""
    deadline = time.monotonic() + 180
    while made.processes[-1].poll() is None:
        said = made.ray("list", "nodes", "--address", made.dashboard, "--format", "json", timeout=60).stdout
        if said.count('"ALIVE"') == nodes:
            return True
        assert time.monotonic() < deadline, said[-2000:] + _log(made).read_text()[-3000:]
        time.sleep(1)
    return False
