"""What the `scriptorium` command needs of its process: standard streams, proxies, the import path."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from actors.process.import_path import leave_working_directory
from actors.redaction import redacted

LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Output:
    """Standard output of a command.

    Attributes:
        problem: why something that was written is lost, other than that nobody reads any more; None: nothing
            is.
    """

    def __init__(self) -> None:
        self.problem: str | None = None

    def check(self) -> str | None:
        """Write what is buffered; returns `problem`."""
        sys.stdout.flush()
        return self.problem

    def exit_code(self, code: int, *, keep: bool) -> int:
        """The exit code of a command: 1 where what it should print could not be written, unless `keep`.

        The results of a run are in OUT, so its exit code does not depend on what is printed.
        """
        problem = self.check()
        if problem is None:
            return code
        print(f"scriptorium: standard output cannot be written: {problem}", file=sys.stderr, flush=True)
        return code or (0 if keep else 1)

    def fail(self, error: OSError) -> None:
        """Note that writing failed."""
        self.problem = self.problem or error.strerror or str(error)


@contextmanager
def prepared_process() -> Iterator[Output]:
    """Make this process fit to run a command inside a `with` block.

    - Modules are never imported from the working directory.
    - Nothing on this machine is reached through a proxy.
    - Output that nobody reads any more (`| head`, a closed stream) is dropped: it ends no run and changes no
      exit code. So is output that cannot be written (a full disk); `Output` knows whether any was.
    - Messages have no passwords or queries of addresses.
    - Warnings of libraries, which are for developers, are not shown, and never become errors.
    """
    leave_working_directory()
    bypass_proxies()
    # A log file whose encoding lacks a character is no reason to print a traceback.
    logging.raiseExceptions = bool(os.environ.get("SCRIPTORIUM_TRACEBACK"))
    _open_closed_streams()
    output = Output()
    streams = sys.stdout, sys.stderr
    sys.stdout = _StreamGuard(streams[0], failed=output.fail)
    sys.stderr = _StreamGuard(streams[1], redacted)
    try:
        with _without_warnings():
            yield output
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        sys.stdout, sys.stderr = streams


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Ignore warnings in a `with` block, also in processes that are started in it."""
    if os.environ.get("SCRIPTORIUM_TRACEBACK"):
        yield
        return
    if "PYTHONWARNINGS" in os.environ:
        os.environ["PYTHONWARNINGS"] = "ignore"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def bypass_proxies() -> None:
    """Add loopback to `no_proxy` where a proxy is set, for this process and all that it starts.

    Ray's connections never use one, but gRPC reads the address and prints if it is wrong; an empty
    `grpc_proxy` prevents that.
    """
    if not any(os.environ.get(name) for name in os.environ if name.lower().endswith("_proxy")):
        return
    os.environ["grpc_proxy"] = ""  # noqa: SIM112  # gRPC reads no other
    both = ("no_proxy", "NO_PROXY")
    hosts = [host.strip() for name in both for host in os.environ.get(name, "").split(",") if host.strip()]
    if "*" not in hosts:
        hosts = list(dict.fromkeys([*hosts, *LOOPBACK]))
        os.environ.update(dict.fromkeys(both, ",".join(hosts)))


class _StreamGuard:
    """A text stream that drops what is written once that fails, and escapes what its encoding lacks.

    Args:
        stream: the real one.
        edit: applied to every text.
        failed: called with the first error, unless it is that the reader is gone.
    """

    def __init__(
        self,
        stream: TextIO,
        edit: Callable[[str], str] = str,
        failed: Callable[[OSError], None] = lambda error: None,
    ) -> None:
        self._stream, self._edit, self._failed = stream, edit, failed
        with suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]

    def write(self, text: str) -> int:
        """Write `text`; returns its length, also if it is lost."""
        try:
            self._stream.write(self._edit(text))
        except OSError as error:
            self._drop(error)
        return len(text)

    def flush(self) -> None:
        """Flush what was written."""
        try:
            self._stream.flush()
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        """Point the stream's file descriptor at nothing: what is buffered goes there too."""
        if not isinstance(error, BrokenPipeError):
            self._failed(error)
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
