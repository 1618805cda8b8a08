"""A kill -9 of a run while the second model of the repair is at work."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.output import shards
from tests.faults.harness import checker, jobs

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(900)]


def test_a_kill_in_the_second_pass_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    manifest, ids = jobs.archive(tmp_path / "archive", 40, seconds=0.5)
    # Every segment of the fake recogniser is English.
    settings = (*jobs.FAKE, "repair.model=fake:1.0", "repair.languages=[en]", "plan.task_seconds=2")
    out = tmp_path / "out"
    job = jobs.Job("transcribe", manifest, out, settings=settings, log=tmp_path / "log")
    deadline = time.monotonic() + 240
    while not 2 <= len(second_ids(out)) < 40:
        assert job.process.poll() is None and time.monotonic() < deadline, job.said()[-2000:]
        time.sleep(0.1)
    job.kill()
    checker.nobody_left(job.mark)
    before = len(second_ids(out))
    assert not list((out / "transcripts").glob("*.parquet"))
    again = jobs.Job("transcribe", manifest, out, settings=settings, log=tmp_path / "log")
    assert again.wait(300) == 0, again.said()[-3000:]
    files = (out / "transcripts").glob("*.parquet")
    found = [row for file in files for row in pq.read_table(file).to_pylist()]
    assert sorted(row["recording_id"] for row in found) == sorted(ids)
    assert {flag for row in found for one in row["segments"] for flag in one["flags"]} == {"second_model"}
    heard = second_ids(out)
    assert len(heard) == len(set(heard)) == len(ids) > before
    assert json.loads((out / "report.json").read_text())["exact"]


def second_ids(out: Path) -> list[str]:
    if not (out / "checkpoint").exists():
        return []
    return [one for one in shards.committed_ids(str(out)).to_pylist() if one.endswith("+2")]
