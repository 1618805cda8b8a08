"""Calls in a child process, so that a crash, a hang or a memory blow-up in a C library costs one call and not the worker.

`Child.call("module:function", ...)` runs the function in a persistent child and returns its result. The child is a fresh interpreter (a fork of a
threaded process may deadlock), is limited in memory and in the size of files, dies with its parent, and is replaced when it had to be killed.
Messages are pickles over pipes; large buffers of an answer (`pickle.PickleBuffer`, arrays) travel behind it as they are, not copied on either
side.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from actors.errors import RowError, ScriptoriumError

_START = 120.0  # seconds that an interpreter may take to start on a busy machine
_LENGTH = struct.Struct("<Q")
_PR_SET_PDEATHSIG = 1
_PIPE_BYTES = 1 << 20
_POLL_SECONDS = 86_400.0  # at a time: `poll` counts milliseconds in a C int, which is 24 days


class ChildClosed(ScriptoriumError):
    """Nobody wants the answer any more: the child that was to give it has been closed."""


class Child:
    """A persistent child process that runs functions by name.

    Args:
        max_memory: GiB that the child may take on top of what its interpreter has at the start.
        threaded: the functions start threads: few heaps for all of them, because every heap reserves 64 MiB of the child's memory at once.
    """

    def __init__(self, max_memory: float, threaded: bool = False) -> None:
        self._max_memory, self._threaded = max_memory, threaded
        self._process: subprocess.Popen[bytes] | None = None
        self._noise: Any = None
        self._lock = threading.Lock()
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The child's process id; None before the first call and after a kill."""
        return None if self._process is None else self._process.pid

    def call(self, function: str, *arguments: Any, timeout: float) -> Any:
        """Run `module:function` in the child.

        Raises:
            RowError: decode_timeout, decoder_crashed, decode_out_of_memory.
            ChildClosed: the child was closed, before or meanwhile.
            Exception: what the function raised, where it can be pickled, else a RowError with its text.
        """
        with self._lock:
            self._started()
            assert self._process is not None
            try:
                self._send((function, arguments))
                kind, answer = self._receive(time.monotonic() + timeout)
            except TimeoutError:
                self.kill()
                raise RowError(f"not finished after {timeout:g} s", "decode_timeout") from None
            except (EOFError, BrokenPipeError, ConnectionResetError):
                died = self._post_mortem()
                if self._closed:
                    raise ChildClosed(died) from None
                raise RowError(died, "decoder_crashed") from None
            except BaseException:
                self.kill()  # half a message is left in the pipe
                raise
            if kind == "memory":
                self.kill()  # its heap may be full of what was left behind
                raise RowError(
                    f"decoding needed more than {self._max_memory:g} GiB: {answer}", "decode_out_of_memory"
                )
            if kind == "error":
                raise answer
            return answer

    def kill(self) -> None:
        """End the child at once; the next call starts another."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        if self._noise is not None:
            self._noise.close()

    def close(self) -> None:
        """End the child for good, also from another thread than the one that waits for an answer: its call ends with ChildClosed."""
        self._closed = True
        process = self._process
        if process is not None:
            process.kill()  # whoever waits for its answer sees the pipe end, and lets go of the lock
        with self._lock:
            self.kill()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.kill()

    def _started(self) -> None:
        if self._closed:
            raise ChildClosed("the child was closed")
        if self._process is not None and self._process.poll() is None:
            self._noise.seek(0)
            self._noise.truncate()
            return
        self.kill()
        root = str(Path(__file__).resolve().parents[2])
        paths = [
            root,
            *(part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part and part != root),
        ]
        self._noise = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        self._process = subprocess.Popen(
            [sys.executable, "-m", "actors.process.isolation", str(os.getpid()), repr(self._max_memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._noise,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(paths),
                **({"MALLOC_ARENA_MAX": "4"} if self._threaded else {}),
            },
            bufsize=0,
        )
        _widen(self._process.stdout)
        try:
            if self._closed:  # just now: whoever closed it has not seen this process
                self._process.kill()
            self._receive(time.monotonic() + _START)
        except (EOFError, TimeoutError):
            if self._closed:
                self.kill()
                raise ChildClosed("the child was closed while it started") from None
            raise RowError(
                f"the decoding process does not start: {self._post_mortem()}", "decoder_crashed"
            ) from None

    def _send(self, message: Any) -> None:
        assert self._process is not None and self._process.stdin is not None
        data = pickle.dumps(message, protocol=5)
        view = memoryview(_LENGTH.pack(len(data)) + data)
        while view:
            view = view[os.write(self._process.stdin.fileno(), view) :]

    def _receive(self, deadline: float) -> tuple[str, Any]:
        assert self._process is not None and self._process.stdout is not None
        stream = self._process.stdout
        pieces = _LENGTH.unpack(_read_exactly(stream, _LENGTH.size, deadline))[0]
        lengths = struct.unpack(f"<{pieces}Q", _read_exactly(stream, pieces * _LENGTH.size, deadline))
        message, *buffers = [_read_exactly(stream, length, deadline) for length in lengths]
        answer: tuple[str, Any] = pickle.loads(message, buffers=buffers)
        return answer

    def _post_mortem(self) -> str:
        """How the child died, and the last it said. Clears it away."""
        process, noise = self._process, self._noise
        if process is None:
            return "the process was gone"
        try:
            code = process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = 0
        noise.seek(0, os.SEEK_END)
        noise.seek(max(0, noise.tell() - 2000))
        said = noise.read().decode("utf-8", "replace").strip().splitlines()
        self.kill()
        how = f"exit code {code}"
        if code < 0:
            how = f"signal {-code} ({signal.strsignal(-code) or 'unknown'})"
        if code == -signal.SIGKILL:
            how += ", often the kernel's answer to too little memory"
        return f"the decoding process died: {how}" + (f"; it said: {said[0][:160]}" if said else "")


def _read_exactly(stream: Any, count: int, deadline: float) -> memoryview:
    data = np.empty(count, np.uint8).data  # not zeroed first
    view = data
    poll = select.poll()
    poll.register(stream.fileno(), select.POLLIN | select.POLLHUP)
    while view:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if not poll.poll(min(left, _POLL_SECONDS) * 1000):
            continue
        got = stream.readinto(view)
        if not got:
            raise EOFError
        view = view[got:]
    return data


def _widen(stream: Any) -> None:
    """Ask for a pipe that holds a megabyte instead of 64 KiB: fewer turns for tens of megabytes of samples."""
    import fcntl

    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def main(parent: int, max_memory: float) -> None:
    """The child's side: serve calls until the parent closes the pipe."""
    import faulthandler

    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is the parent's to answer
    _die_with(parent)
    # What a library prints must not end up between the messages.
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    quiet = os.open(os.devnull, os.O_RDWR)
    os.dup2(quiet, 0)
    os.dup2(2, 1)
    _limit_memory(max_memory)
    _limit_files()
    _answer(answers, ("ready", None))
    while True:
        head = requests.read(_LENGTH.size)
        if len(head) < _LENGTH.size:
            return
        function, arguments = pickle.loads(requests.read(_LENGTH.unpack(head)[0]))
        _answer(answers, _outcome(function, arguments))


