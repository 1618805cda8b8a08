"""Feeding: the busy share of fake GPUs as slow and as fast as measured ones, and the cores that they need."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from actors.config import AudioConfig, SegmenterConfig
from actors.decoder import decode_shard
from tests.benchmarks.workloads import archive, cpu
from tests.benchmarks.workloads.rows import Row

LIMIT_SECONDS = 540
EXPECTED_MINUTES = 5
# Seconds of fake GPU work in a run.
SECONDS = 30
AIM = ">= 95"


@dataclass(frozen=True)
class Case:
    """A fake GPU, and what it is fed with.

    Attributes:
        speed: times real time.
        format: of the recordings.
        gpu_node: divide the job as on a node with a GPU (`ray_data.blocks_for`); otherwise as on CPUs.
    """

    speed: int
    format: str
    gpu_node: bool = False

    @property
    def name(self) -> str:
        """The case as a row of the results."""
        blocks = ", blocks of a GPU node" if self.gpu_node else ""
        return f"GPU of {self.speed:,} x real time fed with {self.format}{blocks}: busy"


# Whole recognisers on an H200, 30 s segments: see RESULTS.md.
MEASURED = {"1.7B": 5498, "0.6B": 7840}
# Two cores should suffice for the first ones.
CASES = (
    Case(300, "mp3"),
    Case(300, "opus"),
    Case(1000, "wav 16 kHz"),
    Case(3000, "wav 16 kHz"),
    *(Case(speed, "wav 16 kHz", gpu_node=True) for speed in MEASURED.values()),
)


def measure(full: bool) -> Iterator[Row]:
    """One run each, with half a minute of GPU work; the steady state after a third of the calls counts."""
    formats = {format.name: format for format in archive.FORMATS}
    with tempfile.TemporaryDirectory() as folder:
        files = {file.format.name: file for file in archive.build(Path(folder), 600, 0)}
        cores = os.cpu_count() or 1
        decoding = {name: _decoding(files[name]) for name in formats}
        for case in CASES:
            hours = SECONDS * (3 if full else 1) * case.speed / 3600
            calls = _run(Path(folder), files[case.format], case, hours)
            whole, steady, gap = _busy(calls), _busy(calls[len(calls) // 3 :]), _gap(calls)
            needed = case.speed * decoding[case.format] / 3600
            enough = needed < 0.7 * cores
            note = (
                f"decoding alone needs {needed:.1f} of {cores} cores at load {os.getloadavg()[0]:.0f}; "
                f"{100 * whole:.0f} % with the start, when "
                f"decoders are not ahead yet; {len(calls)} calls, {1000 * gap:.0f} ms between two of them "
                "(median)"
            )
            yield Row(
                case.name,
                100 * steady,
                "%",
                AIM if enough else "",
                note,
            )
        for name in formats:
            note = f"{decoding[name]:.1f} core-s an audio hour for one decoding process that is not disturbed"
            yield Row(
                f"cores for a GPU of 1,000 x real time, {name}",
                1000 * decoding[name] / 3600,
                "cores",
                note=note,
            )


def _decoding(file: archive.File) -> float:
    """Core-seconds to fetch, decode, resample and cut one audio hour here; the better of two runs."""
    row = {"shard_id": "", "audio": str(file.path), "start": 0.0, "end": None, "duration": file.seconds}
    cpu_seconds = []
    for _ in range(2):
        began = time.process_time()
        decode_shard(row, AudioConfig(), SegmenterConfig(backend="energy"))
        cpu_seconds.append(time.process_time() - began)
    return min(cpu_seconds) * 3600 / file.seconds


def _run(folder: Path, file: archive.File, case: Case, hours: float) -> list[tuple[float, float]]:
    """The job on copies of one recording, `hours` in all: start and end of each model call."""
    calls = folder / f"calls-{time.monotonic_ns()}"
    calls.mkdir()
    manifest, out = folder / "manifest.jsonl", folder / f"out-{time.monotonic_ns()}"
    count = max(1, round(hours * 3600 / file.seconds))
    manifest.write_text(
        "".join(json.dumps({"audio": str(file.path), "id": str(number)}) + "\n" for number in range(count))
    )
    settings = [
        "asr.backend=fake",
        f"asr.model=fake:{1 / case.speed}",
        "aligner.backend=fake",
        "aligner.model=fake",
        # Ray believes it: the fake models use none.
        f"cluster.num_gpus={int(case.gpu_node)}",
    ]
    given = [part for one in settings for part in ("--set", one)]
    environment = {"SCRIPTORIUM_FAKE_CALLS": str(calls)}
    usage = cpu.measure(
        [sys.executable, "-m", "pipelines", "transcribe", str(manifest), str(out), *given], environment
    )
    if usage.code != 0:
        raise RuntimeError(f"the job ended with exit code {usage.code}:\n{usage.output[-3000:]}")
    logs = [
        [(float(begin), float(end)) for begin, end in map(str.split, log.read_text().splitlines())]
        for log in calls.iterdir()
    ]
    # The aligner, which costs nothing, calls from another process; the recogniser's process has the longest
    # calls.
    return max(logs, key=lambda log: sum(end - begin for begin, end in log))


def _busy(calls: list[tuple[float, float]]) -> float:
    """Share of the time between the first and the last call in which a call was running."""
    return sum(end - begin for begin, end in calls) / (calls[-1][1] - calls[0][0])


def _gap(calls: list[tuple[float, float]]) -> float:
    """Median seconds between one call and the next."""
    return median(after[0] - before[1] for before, after in pairwise(calls))
