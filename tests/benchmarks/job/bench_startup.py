"""Start-up: the cost of `scriptorium --help`, and the time of a one-file job to its first transcript, by
part.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from tests.benchmarks.workloads import archive, cpu
from tests.benchmarks.workloads.rows import Row

LIMIT_SECONDS = 300
EXPECTED_MINUTES = 2
ROOT = Path(__file__).resolve().parents[3]
DEMO = ROOT / "configs" / "demo.yaml"
HELP_RUNS, JOB_RUNS = 9, 3


def measure(full: bool) -> Iterator[Row]:
    """Wall seconds from a warm disk: everything has been read once before."""
    helps = [_help() for _ in range(HELP_RUNS + 1)][1:]
    bare = [_cpu_seconds([sys.executable, "-c", "pass"]) for _ in range(HELP_RUNS + 1)][1:]
    wall = median(seconds for seconds, _ in helps)
    note = (
        f"median of {HELP_RUNS}; {median(seconds for _, seconds in helps):.2f} CPU-s, "
        f"of which Python itself {median(bare):.2f}"
    )
    yield Row("scriptorium --help", wall, "s", "< 0.3", note)
    with tempfile.TemporaryDirectory() as folder:
        clip = archive.build(Path(folder), 0, 1, archive.FORMATS[:1])[0]
        for name, settings in (("models that cost nothing", _FAKE), ("demo models", ["--config", str(DEMO)])):
            runs = sorted(
                (_job(Path(folder), clip, settings) for _ in range(JOB_RUNS)), key=lambda run: run[0]
            )
            first, whole, usage = runs[len(runs) // 2]
            moments = ", ".join(
                f"{role} {at:.1f}" for role, at in sorted(usage.moments.items(), key=lambda item: item[1])
            )
            note = f"median of {JOB_RUNS}; {usage.total:.1f} CPU-s; first seen at: {moments}"
            yield Row(f"one-file job, {name}: first transcript", first, "s", "< 15", note)
            cpu_seconds = ", ".join(
                f"{role} {seconds:.1f}"
                for role, seconds in sorted(usage.roles.items(), key=lambda item: -item[1])
            )
            yield Row(f"one-file job, {name}: end", whole, "s", note=f"CPU-s: {cpu_seconds}")


_FAKE = [
    part
    for one in ("asr.backend=fake", "aligner.backend=fake", "asr.model=fake", "aligner.model=fake")
    for part in ("--set", one)
]


def _help() -> tuple[float, float]:
    began = time.perf_counter()
    cpu_seconds = _cpu_seconds(
        [sys.executable, "-c", "import sys; from pipelines.cli import main; sys.exit(main(['--help']))"]
    )
    return time.perf_counter() - began, cpu_seconds


def _cpu_seconds(command: list[str]) -> float:
    before = cpu.children()
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return cpu.children() - before


def _job(folder: Path, clip: archive.File, settings: list[str]) -> tuple[float, float, cpu.Usage]:
    """Seconds to the first transcript on disk and to the end, and the CPU seconds."""
    out = folder / f"out-{time.monotonic_ns()}"
    manifest = folder / "manifest.jsonl"
    manifest.write_text(json.dumps({"audio": str(clip.path)}) + "\n")
    began = time.monotonic()
    seen: list[float] = []

    def watch() -> None:
        while not seen and time.monotonic() - began < 200:
            if any((out / "transcripts").glob("*.parquet")):
                seen.append(time.monotonic() - began)
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    usage = cpu.measure([sys.executable, "-m", "pipelines", "transcribe", str(manifest), str(out), *settings])
    watcher.join()
    if usage.code != 0 or not seen:
        raise RuntimeError(f"the job ended with exit code {usage.code}:\n{usage.output[-3000:]}")
    return seen[0], usage.wall, usage
