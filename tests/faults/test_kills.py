"""Seeded kill -9 of the driver and of every kind of process it starts: nothing lost, duplicated or changed,
no process left.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.output import shards
from tests.faults.harness import checker
from tests.faults.harness.jobs import FAKE, Job, archive, committed

pytestmark = pytest.mark.faults

# Tasks of one replica of a model: `ray_data.pool_arguments`.
TASKS_IN_FLIGHT = 3
PATIENCE = 4.0  # seconds in which a process of the wanted kind is looked for, before any other is killed


@dataclass
class Work:
    """A run that a test will disturb, and an undisturbed one over the same archive."""

    # A folder with `archive` and `calm`.
    undisturbed: Path
    folder: Path
    task_seconds: float
    # Seconds of model time per second of audio.
    cost: float
    # Address of a Ray that outlives its drivers.
    address: str = "local"
    settings: tuple[str, ...] = ()
    # Shards that a recogniser had received when a driver died and that were not committed.
    in_flight: int = 0

    def __post_init__(self) -> None:
        self.manifest, self.calm = self.undisturbed / "archive/manifest.jsonl", self.undisturbed / "calm"
        self.ids = [json.loads(line)["id"] for line in self.manifest.read_text().splitlines()]
        self.out, self.trace = self.folder / "out", self.folder / "trace"
        self.trace.mkdir(exist_ok=True)

    def start(self, out: Path, cost: float) -> Job:
        settings = (
            *FAKE,
            f"plan.task_seconds={self.task_seconds}",
            f"asr.model=fake:{cost}",
            f"aligner.model=fake:{cost / 4}",
            f"cluster.address={self.address}",
            *self.settings,
        )
        trace = {"SCRIPTORIUM_FAKE_TRACE": str(self.trace)} if out == self.out else {}
        return Job(
            "transcribe",
            self.manifest,
            out,
            settings=settings,
            environment=trace,
            log=out.with_suffix(".log"),
        )

    def again(self) -> Job:
        """Run the same command on the disturbed directory."""
        return self.start(self.out, self.cost)

    def asked(self) -> tuple[int, int]:
        """Segments sent to the recogniser, and distinct ones: the difference was done again."""
        lines = [line for path in self.trace.iterdir() for line in path.read_text().splitlines()]
        return len(lines), len(set(lines))

    def committed_shards(self) -> int:
        """The number of rows committed so far."""
        return len(shards.committed_ids(str(self.out)))

    def finish(self, job: Job) -> None:
        """The run ends well, and its output equals the undisturbed one's."""
        assert job.wait(900) == 0, job.said()[-3000:]
        transcripts, letters = checker.check(self.out, self.ids, self.calm)
        assert len(transcripts) == len(self.ids) and not letters
        checker.nobody_left(job.mark)
        assert json.loads((self.out / "report.json").read_text())["exact"]


@contextmanager
def standing_ray(num_cpus: int) -> Iterator[str]:
    """The address of a one-node Ray that no driver started."""
    from pipelines.cluster.session import LOCAL_ENVIRONMENT

    with pytest.MonkeyPatch.context() as patch:
        for name, value in LOCAL_ENVIRONMENT.items():
            patch.setenv(name, value)
        from ray.cluster_utils import Cluster

        small = {"num_cpus": num_cpus, "object_store_memory": 200 << 20, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=small)
        try:
            yield cluster.address
        finally:
            cluster.shutdown()


def report(name: str, **figures: float) -> None:
    """A line for the log."""
    print(f"\n{name}: " + ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in figures.items()))


