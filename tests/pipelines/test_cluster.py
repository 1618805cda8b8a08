"""What a run takes from the cluster: decided before anything waits in silence."""

import pytest

from actors.config import ASRConfig, PoolConfig
from actors.errors import UsageError
from pipelines.cluster import check_cpus, pool_resources, with_threads
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


def test_pools_that_leave_no_cpu_for_decoding_are_refused() -> None:
    pools = [{"size": 1, "num_cpus": 2, "num_gpus": 0}, {"size": 1, "num_cpus": 1, "num_gpus": 0}]
    with pytest.raises(UsageError, match="reserve 3 CPUs"):
        check_cpus(RunConfig(), {"CPU": 4.0}, pools)
    check_cpus(RunConfig(), {"CPU": 5.0}, pools)


def test_threads_are_divided_on_cpus_only() -> None:
    assert with_threads(ASRConfig(threads=3), 2, on_gpu=False).threads == 3
    assert with_threads(ASRConfig(), 2, on_gpu=True).threads is None
    divided = with_threads(ASRConfig(), 1_000_000, on_gpu=False).threads
    assert divided == 1
