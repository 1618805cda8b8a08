"""Worker nodes that disappear during a run without notice, on a real Ray cluster of several nodes."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness import checker
from tests.faults.harness.jobs import FAKE, Job, committed

pytestmark = pytest.mark.faults


@contextmanager
def cluster_of(workers: int) -> Iterator[tuple[Any, list[Any]]]:
    """A head without work, and worker nodes with two CPUs each: the cluster and the worker nodes."""
    from pipelines.cluster.session import LOCAL_ENVIRONMENT

    os.environ.update(LOCAL_ENVIRONMENT)
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 100 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **small})
    try:
        yield cluster, [cluster.add_node(num_cpus=2, object_store_memory=100 << 20) for _ in range(workers)]
    finally:
        cluster.shutdown()


def recognisers(node: Any) -> int:
    """The number of recognisers on a node: children of its raylet, by their titles."""
    (raylet,) = node.all_processes["raylet"]
    found = 0
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if (
                entry.name.isdigit()
                and int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == raylet.process.pid
            ):
                found += b"Recognise)" in (entry / "cmdline").read_bytes()
    return found


def lose_nodes(undisturbed: Path, folder: Path, workers: int, lost: int, cost: float) -> None:
    manifest, calm, out = undisturbed / "archive/manifest.jsonl", undisturbed / "calm", folder / "out"
    ids = [json.loads(line)["id"] for line in manifest.read_text().splitlines()]
    # Two recognisers with a CPU each, so that they do not both run on the head.
    settings = (*FAKE, "plan.task_seconds=2", "asr.pool.size=2", "asr.pool.num_cpus=1")
    with cluster_of(workers) as (cluster, nodes):
        address = (f"cluster.address={cluster.address}", f"asr.model=fake:{cost}")
        job = Job("transcribe", manifest, out, settings=(*settings, *address), log=folder / "out.log")
        began = time.monotonic()
        at_work = 0
        for number in range(lost):
            before = committed(out)
            while committed(out) < before + 2:
                assert job.process.poll() is None, (
                    f"over before node {number + 1} was lost: {job.said()[-2000:]}"
                )
                time.sleep(0.05)
            node = max(nodes, key=recognisers)
            at_work += recognisers(node)
            nodes.remove(node)
            cluster.remove_node(node, allow_graceful=False)
        assert at_work, "no recogniser was on a node that was lost"
        assert job.process.poll() is None, "the run was over before the last node was lost"
        assert job.wait(900) == 0, job.said()[-3000:]
        seconds = time.monotonic() - began
    transcripts, letters = checker.check(out, ids, calm)
    assert len(transcripts) == len(ids) and not letters
    checker.nobody_left(job.mark, 40)
    run = json.loads((out / "run.json").read_text())["runs"][-1]
    print(
        f"\nnodes: removed {lost} of {workers} with {at_work} recognisers, lost 0, twice 0, of {len(ids)}; "
        f"model processes that died with work {run['processes_died']}, "
        f"shards given again {run['shards_again']}, {seconds:.0f} s"
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_lost_node_loses_nothing(undisturbed: Path, tmp_path: Path) -> None:
    lose_nodes(undisturbed, tmp_path, workers=2, lost=1, cost=0.3)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_lost_nodes_of_three_lose_nothing(undisturbed: Path, tmp_path: Path) -> None:
    lose_nodes(undisturbed, tmp_path, workers=3, lost=2, cost=0.6)
