"""A million recordings on 1, 8, 64 and 512 GPUs: hours, GPU utilisation and the bottleneck.

Run `python -m infra.simulation`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from infra.simulation.costs import COSTS, value
from infra.simulation.model import IN_FLIGHT, Flow, Machine, Prices, simulate, tasks_of
from pipelines.cluster.nodes import Node
from pipelines.execution.ray_data import BLOCK_BYTES, BYTES_PER_SECOND, block_bytes
from pipelines.planning.planner import task_seconds

SIZES = (1, 8, 64, 512)
# As in the files of infra/kubernetes.
CORES_PER_GPU = 8
# Bytes of Ray's object store on a node with one GPU, as in infra/kubernetes.
STORE = 6e9
# Share of the object store that Ray Data gives to blocks.
STORE_SHARE = 0.5
# Seconds: plan.shard_duration.
SHARD = 600.0


@dataclass(frozen=True)
class Job:
    """A whole run: its flow, and the seconds before and after it."""

    gpus: int
    drivers: int
    flow: Flow
    before: float
    after: float

    @property
    def hours(self) -> float:
        """Hours from the start of the command to its end."""
        return (self.before + self.flow.seconds + self.after) / 3600

    @property
    def gpu_share(self) -> float:
        """Share of these hours in which a GPU computes."""
        return self.flow.gpu * self.flow.seconds / (3600 * self.hours)


def archive(recordings: int) -> np.ndarray:
    """Audio seconds of each recording, longest first: minutes, some hours, as in the benchmark `scale`."""
    return -np.sort(-np.random.default_rng(0).lognormal(5.0, 1.2, recordings).clip(1, 20_000))


def shards_of(seconds: np.ndarray) -> np.ndarray:
    """Equal parts of at most SHARD seconds, as `pipelines.planning` makes them."""
    counts = np.maximum(1, np.ceil(seconds / SHARD - 1e-9)).astype(int)
    return np.repeat(seconds / counts, counts)


def run(
    recordings: np.ndarray,
    gpus: int,
    *,
    block: float | None = None,
    task: float | None = None,
    drivers: int = 1,
) -> Job:
    """Simulate one run, or `drivers` runs side by side, each with its share of the recordings and GPUs.

    Args:
        recordings: audio seconds of each.
        gpus: in total.
        block: bytes; None: as `pipelines.execution` decides.
        task: plan.task_seconds; None: as `pipelines.planning` decides.
        drivers: runs, each with its own OUT.
    """
    mine = recordings[::drivers]
    shards, total = shards_of(mine), float(mine.sum())
    task = task or task_seconds(total)
    block = block or block_bytes([Node({"GPU": 1, "object_store_memory": STORE})], total, round(total / task))
    tasks = tasks_of(shards.tolist(), task, block / BYTES_PER_SECOND)
    speed = 1 / (1 / value("recognise") + 1 / value("align"))
    cards = gpus // drivers
    room = max(IN_FLIGHT + 1, int(cards * STORE * STORE_SHARE / block))
    machine = Machine(cards, cards * CORES_PER_GPU, speed, room)
    flow = simulate(
        tasks, machine, Prices(value("workers") / 3600, value("driver_chain"), value("driver_idle"))
    )
    stitching = total / 3600 * value("stitch") / machine.cores + flow.blocks * value("index")
    return Job(
        gpus, drivers, flow, value("plan") * len(mine) / 1e6 + value("start") + value("load"), stitching
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables of infra/sizing.md."""
    parser = argparse.ArgumentParser(prog="python -m infra.simulation", description=__doc__)
    parser.add_argument("--recordings", type=int, default=1_000_000)
    given = parser.parse_args(arguments)
    recordings = archive(given.recordings)
    print(f"{len(recordings):,} recordings, {recordings.sum() / 3600:,.0f} h; what steps cost:\n")
    for name, cost in COSTS.items():
        print(f"  {name:<13}{cost.value:>10g} {cost.unit} ({cost.source})")
    print()
    for line in table(recordings):
        print(line)


def table(recordings: np.ndarray) -> list[str]:
    """Rows of Markdown, one for each size and way."""
    lines = [
        "| GPUs | way | hours | GPUs busy | cores busy | driver busy | files | limit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for gpus in SIZES:
        ways = {
            "64 MiB blocks, as it was": run(recordings, gpus, block=float(BLOCK_BYTES)),
            "as it is": run(recordings, gpus),
        }
        if gpus == SIZES[-1]:
            ways["`plan.task_seconds=30000`"] = run(recordings, gpus, task=30_000)
            for drivers in (2, 4):
                ways[f"{drivers} runs side by side, `plan.task_seconds=15000`"] = run(
                    recordings, gpus, drivers=drivers, task=15_000
                )
        for way, job in ways.items():
            flow = job.flow
            shares = f"{job.gpu_share:.0%} | {flow.cores:.0%} | {flow.driver:.0%}"
            lines.append(
                f"| {gpus} | {way} | {job.hours:,.2f} | {shares} | {flow.blocks * job.drivers:,} | "
                f"{flow.limit} |"
            )
    return lines


if __name__ == "__main__":
    main()
