"""What the `scriptorium` command needs of its process: standard streams, proxies, the import path."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from actors.process.import_path import leave_working_directory
from actors.redaction import redacted

LOOPBACK = ("localhost", "127.0.0.1", "::1")


@contextmanager
def prepared_process() -> Iterator[None]:
    """Make this process fit to run a command inside a `with` block.

    - Modules are never imported from the working directory.
    - Nothing on this machine is reached through a proxy.
    - Output that nobody reads any more (`| head`, a closed stream) is dropped: it ends no run and changes no
      exit code.
    - Messages have no passwords or queries of addresses.
    """
    leave_working_directory()
    bypass_proxies()
    # A log file whose encoding lacks a character is no reason to print a traceback.
    logging.raiseExceptions = bool(os.environ.get("SCRIPTORIUM_TRACEBACK"))
    _open_closed_streams()
    streams = sys.stdout, sys.stderr
    sys.stdout = _PipeGuard(streams[0])
    sys.stderr = _PipeGuard(streams[1], redacted)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        sys.stdout, sys.stderr = streams


def bypass_proxies() -> None:
    """Add loopback to `no_proxy` where a proxy is set, for this process and all that it starts."""
    if not any(os.environ.get(name) for name in os.environ if name.lower().endswith("_proxy")):
        return
    both = ("no_proxy", "NO_PROXY")
    hosts = [host.strip() for name in both for host in os.environ.get(name, "").split(",") if host.strip()]
    if "*" not in hosts:
        hosts = list(dict.fromkeys([*hosts, *LOOPBACK]))
        os.environ.update(dict.fromkeys(both, ",".join(hosts)))


class _PipeGuard:
    """A text stream that drops what is written once its reader is gone, and escapes what its encoding lacks.

    Args:
        stream: the real one.
        edit: applied to every text.
    """

    def __init__(self, stream: TextIO, edit: Callable[[str], str] = str) -> None:
        self._stream, self._edit = stream, edit
        with suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]

    def write(self, text: str) -> int:
        """Write `text`; returns its length, also if nobody reads it."""
        try:
            self._stream.write(self._edit(text))
        except BrokenPipeError:
            self._drop()
        return len(text)

    def flush(self) -> None:
        """Flush what was written."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._drop()

    def _drop(self) -> None:
        """Point the stream's file descriptor at nothing: what is buffered goes there too."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._stream.fileno())
        os.close(null)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _open_closed_streams() -> None:
    """Open standard streams that were closed at the start.

    Otherwise the next files that are opened would get their numbers, and what a library prints would be
    written into them.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
