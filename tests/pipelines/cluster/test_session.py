"""Ray on this machine, and what a pool asks of it."""

import pytest

from actors.config import ASRConfig
from pipelines.cluster.nodes import Node
from pipelines.cluster.session import BLOCK_BYTES, block_bytes, pool_arguments, with_share


def test_a_replica_without_a_card_runs_on_its_part_of_the_cores() -> None:
    """Ray shows it all cards: it would take the first one."""
    found = with_share(ASRConfig(), 0, 8)
    assert (found.device, found.threads, found.pool.num_gpus) == ("cpu", 8, 0)
    assert with_share(ASRConfig(threads=3, device="cuda"), 0, 8).threads == 3
    assert with_share(ASRConfig(threads=3, device="cuda:1"), 0, 8).device == "cuda:1"
    assert with_share(ASRConfig(backend="vllm"), 0, 8).device == "auto"


def test_a_replica_knows_its_share_of_a_card() -> None:
    found = with_share(ASRConfig(), 0.7, 8)
    assert (found.device, found.threads, found.pool.num_gpus) == ("auto", None, 0.7)


def test_a_pool_asks_for_labels_only_where_it_wants_some() -> None:
    pool = {"size": 1, "num_gpus": 1.0, "num_cpus": 0.0}
    assert "label_selector" not in pool_arguments({**pool, "label_selector": {}}, alone=False)
    assert pool_arguments({**pool, "label_selector": {"zone": "a"}}, alone=False)["label_selector"] == {
        "zone": "a"
    }


def test_blocks_grow_with_the_job_as_far_as_the_smallest_store_allows() -> None:
    stores = [
        Node({"CPU": 0, "object_store_memory": 1e9}),
        *[Node({"GPU": 1, "object_store_memory": size}) for size in (6e9, 9e9)],
    ]
    assert block_bytes(stores, 3600, 2) == block_bytes([Node({"CPU": 4})], 1e9, 2) == BLOCK_BYTES
    assert block_bytes(stores, 2e8, 20_000) == pytest.approx(
        2e8 * 32_000 / 20_000, rel=0.02
    )  # a task is a block
    assert block_bytes(stores, 3e8, 20_000) == pytest.approx(
        3e8 * 32_000 / 20_000 / 2, rel=0.02
    )  # half a task: 6 GB / 16 is less than one
    assert block_bytes(stores, 3e8, 1_000_000) == BLOCK_BYTES
    assert block_bytes([Node({"CPU": 4, "object_store_memory": 1e9})], 1e9, 20_000) == BLOCK_BYTES
