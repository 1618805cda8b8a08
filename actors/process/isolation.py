"""Calls in a child process: a crash, hang or memory blow-up in a C library costs one call, not the worker.

`Child.call("module:function", ...)` runs the function in a persistent child and returns its result. The child
is a fresh interpreter, because a fork of a threaded process may deadlock. It is limited in memory and in the
size of files, dies with its parent, and is replaced after it had to be killed. `actors.process.messages` has
what goes through the pipes.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import Any

from actors.errors import FatalError, RowError, ScriptoriumError
from actors.process import messages
from actors.process.import_path import child_command, child_environment, import_later
from actors.process.limits import die_with_parent, limit_file_size, limit_memory

# Seconds that an interpreter may take to start on a busy machine.
_START_TIMEOUT = 120.0
_IMPORT_ERRORS = ("ModuleNotFoundError:", "ImportError:", "SyntaxError:", "IndentationError:")
# Bytes of the child's stderr that are read for a message.
_STDERR_BYTES = 2000


class ChildClosed(ScriptoriumError):
    """The child was closed before it answered."""


class Child:
    """A persistent child process that runs functions by name.

    Args:
        max_memory: GiB that the child may use on top of what its interpreter uses at the start.
        threaded: set for functions that start threads. They then share a few malloc arenas, because each
            arena reserves 64 MiB of the child's memory at once.
        imports: modules that make fsspec know a kind of address. The child imports them before it opens the
            first address that is no local path.
    """

    def __init__(self, max_memory: float, threaded: bool = False, imports: Sequence[str] = ()) -> None:
        self._max_memory, self._threaded, self._imports = max_memory, threaded, tuple(imports)
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: Any = None
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
            FatalError: the child cannot be started, or a module cannot be imported there: no input is to
                blame.
            ChildClosed: the child was closed before or during the call.
            Exception: what the function raised; a ScriptoriumError with its text where it cannot be pickled.
        """
        with self._lock:
            self._ensure_started()
            assert self._process is not None and self._process.stdin and self._process.stdout
            try:
                messages.send_call(self._process.stdin, (function, arguments))
                kind, answer = messages.receive_answer(self._process.stdout, time.monotonic() + timeout)
            except TimeoutError:
                self.kill()
                raise RowError(f"not finished after {timeout:g} s", "decode_timeout") from None
            except (EOFError, BrokenPipeError, ConnectionResetError):
                message = self._discard_dead()
                if self._closed:
                    raise ChildClosed(message) from None
                raise RowError(message, "decoder_crashed") from None
            except BaseException:
                # Half a message may be left in the pipe.
                self.kill()
                raise
            if kind == "memory":
                # The child's heap may still be full.
                self.kill()
                raise RowError(
                    f"decoding needed more than {self._max_memory:g} GiB: {answer}", "decode_out_of_memory"
                )
            if kind == "import":
                raise FatalError(answer)
            if kind == "error":
                raise answer
            return answer

    def kill(self) -> None:
        """Kill the child at once; the next call starts another one."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        if self._stderr is not None:
            self._stderr.close()

    def close(self) -> None:
        """Kill the child for good, from any thread. A call that waits for an answer raises ChildClosed."""
        self._closed = True
        process = self._process
        if process is not None:
            # The thread that waits for the answer sees the end of the pipe and releases the lock.
            process.kill()
        with self._lock:
            self.kill()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.kill()

    def _ensure_started(self) -> None:
        if self._closed:
            raise ChildClosed("the child was closed")
        if self._process is not None and self._process.poll() is None:
            self._stderr.seek(0)
            self._stderr.truncate()
            return
        self.kill()
        environment = child_environment()
        # A call owns one CPU. The threads of numpy's linear algebra would wait for each other busily.
        environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        if self._threaded:
            environment["MALLOC_ARENA_MAX"] = "4"
        command = child_command(
            "actors.process.isolation", str(os.getpid()), repr(self._max_memory), *self._imports
        )
        try:
            self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=environment,
                bufsize=0,
            )
        except OSError as error:
            raise FatalError(f"the decoding process cannot be started: {error}") from None
        assert self._process.stdout is not None
        messages.enlarge_pipe(self._process.stdout)
        try:
            # `close` may have run just now, before there was a process to kill.
            if self._closed:
                self._process.kill()
            messages.receive_answer(self._process.stdout, time.monotonic() + _START_TIMEOUT)
        except (EOFError, TimeoutError):
            if self._closed:
                self.kill()
                raise ChildClosed("the child was closed while it started") from None
            if cause := self._import_error():
                self.kill()
                raise FatalError(f"the decoding process does not start: {cause}") from None
            raise RowError(
                f"the decoding process does not start: {self._discard_dead()}", "decoder_crashed"
            ) from None

    def _import_error(self) -> str | None:
        """The last line of the child's stderr if it is that of a failed import."""
        self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, self._stderr.tell() - _STDERR_BYTES))
        lines = self._stderr.read().decode("utf-8", "replace").strip().splitlines()
        is_import = bool(lines) and lines[-1].startswith(_IMPORT_ERRORS)
        return lines[-1][:500] if is_import else None

    def _discard_dead(self) -> str:
        """Clean up after a child that died; returns how it died and the first line of its stderr's end."""
        process, stderr = self._process, self._stderr
        if process is None:
            return "the process was gone"
        try:
            code = process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = 0
        stderr.seek(0, os.SEEK_END)
        stderr.seek(max(0, stderr.tell() - _STDERR_BYTES))
        lines = stderr.read().decode("utf-8", "replace").strip().splitlines()
        self.kill()
        cause = f"exit code {code}"
        if code < 0:
            cause = f"signal {-code} ({signal.strsignal(-code) or 'unknown'})"
        if code == -signal.SIGKILL:
            cause += ", often sent by the kernel when memory runs out"
        return f"the decoding process died: {cause}" + (f"; its stderr: {lines[0][:160]}" if lines else "")


def main(parent: int, max_memory: float, imports: Sequence[str] = ()) -> None:
    """The child's main loop: runs calls until the parent closes the pipe.

    Args:
        parent: process id of the parent.
        max_memory: GiB, see `Child`.
        imports: see `Child`.
    """
    import faulthandler

    faulthandler.enable()
    # A terminal sends Ctrl-C to both processes; the parent handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent)
    # What a library prints must not get between the messages: stdout becomes stderr.
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    devnull = os.open(os.devnull, os.O_RDWR)
    os.dup2(devnull, 0)
    os.dup2(2, 1)
    import_later(imports)
    limit_memory(max_memory)
    limit_file_size()
    messages.send_answer(answers, ("ready", None))
    while (call := messages.receive_call(requests)) is not None:
        messages.send_answer(answers, _run(*call))


def _run(function: str, arguments: tuple[Any, ...]) -> tuple[str, Any]:
    try:
        module, name = function.split(":")
        return "result", getattr(importlib.import_module(module), name)(*arguments)
    except MemoryError as error:
        return "memory", str(error)
    except (ImportError, SyntaxError) as error:
        return "import", f"{type(error).__name__}: {error}"
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            return "error", ScriptoriumError(f"{type(error).__name__}: {error}")
        return "error", error


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