def kill_drivers(work: Work, kills: int, seed: int) -> None:
    """Kill the driver at random moments, in start-up or at work, and run the same command each time."""
    moments = random.Random(seed)
    for number in range(kills):
        job = work.again()
        # Anywhere: reading the manifest, planning, starting Ray, working.
        if number % 2:
            # At the latest when little is left: the job must not be over.
            _until(lambda: work.committed_shards() > len(work.ids) // 2, job, moments.uniform(0.5, 20))
        else:
            wanted = committed(work.out) + moments.randint(1, 2)
            _until(lambda wanted=wanted: committed(work.out) >= wanted, job, 240)
            _until(lambda: False, job, moments.uniform(0, 0.6))
        assert job.process.poll() is None, f"the run was over before kill {number + 1}: {job.said()[-1000:]}"
        job.kill()
        checker.nobody_left(job.mark)
        told = re.findall(r"committed ([\d,]+) of", job.said())
        # Each recording has one shard.
        assert not told or int(told[-1].replace(",", "")) <= work.committed_shards()
        work.in_flight += work.asked()[1] - work.committed_shards()


VICTIMS = {
    "decode task": ("ray::MapBatches(decode)", "ray::ReadParquet", "ray::read"),
    "decode child": ("actors.process.isolation",),
    "recogniser": ("Recognise)",),
    "aligner": ("Align)",),
}


def kill_workers(work: Work, kills: int, seed: int) -> tuple[Job, dict[str, int]]:
    """Kill decoders, recognisers and aligners during one run; returns that run and the kills by kind.

    Of the kinds at work, the one with the fewest kills is next; decoding ends before the others.
    """
    moments = random.Random(seed)
    job = work.again()
    start = committed(work.out)
    _until(lambda: committed(work.out) > start, job, 240)
    killed = dict.fromkeys(VICTIMS, 0)
    while sum(killed.values()) < kills:
        before = committed(work.out)
        kind, process = _victim(job, sorted(killed, key=lambda name: (killed[name], moments.random())))
        # It ended by itself meanwhile.
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
            killed[kind] += 1
        # Wait until something was finished before the next kill, so that the kills spread over the whole run
        # and do not all hit its first table.
        _until(lambda before=before: committed(work.out) > before, job, 240)
        _until(lambda: False, job, moments.uniform(0, 0.8))
        assert job.process.poll() is None, f"the run was over after {killed}: {job.said()[-1000:]}"
    return job, killed


def _victim(job: Job, kinds: list[str]) -> tuple[str, int]:
    """The first of these kinds that is at work, and one of its processes.

    For a few seconds only the first kind counts: a decode task is at work for some milliseconds at a time.
    """
    began = time.monotonic()
    while time.monotonic() < began + 60 and job.process.poll() is None:
        for kind in kinds if time.monotonic() > began + PATIENCE else kinds[:1]:
            if found := job.processes(*VICTIMS[kind]):
                return kind, next(iter(found))
        time.sleep(0.01)
    raise AssertionError(f"nobody at work: {sorted(job.processes('').values())}")


def most_again(work: Work, recogniser_kills: int) -> int:
    """Shards that may be recognised twice: those in flight when a driver died, and the tables of a recogniser
    that died.
    """
    return work.in_flight + TASKS_IN_FLIGHT * recogniser_kills * max(
        len(rows) for rows in _task_sizes(work.out)
    )


def _task_sizes(out: Path) -> list[list[str]]:
    return [
        pq.read_table(path, columns=["shard_id"])["shard_id"].to_pylist()
        for path in (out / "plan").glob("*.parquet")
    ]


def _until(true: object, job: Job, seconds: float) -> None:
    """Wait until a condition holds, at most `timeout` seconds; return at once if the job ends."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and job.process.poll() is None and not true():  # type: ignore[operator]
        time.sleep(0.05)


@pytest.mark.timeout(900)
def test_two_killed_drivers_lose_nothing(undisturbed: Path, tmp_path: Path) -> None:
    work = Work(undisturbed, tmp_path, task_seconds=2.0, cost=0.1)
    kill_drivers(work, kills=2, seed=20261123)
    work.finish(work.again())
    asked, different = work.asked()
    assert different == len(work.ids) and asked - different <= most_again(work, recogniser_kills=0)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kills_of_every_kind_of_process_lose_nothing(six_hundred: Path, tmp_path: Path) -> None:
    """Two drivers one after the other, and then a decoder, its child, a recogniser and an aligner of the
    third.
    """
    # A small object store, so that decoding waits for the models and goes on while they work.
    work = Work(
        six_hundred, tmp_path, task_seconds=20.0, cost=0.02, settings=("cluster.object_store_memory=0.1",)
    )
    kill_drivers(work, kills=2, seed=20261123)
    job, killed = kill_workers(work, kills=4, seed=3)
    work.finish(job)
    asked, different = work.asked()
    assert different == len(work.ids) and asked - different <= most_again(work, killed["recogniser"])
    assert all(killed.values()), killed


@pytest.fixture(scope="session")
def six_hundred(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like `undisturbed`, with 600 recordings of 3 to 9 s, one hour in all."""
    folder = tmp_path_factory.mktemp("six_hundred")
    manifest, _ = archive(folder / "archive", 600, seconds=3.0)
    job = Job("transcribe", manifest, folder / "calm", log=folder / "calm.log")
    assert job.wait(900) == 0, job.said()
    return folder


def twenty_drivers(work: Work, seed: int) -> None:
    began = time.monotonic()
    kill_drivers(work, 20, seed)
    before = committed(work.out)
    work.finish(work.again())
    asked, different = work.asked()
    assert different == 600 and asked - different <= most_again(work, recogniser_kills=0)
    report(
        "driver kills",
        injected=20,
        lost=0,
        twice=0,
        again=asked - different,
        in_flight=work.in_flight,
        tasks_before_the_last=before,
        s=time.monotonic() - began,
    )


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_twenty_killed_drivers_lose_nothing(six_hundred: Path, tmp_path: Path) -> None:
    twenty_drivers(Work(six_hundred, tmp_path, task_seconds=20.0, cost=0.03), seed=20261123)


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_twenty_killed_drivers_of_one_cluster_lose_nothing(
    six_hundred: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster lives on: what a dead driver started there must not disturb the next one."""
    monkeypatch.setenv("SCRIPTORIUM_FAKE_TRACE", str(tmp_path / "trace"))
    with standing_ray(4) as address:
        twenty_drivers(
            Work(six_hundred, tmp_path, task_seconds=20.0, cost=0.03, address=address), seed=20261125
        )


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_killed_workers_lose_nothing(six_hundred: Path, tmp_path: Path) -> None:
    # A small object store, so that decoding waits for the models and goes on while they work.
    work = Work(
        six_hundred, tmp_path, task_seconds=20.0, cost=0.04, settings=("cluster.object_store_memory=0.1",)
    )
    began = time.monotonic()
    job, killed = kill_workers(work, 20, seed=20261124)
    work.finish(job)
    asked, different = work.asked()
    run = json.loads((work.out / "run.json").read_text())["runs"][-1]
    assert different == 600 and asked - different <= min(
        run["shards_again"], most_again(work, killed["recogniser"])
    )
    assert min(killed.values()) >= 2, killed
    report(
        "worker kills",
        injected=20,
        lost=0,
        twice=0,
        again=asked - different,
        died_with_work=run["processes_died"],
        given_again=run["shards_again"],
        **killed,
        s=time.monotonic() - began,
    )
