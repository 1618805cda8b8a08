"""Stands in for an agent of a local Ray, and becomes the real one as soon as somebody connects to it.

A raylet starts two agents and waits for the port of each of them. Every agent is a Python process that
imports Ray, and a job on this machine has no work for either: nobody looks at its metrics, and its workers
need no environment of their own. This script runs without site-packages, and costs 20 ms and 6 MiB.

    python -I -S sleeping_agent.py SESSION_FOLDER NODE_ID off PORT_NAME...
    python -I -S sleeping_agent.py SESSION_FOLDER NODE_ID on-demand PORT_NAME COMMAND...

`off` tells the raylet -1 for each port, as Ray's own agents do for a service that is switched off.
`on-demand` listens on a free port of 127.0.0.1, tells the raylet that port, and executes the command with
`--PORT-NAME=PORT` (dashes for underscores) at the first connection; the raylet connects again until it is
answered. The raylet may append options of its own.
"""

import os
import selectors
import socket
import sys

UNUSED = -1
CHECK_SECONDS = 1.0  # between two looks whether the raylet is still there


def announce(folder: str, node: str, name: str, port: int) -> None:
    """Write a port to the file where the raylet looks for it, all at once."""
    path = os.path.join(folder, f"{name}_{node}")
    with open(f"{path}.new", "w", encoding="ascii") as file:
        file.write(str(port))
    os.replace(f"{path}.new", path)


def sleep_until_called(server: socket.socket | None, parent: int) -> bool:
    """Wait for a connection; returns False once the parent process is gone."""
    with selectors.DefaultSelector() as selector:
        if server is not None:
            selector.register(server, selectors.EVENT_READ)
        while os.getppid() == parent:
            if selector.select(CHECK_SECONDS):
                return True
    return False


def main(folder: str, node: str, mode: str, *words: str) -> None:
    """Announce the ports, sleep, and become the command when it is needed."""
    parent = os.getppid()
    if mode == "off":
        for name in words:
            if not name.startswith("-"):
                announce(folder, node, name, UNUSED)
        sleep_until_called(None, parent)
        return
    name, *command = words
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    announce(folder, node, name, port)
    if sleep_until_called(server, parent):
        server.close()
        option = f"--{name.replace('_', '-')}="
        os.execv(command[0], [*(word for word in command if not word.startswith(option)), f"{option}{port}"])


if __name__ == "__main__":
    main(*sys.argv[1:])
