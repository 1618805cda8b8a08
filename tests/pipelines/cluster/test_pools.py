"""What the pools of model replicas ask for, decided from the settings and the GPUs of the nodes."""

import pytest

from actors.config import AlignerConfig, ASRConfig
from actors.config.base import PoolConfig
from actors.errors import UsageError
from pipelines.cluster.nodes import ACCELERATOR, Node
from pipelines.cluster.pools import PoolResources, decide_pools, explicit_pools, pool_resources
from pipelines.config import RunConfig


def test_without_gpus_one_replica_runs_on_the_cpu() -> None:
    assert pool_resources(PoolConfig(), share=0.7, gpus=0.0) == PoolResources(
        size=1, num_gpus=0.0, num_cpus=0
    )


def test_with_gpus_each_card_gets_a_share_of_both_pools() -> None:
    assert pool_resources(PoolConfig(), share=0.7, gpus=8.0) == PoolResources(
        size=8, num_gpus=0.7, num_cpus=0
    )


@pytest.mark.parametrize(
    ("gpus", "num_gpus", "size"), [(8, 2, 4), (8, 4, 2), (7, 2, 3), (2, 2, 1), (8, 0.5, 8)]
)
def test_there_are_as_many_replicas_of_several_cards_as_the_cards_allow(
    gpus: int, num_gpus: float, size: int
) -> None:
    assert pool_resources(PoolConfig(num_gpus=num_gpus), 0.7, gpus).size == size


def test_a_replica_of_more_cards_than_there_are_is_refused() -> None:
    message = "a pool of 1 replica with 4 GPUs each needs 4 GPUs, the cluster has 2"
    with pytest.raises(UsageError, match=message):
        pool_resources(PoolConfig(num_gpus=4), 0.7, 2.0)


def test_explicit_settings_are_used() -> None:
    pool = PoolConfig(size=3, num_gpus=0, num_cpus=2)
    assert pool_resources(pool, 0.7, 8.0) == PoolResources(size=3, num_gpus=0, num_cpus=2)


def test_more_gpus_than_the_cluster_has_are_refused() -> None:
    with pytest.raises(UsageError, match="needs 4 GPUs, the cluster has 2"):
        pool_resources(PoolConfig(size=4, num_gpus=1), 0.7, 2.0)


def test_pools_count_the_nodes_that_they_may_use() -> None:
    nodes = [
        Node({"CPU": 8.0, "GPU": 4.0}, {"zone": "a"}),
        Node({"CPU": 8.0, "GPU": 2.0}, {"zone": "b"}),
        Node({"CPU": 8.0}),
    ]
    config = RunConfig(
        asr=ASRConfig(pool=PoolConfig(labels={"zone": "a"})),
        aligner=AlignerConfig(pool=PoolConfig(labels={"zone": "b"})),
    )
    pools = decide_pools(config, config.asr.pool, config.aligner.pool, nodes)
    assert [(pool.size, pool.num_gpus, pool.label_selector) for pool in pools.values()] == [
        (4, 1.0, {"zone": "a"}),
        (2, 1.0, {"zone": "b"}),
    ]


@pytest.mark.parametrize(
    ("asr", "aligner", "expected"),
    [
        (ASRConfig(), AlignerConfig(), [(2, 0.7), (2, 0.3)]),
        (ASRConfig(), AlignerConfig(pool=PoolConfig(num_gpus=0)), [(2, 1.0), (1, 0)]),
        (ASRConfig(pool=PoolConfig(num_gpus=0)), AlignerConfig(), [(1, 0), (2, 1.0)]),
        (ASRConfig(backend="openai"), AlignerConfig(), [(1, 0), (2, 1.0)]),
    ],
)
def test_cards_are_shared_only_if_both_models_want_them(
    asr: ASRConfig, aligner: AlignerConfig, expected: list[tuple[int, float]]
) -> None:
    pools = decide_pools(RunConfig(), asr.pool, aligner.pool, [Node({"CPU": 8.0, "GPU": 2.0})])
    assert [(pool.size, pool.num_gpus) for pool in pools.values()] == expected


def test_pools_without_gpus_are_explicit() -> None:
    config = RunConfig(
        asr=ASRConfig(backend="openai"), aligner=AlignerConfig(pool=PoolConfig(size=2, num_gpus=1))
    )
    pools = explicit_pools(config)
    assert pools
    assert [(pool.size, pool.num_gpus) for pool in pools.values()] == [(1, 0), (2, 1)]
    nodes = [Node({"CPU": 8.0, "GPU": 2.0})]
    assert pools == decide_pools(config, config.asr.pool, config.aligner.pool, nodes)


def test_explicit_pools_need_no_nodes_and_open_ones_do() -> None:
    explicit = PoolConfig(size=4, num_gpus=0.5, accelerator="L4")
    config = RunConfig(asr=ASRConfig(pool=explicit), aligner=AlignerConfig(pool=explicit))
    expected = PoolResources(size=4, num_gpus=0.5, label_selector={ACCELERATOR: "in(L4)"})
    assert explicit_pools(config) == {"recogniser": expected, "aligner": expected}
    for open_ in (PoolConfig(size=4), PoolConfig(num_gpus=0.5)):
        half = RunConfig(asr=ASRConfig(pool=explicit), aligner=AlignerConfig(pool=open_))
        assert explicit_pools(half) is None
        without_words = half.model_copy(update={"aligner": AlignerConfig(backend="none", pool=open_)})
        assert explicit_pools(without_words) == {"recogniser": expected}
