"""What a run takes from the cluster: decided before anything waits in silence."""

import pytest

from actors.config import ASRConfig, AudioConfig, PoolConfig
from actors.errors import UsageError
from pipelines.cluster import check_placement, pool_resources, with_threads
from pipelines.config import RunConfig


def test_without_gpus_one_replica_runs_on_the_cpu() -> None:
    assert pool_resources(PoolConfig(), 0.7, {"CPU": 4.0}) == {"size": 1, "num_gpus": 0.0, "num_cpus": 0}


def test_with_gpus_each_card_gets_a_share_of_both_pools() -> None:
    assert pool_resources(PoolConfig(), 0.7, {"CPU": 64.0, "GPU": 8.0}) == {"size": 8, "num_gpus": 0.7, "num_cpus": 0}


def test_settings_win() -> None:
    assert pool_resources(PoolConfig(size=3, num_gpus=0, num_cpus=2), 0.7, {"GPU": 8.0}) == {"size": 3, "num_gpus": 0, "num_cpus": 2}


def test_gpus_that_are_not_there_are_refused() -> None:
    with pytest.raises(UsageError, match="needs 4 GPUs, the cluster has 2"):
        pool_resources(PoolConfig(size=4, num_gpus=1), 0.7, {"GPU": 2.0})


def pool(size: int, num_gpus: float = 0, num_cpus: float = 0) -> dict[str, float]:
    return {"size": size, "num_gpus": num_gpus, "num_cpus": num_cpus}


def test_pools_that_leave_no_cpu_for_decoding_are_refused() -> None:
    pools = [pool(1, num_cpus=2), pool(1, num_cpus=1)]
    with pytest.raises(UsageError, match="reserve 3 CPUs"):
        check_placement(RunConfig(), pools, [{"CPU": 4.0}])
    check_placement(RunConfig(), pools, [{"CPU": 5.0}])


CARDS = {"CPU": 8.0, "GPU": 2.0}


@pytest.mark.parametrize(
    ("pools", "nodes"),
    [
        ([pool(2, 0.7), pool(2, 0.3)], [CARDS]),
        ([pool(4, 0.7), pool(4, 0.3)], [CARDS, CARDS]),
        ([pool(1, 2)], [CARDS]),
        ([pool(2, 1), pool(2, 0)], [CARDS]),
        ([pool(2, num_cpus=5)], [{"CPU": 8.0}, {"CPU": 8.0}]),
    ],
)
def test_what_fits_is_let_through(pools: list[dict[str, float]], nodes: list[dict[str, float]]) -> None:
    check_placement(RunConfig(), pools, nodes)


@pytest.mark.parametrize(
    ("pools", "nodes", "message"),
    [
        # Enough GPUs in sum, but no card, and no node, with room for the last one.
        ([pool(2, 0.7), pool(1, 0.6)], [CARDS], "replica 1 of 1 with 0.6 GPUs"),
        ([pool(3, 0.6)], [CARDS], "replica 3 of 3 with 0.6 GPUs"),
        ([pool(1, 2)], [{"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 1.0}], "replica 1 of 1 with 2 GPUs"),
        ([pool(2, 1, 5)], [CARDS], "replica 2 of 2 with 1 GPUs and 5 CPUs"),
        ([pool(3, num_cpus=5)], [{"CPU": 8.0}, {"CPU": 8.0}], "replica 3 of 3"),
        ([pool(2, num_cpus=1)], [{"CPU": 1.5}, {"CPU": 1.5}, {"CPU": 1.5}, {"CPU": 0.5}], "decoding wants 2 CPUs of one node"),
        ([pool(1)], [{"CPU": 8.0, "memory": 5e8}], "1 GiB"),
    ],
)
def test_what_can_never_be_placed_is_refused(pools: list[dict[str, float]], nodes: list[dict[str, float]], message: str) -> None:
    config = RunConfig(audio=AudioConfig(num_cpus=2)) if "decoding" in message else RunConfig()
    with pytest.raises(UsageError, match=message):
        check_placement(config, pools, nodes)


def test_a_failed_check_says_what_the_nodes_have() -> None:
    with pytest.raises(UsageError, match="the nodes have 2 GPUs and 8 CPUs; lower"):
        check_placement(RunConfig(), [pool(3, 0.6)], [CARDS])


def test_threads_are_divided_on_cpus_only() -> None:
    assert with_threads(ASRConfig(threads=3), 2, on_gpu=False).threads == 3
    assert with_threads(ASRConfig(), 2, on_gpu=True).threads is None
    divided = with_threads(ASRConfig(), 1_000_000, on_gpu=False).threads
    assert divided == 1