def _outcome(function: str, arguments: tuple[Any, ...]) -> tuple[str, Any]:
    try:
        module, name = function.split(":")
        return "result", getattr(importlib.import_module(module), name)(*arguments)
    except MemoryError as error:
        return "memory", str(error)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            return "error", ScriptoriumError(f"{type(error).__name__}: {error}")
        return "error", error


def _answer(stream: BinaryIO, message: tuple[str, Any]) -> None:
    buffers: list[pickle.PickleBuffer] = []
    try:
        data = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    except MemoryError as error:
        data, buffers = pickle.dumps(("memory", str(error))), []
    pieces: list[bytes | memoryview] = [data, *(buffer.raw() for buffer in buffers)]
    stream.write(struct.pack(f"<{1 + len(pieces)}Q", len(pieces), *(len(piece) for piece in pieces)))
    for piece in pieces:
        stream.write(piece)
    stream.flush()


def _die_with(parent: int) -> None:
    """Have the kernel end this process when its parent's thread ends; elsewhere the closed pipe does, after the current call."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _limit_memory(max_memory: float) -> None:
    try:
        import resource
    except ImportError:  # not on this platform
        return
    pages = 0
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = int(max_memory * 2**30) + pages * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(
            resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard)
        )


def _limit_files() -> None:
    """No file larger than the largest that we mean to write: whatever a library prints or stores, it does not fill the disk."""
    try:
        import resource
    except ImportError:
        return
    from actors.audio.sources import LARGEST_COPY

    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(
            resource.RLIMIT_FSIZE,
            (LARGEST_COPY if hard == resource.RLIM_INFINITY else min(LARGEST_COPY, hard), hard),
        )


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
