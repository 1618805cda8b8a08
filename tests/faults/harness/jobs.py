"""The command as its own process, to be watched, killed and ended; and archives of noise as its input."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from tests.faults.harness import checker

ROOT = Path(__file__).resolve().parents[3]
STARTED: list[Job] = []
"""Jobs of the test under way: what is left of them is ended after it, see conftest.py."""

FAKE = ("asr.backend=fake", "aligner.backend=fake")


class Job:
    """`scriptorium transcribe MANIFEST OUT` (or another command) in its own process.

    All processes that it starts, Ray's too, carry `mark` in their environment:
    `checker.nobody_left(job.mark)` looks
    for them.

    Args:
        arguments: of the command line.
        settings: for `--set`.
        environment: variables on top of this process's.
        log: file for stdout and stderr.
    """

    def __init__(
        self,
        *arguments: Any,
        settings: tuple[str, ...] = FAKE,
        environment: dict[str, str] | None = None,
        log: Path,
    ) -> None:
        self.mark = f"SCRIPTORIUM_FAULT_MARK={uuid.uuid4().hex}"
        self.log = log
        name, value = self.mark.split("=")
        options = [part for setting in settings for part in ("--set", setting)]
        with open(log, "ab") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pipelines", *map(str, arguments), *options],
                cwd=ROOT,
                env={**os.environ, **(environment or {}), name: value},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                # A signal for the job must not reach the test process.
                start_new_session=True,
                preexec_fn=_heed_interrupts,
            )
        STARTED.append(self)

    def wait(self, timeout: float = 300) -> int:
        """The exit code. A run that takes longer than `timeout` seconds fails the test and prints its last
        output.
        """
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"not finished after {timeout:g} s; it said: {self.said()[-2000:]}"
            ) from None

    def kill(self) -> None:
        """Kill the driver alone with SIGKILL."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        """Kill the job and every process it started, so that a failed test does not slow down later ones."""
        if self.process.poll() is None:
            self.kill()
        for pid in checker.marked(self.mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def processes(self, *titles: str) -> dict[int, str]:
        """Its living processes whose command line contains one of `titles` (Ray names its workers
        `ray::Stage`), without the driver.
        """
        alive = checker.marked(self.mark)
        return {
            pid: line
            for pid, line in alive.items()
            if pid != self.process.pid and any(title in line for title in titles)
        }

    def said(self) -> str:
        """The job's output."""
        return self.log.read_text(errors="replace")


def _heed_interrupts() -> None:
    """Restore the default SIGINT handler: a shell ignores Ctrl-C for background processes, and the job would
    inherit that.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def archive(folder: Path, count: int, seconds: float = 3.0, seed: int = 7) -> tuple[Path, list[str]]:
    """`count` recordings of noise of increasing length, so that the fake model's texts differ; returns
    manifest and ids.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        noise = generator.normal(0, 0.1, round(16_000 * (seconds + number / 100))).astype(np.float32)
        soundfile.write(folder / f"{number:05d}.wav", noise, 16_000)
        rows.append({"id": f"r{number:05d}", "audio": f"{number:05d}.wav"})
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return manifest, [row["id"] for row in rows]


def committed(out: Path) -> int:
    """The number of committed tasks of a local run."""
    return len([path for path in (out / "checkpoint").glob("*.parquet") if ".pending" not in path.name])
