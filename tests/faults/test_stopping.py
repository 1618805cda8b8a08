"""Ctrl-C, SIGTERM and a second driver: finished work is stored, the message says how to resume, no process is
left.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.faults.harness import checker
from tests.faults.harness.jobs import FAKE, Job, archive, committed

pytestmark = pytest.mark.faults

RECORDINGS = 24
SETTINGS = (*FAKE, "plan.task_seconds=4", "cluster.object_store_memory=0.2")


# Seconds of model time per second of audio.
COST = 0.1


def start(manifest: Path, out: Path, log: Path, cost: float = COST) -> Job:
    return Job("transcribe", manifest, out, settings=(*SETTINGS, f"asr.model=fake:{cost}"), log=log)


def settings(cost: float) -> list[str]:
    return [part for setting in (*SETTINGS, f"asr.model=fake:{cost}") for part in ("--set", setting)]


def until_committed(out: Path, count: int, job: Job) -> None:
    deadline = time.monotonic() + 240
    while committed(out) < count:
        assert job.process.poll() is None, job.said()
        assert time.monotonic() < deadline, job.said()
        time.sleep(0.05)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM], ids=["ctrl-c", "sigterm"]
)
def test_a_stopped_run_stores_finished_work_and_resumes(
    number: signal.Signals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second driver is refused while the run is at work."""
    from pipelines.cli import main

    manifest, ids = archive(tmp_path / "audio", RECORDINGS)
    out = tmp_path / "out"
    job = start(manifest, out, tmp_path / "log")
    until_committed(out, 1, job)
    assert main(["transcribe", str(manifest), str(out), *settings(COST)]) == 1
    said = capsys.readouterr().err
    assert f"process {job.process.pid} on" in said and "is at work on" in said
    until_committed(out, 2, job)
    # A terminal sends Ctrl-C to all of its foreground processes, a scheduler signals only the driver.
    if number == signal.SIGINT:
        os.killpg(job.process.pid, number)
    else:
        job.process.send_signal(number)
    assert job.wait(60) == 1, job.said()
    said = job.said()
    assert (
        "stopping; what is finished is stored first" in said and "the same command goes on from there" in said
    )
    assert "Traceback" not in said, said
    checker.nobody_left(job.mark)
    assert not (out / "lease.json").exists()
    stored = committed(out)
    assert 2 <= stored < RECORDINGS
    assert not [*(out / "checkpoint").glob("*.pending*")], "a commit was cut off"
    assert main(["transcribe", str(manifest), str(out), *settings(0.0)]) == 2, (
        "other settings are refused also after a stop"
    )
    assert start(manifest, out, tmp_path / "log3").wait() == 0
    checker.check(out, ids)
