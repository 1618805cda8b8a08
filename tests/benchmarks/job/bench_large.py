"""The largest run: 100,000 recordings through the whole job with free models: speed, bottleneck, and cost of
the driver.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.benchmarks.job.bench_driver import noise
from tests.benchmarks.workloads import cpu
from tests.benchmarks.workloads.rows import Row

LIMIT_SECONDS = 3600
BY_NAME = True
SIZE, FULL_SIZE = 2_000, 100_000
# Distinct recordings, each under many names.
CLIPS = 500
SETTINGS = [
    "asr.backend=fake",
    "asr.model=fake",
    "aligner.backend=fake",
    "aligner.model=fake",
    "plan.trust_durations=true",
]


def measure(full: bool) -> Iterator[Row]:
    """One run, its output, and the same command again. SCRIPTORIUM_LARGE sets the number of recordings."""
    size = int(os.environ.get("SCRIPTORIUM_LARGE", FULL_SIZE if full else SIZE))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest, out = _archive(folder, size), folder / "out"
        options = [part for setting in SETTINGS for part in ("--set", setting)]
        command = [sys.executable, "-m", "pipelines", "transcribe", str(manifest), str(out), *options]
        usage, times = cpu.measure(command, timeout=LIMIT_SECONDS - 300), 1
        while (
            usage.code == 1 and times < 3
            # A machine that stood still has lost its lease; the same command resumes.
        ):
            more, times = cpu.measure(command, timeout=LIMIT_SECONDS - 300), times + 1
            more.wall += usage.wall
            more.roles = {
                role: usage.roles.get(role, 0.0) + more.roles.get(role, 0.0)
                for role in {**usage.roles, **more.roles}
            }
            usage = more
        if usage.code != 0:
            raise RuntimeError(f"the job ended with exit code {usage.code}:\n{usage.output[-3000:]}")
        largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        _check(out, size)
        files = {
            part: len([*(out / part).glob("*.parquet")])
            for part in ("plan", "shards", "checkpoint", "transcripts")
        }
        what = f"{size:,} recordings of 1 s"
        yield Row(
            f"{what}: the whole job",
            usage.wall,
            "s",
            note=f"{times} times the command, {usage.total:.0f} core-s: "
            + ", ".join(
                f"{role} {cpu_seconds:.0f}"
                for role, cpu_seconds in sorted(usage.roles.items(), key=lambda x: -x[1])
            ),
        )
        yield Row(f"{what}: done by the clock", size / usage.wall, "a s", note=f"files: {files}")
        yield Row(
            f"{what}: for each",
            1000 * usage.total / size,
            "core-ms",
            note=f"driver {1000 * usage.roles['driver'] / size:.2f}",
        )
        yield Row(
            f"{what}: memory of the driver at most",
            largest,
            "GiB",
            "<= 2",
            note="the largest process that it waited for included",
        )
        again = cpu.measure(command, timeout=300)
        yield Row(
            f"{what}: the same command again",
            again.wall,
            "s",
            note=f"nothing to do; {again.total:.1f} core-s",
        )


def _archive(folder: Path, size: int) -> Path:
    """A manifest of `count` files of one second: distinct names for CLIPS distinct files."""
    for clip in range(CLIPS):
        noise(folder / f"clip-{clip:03d}.wav", 1, seed=clip)
    manifest = folder / "manifest.jsonl"
    with open(manifest, "w") as lines:
        for row in range(size):
            part = folder / "audio" / f"{row // 1000:04d}"
            if row % 1000 == 0:
                part.mkdir(parents=True)
            os.link(folder / f"clip-{row % CLIPS:03d}.wav", part / f"{row:07d}.wav")
            lines.write(
                json.dumps(
                    {"audio": f"audio/{row // 1000:04d}/{row:07d}.wav", "id": f"r{row:07d}", "duration": 1.0}
                )
                + "\n"
            )
    return manifest


def _check(out: Path, size: int) -> None:
    """Every recording once, and equal clips with equal texts."""
    from pipelines.storage import files as locations

    rows = locations.read_tables(f"{out}/transcripts", ["recording_id", "text"])
    ids = rows["recording_id"].to_numpy(zero_copy_only=False)
    if len(ids) != size or len(np.unique(ids)) != size:
        raise RuntimeError(f"{len(ids)} transcripts of {len(np.unique(ids))} recordings, not {size}")
    texts: dict[int, set[str]] = {}
    for key, text in zip(ids.tolist(), rows["text"].to_pylist(), strict=True):
        texts.setdefault(int(key[1:]) % CLIPS, set()).add(text)
    if any(len(found) != 1 or not min(found) for found in texts.values()):
        raise RuntimeError("equal clips have different texts")


# Print without the table, for a run that somebody watches.
if __name__ == "__main__":
    began = time.monotonic()
    for row in measure(full=True):
        print(
            f"{time.monotonic() - began:.0f} s: {row.name}: {row.value} {row.unit} ({row.note})", flush=True
        )
