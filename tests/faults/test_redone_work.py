"""After a kill -9 of everything, at most a minute of work is done again, however slow the engine is."""

from __future__ import annotations

import json
import random
import re
import time
from pathlib import Path

import pytest

from pipelines.output import shards
from tests.faults.harness import checker
from tests.faults.harness.jobs import FAKE, Job, archive

pytestmark = [pytest.mark.faults, pytest.mark.slow]

COST = 0.15  # seconds of the recogniser for a second of audio: 6.7 times real time
# One table of 720 s, which takes 108 s: nothing of it is committed before all of it is done.
SETTINGS = (*FAKE, f"asr.model=fake:{COST}", f"aligner.model=fake:{COST / 4}", "plan.task_seconds=1200")


def traced(folder: Path) -> list[tuple[str, float]]:
    """Checksum and seconds of each segment that a recogniser was given."""
    lines = [line.split() for path in folder.glob("*") for line in path.read_text().splitlines()]
    return [(checksum, float(seconds)) for checksum, seconds in lines]


@pytest.mark.parametrize("seed", [1, 2])
def test_a_kill_in_the_middle_of_a_slow_table_costs_less_than_a_minute_of_work(
    tmp_path: Path, seed: int
) -> None:
    manifest, ids = archive(tmp_path / "archive", 12, seconds=60.0)
    out, trace = tmp_path / "out", tmp_path / "trace"
    trace.mkdir()

    def start() -> Job:
        environment = {"SCRIPTORIUM_FAKE_TRACE": str(trace)}
        log = tmp_path / "job.log"
        return Job("transcribe", manifest, out, settings=SETTINGS, environment=environment, log=log)

    job = start()
    while not traced(trace):
        assert job.process.poll() is None, job.said()[-2000:]
        time.sleep(0.2)
    moment = random.Random(seed).uniform(30, 90)
    time.sleep(moment)
    assert job.process.poll() is None
    job.kill()
    checker.nobody_left(job.mark)
    said = re.findall(r"committed (\d+) of 12 recordings", job.said())
    stored = len(shards.committed_ids(str(out)))
    assert said and int(said[-1]) <= stored

    before = traced(trace)
    assert stored == 0
    # Two portions are over.
    assert moment < 60 or list(out.glob("answers/*"))
    job = start()
    assert job.wait(600) == 0, job.said()[-3000:]
    heard = traced(trace)
    seconds = dict(heard)
    work, redone = (COST * sum(parts) for parts in (seconds.values(), [s for _, s in heard]))
    redone -= work
    print(
        f"\nkilled after {COST * sum(s for _, s in before):.0f} s of {work:.0f} s of work; "
        f"{redone:.0f} s were done again"
    )
    assert redone <= 60.0
    transcripts, letters = checker.check(out, ids)
    assert (len(transcripts), len(letters)) == (12, 0)
    assert json.loads((out / "report.json").read_text())["exact"]
    # They are no longer needed.
    assert not list(out.glob("answers/*"))
