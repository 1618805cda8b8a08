"""The simulation of large runs loses no work, and takes as long as its only bottleneck needs."""

from pathlib import Path

import numpy as np
import pytest

from infra.simulation.__main__ import archive, run, shards_of, table
from infra.simulation.costs import COSTS, DRIVER, RESULTS, STUDY
from infra.simulation.model import Machine, Prices, simulate, tasks_of
from pipelines.output.plans import MAX_ROWS, task_starts

ROOT = Path(__file__).parents[2]
TASKS = [[100.0, 100.0, 50.0] for _ in range(200)]
AUDIO = 250.0 * 200


def machine(gpus: int = 4, cores: int = 32, speed: float = 500, room: int = 64) -> Machine:
    return Machine(gpus, cores, speed, room)


@pytest.mark.parametrize("gpus", [1, 3, 8])
@pytest.mark.parametrize("block", [0.0, 0.01, 1.0])
def test_all_work_is_done_once(gpus: int, block: float) -> None:
    flow = simulate(TASKS, machine(gpus), Prices(core=0.01, block=block))
    assert flow.blocks == 600 and flow.audio == pytest.approx(AUDIO)
    assert flow.gpu * flow.seconds * gpus == pytest.approx(AUDIO / 500)
    assert flow.cores * flow.seconds * 32 == pytest.approx(AUDIO * 0.01)
    assert flow.driver * flow.seconds == pytest.approx(600 * block)
    assert max(flow.gpu, flow.cores, flow.driver) <= 1 + 1e-9


@pytest.mark.parametrize(
    ("machine_", "prices", "limit", "seconds"),
    [
        (machine(), Prices(core=0.001, block=0.0), "GPUs", AUDIO / 500 / 4),
        (machine(gpus=8), Prices(core=0.001, block=0.0), "GPUs", AUDIO / 500 / 8),
        (machine(cores=2), Prices(core=0.01, block=0.0), "decoding", AUDIO * 0.01 / 2),
        (machine(gpus=8), Prices(core=0.001, block=0.5), "driver", 600 * 0.5),
        (machine(gpus=8), Prices(core=0.001, block=0.5, idle=0.5), "driver", 600 * 0.5 * 2),
    ],
)
def test_the_bottleneck_determines_the_duration(
    machine_: Machine, prices: Prices, limit: str, seconds: float
) -> None:
    flow = simulate(TASKS, machine_, prices)
    assert (
        flow.limit == limit and flow.seconds == pytest.approx(seconds, rel=0.04) and flow.seconds >= seconds
    )


def test_cores_wait_for_gpus_when_the_store_is_full() -> None:
    """With room for one block in the store, decoding and recognition alternate."""
    alternating = simulate([[100.0]] * 50, machine(gpus=1, cores=8, room=1), Prices(core=0.002, block=0.0))
    assert alternating.seconds == pytest.approx(50 * (0.2 + 0.2))
    overlapping = simulate([[100.0]] * 50, machine(gpus=1, cores=8, room=3), Prices(core=0.002, block=0.0))
    assert overlapping.seconds == pytest.approx(0.2 + 50 * 0.2)


def test_a_long_last_task_extends_the_run() -> None:
    flow = simulate([[10.0]] * 40 + [[4000.0]], machine(), Prices(core=0.0, block=0.0))
    assert flow.seconds == pytest.approx(0.2 + 8.0, abs=0.1) and flow.gpu < 0.3


def test_tasks_are_those_of_the_plan_and_blocks_are_full() -> None:
    lengths = np.random.default_rng(1).lognormal(3, 1.5, 5000).clip(0.2, 600)
    tasks = tasks_of(lengths.tolist(), 900, 250)
    starts = task_starts(lengths, 900)
    assert [sum(task) for task in tasks] == pytest.approx(
        [part.sum() for part in np.split(lengths, starts[1:])]
    )
    assert all(block >= 250 for task in tasks for block in task[:-1])
    assert len(tasks_of([0.1] * 1000, 900, 250)) == -(-1000 // MAX_ROWS)


def test_shards_are_equal_parts_of_recordings() -> None:
    shards = shards_of(np.array([1500.0, 600.0, 3.0]))
    assert shards.tolist() == [500.0, 500.0, 500.0, 600.0, 3.0]


def test_more_gpus_are_faster_until_the_driver_is_the_limit() -> None:
    recordings = archive(30_000)
    jobs = [run(recordings, gpus) for gpus in (1, 8, 64)]
    hours = [job.flow.seconds / 3600 for job in jobs]
    assert hours[0] > 7 * hours[1] and hours[1] > hours[2]
    assert all(job.flow.audio == pytest.approx(recordings.sum()) for job in jobs)
    many = run(recordings, 4096, block=float(1 << 20))
    assert (
        many.flow.limit == "driver"
        and many.flow.seconds >= many.flow.blocks * COSTS["driver_chain"].value * 0.999
    )


def test_each_cost_names_its_source() -> None:
    sources = ("assumed", RESULTS, DRIVER, STUDY)
    assert all(cost.value > 0 and cost.source.startswith(sources) for cost in COSTS.values())


def page(heading: str) -> str:
    return (ROOT / "infra/sizing.md").read_text().split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]


def test_the_page_has_the_simulated_costs():
    section = page("A million recordings on 1 to 512 GPUs")
    for name, cost in COSTS.items():
        assert f"| `{name}` | {cost.value:g} | {cost.unit} | {cost.source} |" in section


@pytest.mark.slow
def test_the_page_has_the_results_of_the_simulation():
    lines = table(archive(1_000_000))
    assert "\n".join(lines) in page("A million recordings on 1 to 512 GPUs")
