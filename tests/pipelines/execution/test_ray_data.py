"""What a pool asks of Ray Data, and how large blocks become."""

import pytest

from pipelines.cluster.nodes import Node
from pipelines.cluster.pools import PoolResources
from pipelines.execution.ray_data import (
    BLOCK_BYTES,
    BYTES_PER_SECOND,
    GPU_BLOCK_BYTES,
    block_bytes,
    pool_arguments,
)


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
    # A huge job has larger ones: whole tasks.
    assert block(9e9, seconds=3e8, tasks=20_000) == pytest.approx(3e8 * 32_000 / 20_000, rel=0.02)
