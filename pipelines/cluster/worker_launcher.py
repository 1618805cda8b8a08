"""Starts a Ray worker by asking the fork server for it; without an answer, as Ray itself would.

    python -I -S worker_launcher.py SOCKET default_worker.py OPTIONS...

Runs in place of `python default_worker.py OPTIONS...`, see `pipelines.cluster.fork_server`.
"""

import os
import sys
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_STREAM, SOL_SOCKET, socket

ANSWER_SECONDS = 20.0  # a fork takes a few milliseconds, but the machine may be busy
# Workers with a runtime environment have an interpreter or an import path of their own.
NO_RUNTIME_ENVIRONMENT = "--runtime-env-hash=0"
READY, GO = b"r", b"g"


def ask(path: str, words: list[str]) -> bool:
    """Have the fork server start a worker; returns whether it did."""
    environment = [f"{name}={value}" for name, value in os.environ.items()]
    parts = [str(os.getpid()), os.getcwd(), str(len(words)), *words, *environment]
    message = "\0".join(parts).encode(errors="surrogateescape")
    server = socket(AF_UNIX, SOCK_STREAM)
    try:
        server.settimeout(ANSWER_SECONDS)
        server.connect(path)
        rights = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2))
        server.sendmsg([len(message).to_bytes(8, "big")], [(SOL_SOCKET, SCM_RIGHTS, rights)])
        server.sendall(message)
        if server.recv(1) != READY:
            return False
        # From here on there is a worker. Without this word it ends: there are never two.
        server.sendall(GO)
        return True
    finally:
        server.close()


def main(path: str, *words: str) -> None:
    """Ask for a worker, or become it."""
    try:
        if NO_RUNTIME_ENVIRONMENT in words and ask(path, [*words]):
            return
    except OSError:  # no server, or one that hangs
        pass
    os.execv(sys.executable, [sys.executable, *words])


if __name__ == "__main__":
    main(*sys.argv[1:])
