"""What a pool asks of Ray Data, and how large blocks become."""

import math

import pytest

from pipelines.cluster.nodes import Node
from pipelines.cluster.placement import Placement, place
from pipelines.cluster.pools import PoolResources
from pipelines.config import RunConfig
from pipelines.execution.ray_data import (
    BLOCK_BYTES,
    BYTES_PER_SECOND,
    GPU_BLOCK_BYTES,
    Blocks,
    block_bytes,
    blocks_for,
    pool_arguments,
)
from pipelines.planning import planner


def test_a_pool_asks_for_labels_only_if_it_has_some() -> None:
    anywhere, zone = PoolResources(1, 1.0), PoolResources(1, 1.0, label_selector={"zone": "a"})
    assert "label_selector" not in pool_arguments(anywhere, isolated=False)
    assert pool_arguments(zone, isolated=False)["label_selector"] == {"zone": "a"}


def test_blocks_grow_with_the_job_as_far_as_the_smallest_store_allows() -> None:
    stores = [
        Node({"CPU": 0, "object_store_memory": 1e9}),
        *[Node({"CPU": 4, "object_store_memory": size}) for size in (6e9, 9e9)],
    ]
    assert block_bytes(stores, 3600, 2) == BLOCK_BYTES
    assert block_bytes([Node({"CPU": 4})], 1e9, 2) == BLOCK_BYTES
    # A block is a whole task ...
    assert block_bytes(stores, 2e8, 20_000) == pytest.approx(2e8 * 32_000 / 20_000, rel=0.02)
    # ... or half a task: 6 GB / 16 is less than a whole one.
    assert block_bytes(stores, 3e8, 20_000) == pytest.approx(3e8 * 32_000 / 20_000 / 2, rel=0.02)
    assert block_bytes(stores, 3e8, 1_000_000) == BLOCK_BYTES
    assert block_bytes([Node({"CPU": 4, "object_store_memory": 1e9})], 1e9, 20_000) == BLOCK_BYTES


def test_a_gpu_gets_blocks_for_a_whole_call_if_the_store_has_room() -> None:
    """A GPU takes up to 7,680 s of audio in one call."""

    def block(store: float, seconds: float = 3600, tasks: int = 2) -> int:
        return block_bytes([Node({"CPU": 8, "GPU": 1, "object_store_memory": store})], seconds, tasks)

    assert GPU_BLOCK_BYTES / BYTES_PER_SECOND >= 7680
    assert block(6e9) == GPU_BLOCK_BYTES
    assert block(2 << 30) == (2 << 30) // 16  # several blocks wait before each model
    assert block(1 << 30) == block(1e8) == BLOCK_BYTES
    # On a node with eight GPUs, several blocks wait before each of their models.
    eight = [Node({"CPU": 128, "GPU": 8, "object_store_memory": 18 << 30})]
    assert block_bytes(eight, 3600, 2) == GPU_BLOCK_BYTES
    assert block_bytes([Node({"CPU": 128, "GPU": 8, "object_store_memory": 8 << 30})], 3600, 2) == 128 << 20
    # A huge job has larger ones: whole tasks.
    assert block(9e9, seconds=3e8, tasks=20_000) == pytest.approx(3e8 * 32_000 / 20_000, rel=0.02)


def placement_of(gpus: int, cpus: int = 16, *, on_cpus: bool = False, count: int = 1) -> Placement:
    """Where a run goes on so many nodes."""
    node = Node({"CPU": cpus, "GPU": gpus, "object_store_memory": (2 + 2 * gpus) << 30})
    pools = {"asr": {"pool": {"num_gpus": 0}}, "aligner": {"pool": {"num_gpus": 0}}} if on_cpus else {}
    return place(RunConfig.model_validate(pools), [node] * count)


HOUR = 3600.0


def test_without_gpus_each_plan_file_is_a_task() -> None:
    for placement in (placement_of(0), placement_of(4, on_cpus=True)):
        for files in (1, 64, 5000):
            assert blocks_for(placement, files * HOUR, files, files * 6).tasks == files
    assert blocks_for(placement_of(0), 64 * HOUR, 64, 384).size == BLOCK_BYTES


def test_a_gpu_task_reads_as_many_files_as_fit_into_a_block() -> None:
    blocks = blocks_for(placement_of(1), 1000 * HOUR, 1000, 6000)
    # Two hours: two such tables in two calls at a time fill 15,360 padded seconds nearly.
    assert blocks == Blocks(500, GPU_BLOCK_BYTES)
    # 256 clips of 3 s in each file are 768 s; four files have 1,024 clips.
    assert blocks_for(placement_of(1), 1000 * 768.0, 1000, 256_000).tasks == 250


@pytest.mark.parametrize("gpus", [1, 4, 8])
@pytest.mark.parametrize("hours", [1, 10, 64, 150, 1000, 20_000])
def test_a_task_is_seconds_of_work_and_no_gpu_waits(gpus: int, hours: int) -> None:
    placement = placement_of(gpus, cpus=16 * gpus)
    each = planner.task_seconds(hours * HOUR)
    files = math.ceil(hours * HOUR / each)
    blocks = blocks_for(placement, hours * HOUR, files, files * 6)
    # At most three minutes of a GPU of 50 times real time, three seconds of one of 3,000 times.
    assert math.ceil(files / blocks.tasks) * each <= max(each, GPU_BLOCK_BYTES / BYTES_PER_SECOND)
    assert blocks.tasks >= min(files, 4 * gpus, 2 * 16 * gpus)
    assert blocks.tasks <= files


def test_short_jobs_keep_a_task_for_each_replica_and_decoder() -> None:
    assert blocks_for(placement_of(8, cpus=128), 64 * HOUR, 64, 400).tasks == 64
    assert blocks_for(placement_of(1, cpus=8), 10 * HOUR, 64, 64).tasks == 16
    assert blocks_for(placement_of(8), 0.0, 0, 0).tasks == 1
    assert blocks_for(placement_of(1), 0.0, 3, 3).tasks == 3
