"""Forks the workers of a Ray on this machine from one process that has imported most of what they need.

A worker imports Arrow, pandas, pydantic, our stages and much else: more than half a second of a core and
60 MiB each, before it does anything, and a small job starts five of them. Here that is imported once, while
the driver starts, and forks share it.

The raylet starts `worker_launcher` in place of a worker, which sends its arguments, environment and standard
streams to this process. The fork takes them over, and joins the launcher's process group, which the raylet
ends with the worker. Everything else (registration, death, memory) the raylet knows by the worker's own
connection and process id. Where this server is missing, hangs or was killed, launchers become ordinary
workers.

Ray itself must not be imported here. Its core reads settings when it is imported, of which the raylet's
process id is one, and forks would share its random numbers: two workers drew the same object id, and one of
them died.

    python -m pipelines.cluster.fork_server NUMBER PATH

NUMBER is the file descriptor of a listening socket, PATH is where it is. The first launchers wait for the
imports, which they would need as well. The server ends with its standard input, which the driver holds.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import resource
import runpy
import selectors
import signal
import socket
import sys
from collections.abc import Sequence

from pipelines.cluster.worker_launcher import GO, READY

# What a launcher has sent, its standard streams, and the connection to it.
Order = tuple[list[str], list[int], socket.socket]

ANSWER_SECONDS = 10.0
# What Ray imports in a worker, and what our stages and the supervisor import.
MODULES = (
    "numpy",
    "numpy.random",
    "pandas",
    "pyarrow.compute",
    "pyarrow.dataset",
    "pyarrow.parquet",
    "pydantic.v1",
    "asyncio",
    "attr",
    "click",
    "filelock",
    "fsspec",
    "google.protobuf",
    "jsonschema",
    "packaging.version",
    "psutil",
    "requests",
    "yaml",
    "pipelines.execution.stages",
    "pipelines.supervision.supervisor",
)


def preload() -> None:
    """Import the modules; those that do not exist are left to whoever needs them."""
    for name in MODULES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # the garbage collector would write to, and so copy, what is shared


def main(number: str, path: str) -> None:
    """Serve; a fork becomes its worker, and the server itself removes its socket in the end."""
    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGHUP)}
    for signum in (*handlers, signal.SIGCHLD):
        # Ctrl-C concerns the driver, which may need workers to store what is finished. The kernel forgets
        # workers that ended.
        signal.signal(signum, signal.SIG_IGN)
    preload()
    order = _serve(socket.socket(fileno=int(number)))
    if order is not None:
        for signum, handler in (*handlers.items(), (signal.SIGCHLD, signal.SIG_DFL)):
            signal.signal(signum, handler)
        _work(*order)
        return
    with contextlib.suppress(OSError):
        os.unlink(path)
        os.rmdir(os.path.dirname(path))


def _serve(server: socket.socket) -> Order | None:
    """Fork a worker for each launcher that connects, until standard input ends.

    Returns:
        In a fork: its launcher's order. In the server: None.
    """
    with selectors.DefaultSelector() as selector, server:
        selector.register(server, selectors.EVENT_READ)
        selector.register(sys.stdin.buffer, selectors.EVENT_READ)
        while sys.stdin.buffer not in [key.fileobj for key, _ in selector.select()]:
            with contextlib.suppress(OSError, ValueError):
                launcher, _ = server.accept()
                with launcher:
                    launcher.settimeout(ANSWER_SECONDS)
                    words, streams = _receive(launcher)
                    if not os.fork():
                        return words, streams, launcher.dup()
                    for stream in streams:
                        os.close(stream)
    return None


def _receive(launcher: socket.socket) -> tuple[list[str], list[int]]:
    head, streams, _, _ = socket.recv_fds(launcher, 8, 3)
    size, message = int.from_bytes(head, "big"), b""
    while len(message) < size:
        part = launcher.recv(size - len(message))
        if not part:
            raise ValueError("the launcher is gone")
        message += part
    return message.decode(errors="surrogateescape").split("\0"), streams


def _work(words: Sequence[str], streams: Sequence[int], launcher: socket.socket) -> None:
    """Be the worker of a launcher, unless it has become the worker itself."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    process = int(words[0])
    try:
        os.setpgid(0, process)
    except OSError:
        os.setpgid(0, 0)
    # `ray.init` raises the limit of open files after this server has started.
    resource.setrlimit(resource.RLIMIT_NOFILE, resource.prlimit(process, resource.RLIMIT_NOFILE))
    with launcher:
        try:
            launcher.sendall(READY)
            if launcher.recv(1) != GO:
                return
        except OSError:
            return
    if numbers := sys.modules.get("numpy.random"):  # Python seeds its own anew
        numbers.seed()
    count = int(words[2])
    os.environ.clear()
    for word in words[3 + count :]:
        name, _, value = word.partition("=")
        os.environ[name] = value
    os.chdir(words[1])
    sys.argv[:] = words[3 : 3 + count]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
