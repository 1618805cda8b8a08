"""vLLM's own server, as `vllm serve` starts it, on loopback for the length of a `with` block."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from actors.backends.vllm.backend import ENVIRONMENT

START = 240.0  # seconds
_ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"}


@contextmanager
def vllm_serving(model: Path, name: str) -> Iterator[str]:
    """Serve a recogniser under a name; yields the server's address, with /v1."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Not `vllm serve`: it asks for the version of a package `vllm`, and the CPU build has another name.
    arguments = [
        "--model",
        str(model),
        "--served-model-name",
        name,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--dtype",
        "float32",
    ]
    arguments += [
        "--max-model-len",
        "2048",
        "--max-num-seqs",
        "8",
        "--enforce-eager",
        "--no-enable-prefix-caching",
    ]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *arguments],
            env={**os.environ, **ENVIRONMENT, **_ENVIRONMENT},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            _wait(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server and its engine, a process of its own in the same group."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(15)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _wait(address: str, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    began = time.monotonic()
    while time.monotonic() - began < START:
        if process.poll() is not None:
            log.seek(0)
            raise AssertionError(f"vllm serve ended: {log.read().decode()[-3000:]}")
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                address, timeout=5
            ) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"vllm serve did not start within {START:g} s")
