"""A running `scriptorium serve` with the demo models, its processes' CPU time, and clients for it."""

from __future__ import annotations

import base64
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from actors.audio.decoding import decode_span
from actors.audio.sources import open_audio
from actors.audio.timeline import SampleReader
from actors.records import SAMPLING_RATE

ROOT = Path(__file__).resolve().parents[3]
DEMO = ROOT / "configs/demo"
CONFIG = str(ROOT / "configs/demo.yaml")
# The long demo recording, English.
LONG = "long-meeting"
# Roles of processes; the rest is Ray's.
OURS = ("front", "decoding", "recogniser", "aligner")
_MIB = 1 << 20


class Server:
    """A server and its processes.

    Args:
        url: where it listens.
        process: the one that was started.
    """

    def __init__(self, url: str, process: psutil.Process) -> None:
        self.url, self._process = url, process

    def _processes(self) -> Iterator[tuple[str, psutil.Process]]:
        yield "front", self._process
        for process in self._process.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                title = " ".join(process.cmdline())
                role = next((role for word, role in _WORDS.items() if word in title), "Ray")
                yield role, process

    def cpu_seconds(self) -> dict[str, float]:
        """CPU seconds by role since the start."""
        found: dict[str, float] = defaultdict(float)
        for role, process in self._processes():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                found[role] += times.user + times.system
        return found

    def resident(self) -> dict[str, float]:
        """MiB by role."""
        found: dict[str, float] = defaultdict(float)
        for role, process in self._processes():
            with contextlib.suppress(psutil.Error):
                found[role] += process.memory_info().rss / _MIB
        return found


_WORDS = {"actors.process.isolation": "decoding", "ecogniser": "recogniser", "ligner": "aligner"}


@contextlib.contextmanager
def running(*settings: str) -> Iterator[Server]:
    """A server for the life of a `with` block.

    Args:
        settings: `section.name=value`.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        options = [part for setting in ("serve.port=0", *settings) for part in ("--set", setting)]
        with out.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "pipelines", "serve", "--config", CONFIG, *options],
                stdout=file,
                cwd=ROOT,
            )
        try:
            while not out.read_bytes().count(b"\n"):
                if process.poll() is not None:
                    raise RuntimeError("the server does not start")
                time.sleep(0.2)
            yield Server(json.loads(out.read_text().splitlines()[0])["url"], psutil.Process(process.pid))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(120)


def recordings() -> list[Path]:
    """The demo's files, without the broken one."""
    return sorted(path for path in (DEMO / "audio").iterdir() if path.stem != "broken")


def meeting() -> tuple[np.ndarray, str]:
    """The long demo recording, int16 at 16 kHz, and its text."""
    with open_audio(str(DEMO / f"audio/{LONG}.mp3")) as file:
        samples: np.ndarray = decode_span(SampleReader(file), 0, None).samples[0]
    rows = [json.loads(line) for line in (DEMO / "manifest.jsonl").read_text().splitlines()]
    return samples, next(row["text"] for row in rows if row["id"] == LONG)


def setting() -> dict[str, Any]:
    """The first event of a realtime client: 16 kHz, English."""
    source = {"format": {"type": "audio/pcm", "rate": SAMPLING_RATE}, "transcription": {"language": "en"}}
    return {"type": "session.update", "session": {"type": "transcription", "audio": {"input": source}}}


def append(samples: np.ndarray) -> dict[str, Any]:
    """More audio of a realtime client."""
    return {"type": "input_audio_buffer.append", "audio": base64.b64encode(samples.tobytes()).decode()}
