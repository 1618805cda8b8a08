"""kill -9 of the driver at random moments, and the same command again: nothing lost, nothing twice, nothing different."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.e2e.conftest import ROOT, read_dead_letters, read_transcripts, write_manifest

RECORDINGS, SECONDS, TASKS = 48, 5.0, 24  # two recordings a task
FAKE = ["--set", "asr.backend=fake", "--set", "aligner.backend=fake", "--set", "plan.task_seconds=12"]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Short recordings of noise, one of them broken, each with text of its own from the fake model."""
    generator = np.random.default_rng(7)
    rows = []
    for number in range(RECORDINGS):
        name = f"{number:03d}.wav"
        noise = generator.normal(0, 0.1, round(16_000 * (SECONDS + number / 100))).astype(np.float32)
        soundfile.write(tmp_path / name, noise, 16_000)
        rows.append({"audio": name, "number": number})
    (tmp_path / "010.wav").write_bytes(b"this is no audio")
    return write_manifest(tmp_path / "manifest.jsonl", rows)


def start(manifest: Path, out: Path, cost: float) -> subprocess.Popen[bytes]:
    """The command as a process of its own; `cost` seconds of model time for each second of audio."""
    command = [sys.executable, "-m", "pipelines", "transcribe", str(manifest), str(out), *FAKE, "--set", f"asr.model=fake:{cost}"]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def committed(out: Path) -> int:
    return len([path for path in (out / "checkpoint").glob("*.parquet") if ".pending" not in path.name])


def comparable(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Rows without what must differ: when and in which run they were made (and the fake's cost, which is part of the settings)."""
    moving = {"run_id", "created_at", "config_hash"}
    return {key: {**row, "provenance": {k: v for k, v in row["provenance"].items() if k not in moving}} for key, row in rows.items()}


@pytest.mark.timeout(600)
def test_three_kills_leave_what_an_undisturbed_run_leaves(manifest: Path, tmp_path: Path) -> None:
    calm, shaken = tmp_path / "calm", tmp_path / "shaken"
    assert start(manifest, calm, 0.0).wait() == 3  # one recording is broken
    moments = random.Random(20261122)
    done = 0
    for _ in range(3):
        process = start(manifest, shaken, 0.06)
        target = done + moments.randint(1, 4)
        deadline = time.monotonic() + 120
        while committed(shaken) < target and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(moments.random() * 0.5)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the run was over before it could be killed"
        done = committed(shaken)
        assert 0 < done < TASKS
    assert start(manifest, shaken, 0.06).wait() == 3
    assert comparable(read_transcripts(shaken)) == comparable(read_transcripts(calm))
    assert comparable(read_dead_letters(shaken)) == comparable(read_dead_letters(calm))
    assert len(read_transcripts(calm)) == RECORDINGS - 1 and len(read_dead_letters(calm)) == 1
    written = [row for path in (shaken / "shards").glob("*.parquet") for row in _ids(path)]
    assert len(written) == len(set(written)) == RECORDINGS


def _ids(path: Path) -> list[str]:
    import pyarrow.parquet as pq

    return pq.read_table(path, columns=["shard_id"])["shard_id"].to_pylist()
