"""The driver: what a task and a block cost the one process that leads a job, and how many files are
committed.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.workloads import cpu
from tests.benchmarks.workloads.rows import Row

LIMIT_SECONDS = 600
BY_NAME = True
CLIPS = 1200
FILES, ROWS = 1500, 30
# A shard of the default length: 19.2 MB of samples.
LONG_SECONDS, LONG = 600, 60


def measure(full: bool) -> Iterator[Row]:
    """The same recordings in few and in many tasks: the driver's extra time is the cost of tasks. Models cost
    nothing.
    """
    with tempfile.TemporaryDirectory() as name:
        yield from _files(name)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip, long = noise(folder / "clip.wav", 1), noise(folder / "long.wav", LONG_SECONDS)
        few, many = _job(folder, clip, CLIPS, CLIPS / 5), _job(folder, clip, CLIPS, 1.0)
        tasks = CLIPS - 5
        note = (
            f"{CLIPS:,} clips in {CLIPS:,} tasks and in 5; "
            f"driver {many.roles['driver']:.1f} and {few.roles['driver']:.1f} CPU-s"
        )
        yield Row(
            "a task with its block, all stages",
            1000 * (many.roles["driver"] - few.roles["driver"]) / tasks,
            "ms of the driver",
            note=note,
        )
        rest = (many.total - many.roles["driver"] - few.total + few.roles["driver"]) / tasks
        yield Row(
            "the same in all other processes",
            1000 * rest,
            "core-ms",
            note="workers, Ray's daemons, the ledger, writing",
        )
        yield Row(
            "the same by the clock",
            1000 * (many.wall - few.wall) / tasks,
            "ms",
            note=f"{many.wall:.0f} and {few.wall:.0f} s",
        )
        one_task, many_tasks = (
            _job(folder, long, LONG, LONG_SECONDS * LONG),
            _job(folder, long, LONG, LONG_SECONDS),
        )
        for usage, what in ((one_task, "one task"), (many_tasks, f"{LONG} tasks")):
            yield Row(
                f"{LONG} shards of {LONG_SECONDS} s in {what}: files committed",
                usage.moments["files"],
                "files",
                note=f"driver {usage.roles['driver']:.1f} CPU-s, all {usage.total:.1f}, {usage.wall:.0f} s",
            )


def _files(out: str) -> Iterator[Row]:
    """What reading the committed files costs: to find finished shards, and to find recordings to stitch."""
    import pyarrow as pa

    from pipelines.output import shards, transcripts
    from pipelines.schema import SHARD
    from pipelines.storage import files

    for number in range(FILES):
        facts: dict[str, list[Any]] = {
            "shard_id": [f"s{number}-{row}" for row in range(ROWS)],
            "recording_id": [f"r{number}-{row}" for row in range(ROWS)],
            **{
                name: [value] * ROWS
                for name, value in (("index", 0), ("shard_count", 1), ("attempt", 1), ("status", "no_speech"))
            },
        }
        rows = pa.table(
            [pa.array(facts.get(field.name, [None] * ROWS), field.type) for field in SHARD], schema=SHARD
        )
        files.write_atomic(
            f"{shards.folder(out)}/task-{number:06d}-0.parquet", shards.parquet_bytes(rows), sync=False
        )
        ids = shards.parquet_bytes(rows.select([shards.ID]))
        files.write_atomic(f"{shards.checkpoint_folder(out)}/task-{number:06d}.parquet", ids, sync=False)
    for what, step in (
        ("what is done", lambda: (shards.recover(out), shards.committed_ids(out))),
        ("what can be stitched", lambda: transcripts.unstitched(out, 2000)),
    ):
        began = time.process_time()
        step()
        cpu_seconds = 1000 * (time.process_time() - began) / FILES
        yield Row(
            f"a committed file, to find {what}",
            cpu_seconds,
            "ms of the driver",
            note=f"{FILES:,} files of {ROWS} rows on a local disk",
        )


def noise(path: Path, seconds: int, seed: int = 0) -> Path:
    """Write noise, 16 kHz, 16 bit."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(
            np.random.default_rng(seed).normal(0, 3000, 16_000 * seconds).astype(np.int16).tobytes()
        )
    return path


def _job(folder: Path, audio: Path, count: int, task_seconds: float) -> cpu.Usage:
    """The job on one file under `count` names."""
    manifest, out = folder / "manifest.jsonl", folder / f"out-{audio.stem}-{task_seconds:g}"
    seconds = audio.stat().st_size // 32_000
    manifest.write_text(
        "".join(
            json.dumps({"audio": str(audio), "id": f"r{row}", "duration": seconds}) + "\n"
            for row in range(count)
        )
    )
    settings = ["asr.backend=fake", "asr.model=fake", "aligner.backend=fake", "aligner.model=fake"]
    settings += ["plan.trust_durations=true", f"plan.task_seconds={task_seconds}"]
    options = [part for setting in settings for part in ("--set", setting)]
    usage = cpu.measure([sys.executable, "-m", "pipelines", "transcribe", str(manifest), str(out), *options])
    if usage.code != 0:
        raise RuntimeError(f"the job ended with exit code {usage.code}:\n{usage.output[-3000:]}")
    usage.moments["files"] = float(len([*(out / "shards").glob("*.parquet")]))
    return usage
