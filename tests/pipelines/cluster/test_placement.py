"""Where a run goes: decided, or refused, before anything waits in silence."""

import pytest

from actors.config import AlignerConfig, ASRConfig, AudioConfig, PoolConfig
from actors.errors import FatalError, UsageError
from pipelines.cluster.nodes import ACCELERATOR, NODE_ID, Node
from pipelines.cluster.placement import Placement, lay_out, placed, pool_resources, pools, told
from pipelines.config import RunConfig
from pipelines.config_sections import ClusterConfig


def test_without_gpus_one_replica_runs_on_the_cpu() -> None:
    assert pool_resources(PoolConfig(), 0.7, {"CPU": 4.0}) == {
        "size": 1,
        "num_gpus": 0.0,
        "num_cpus": 0,
        "label_selector": {},
    }


def test_with_gpus_each_card_gets_a_share_of_both_pools() -> None:
    assert pool_resources(PoolConfig(), 0.7, {"CPU": 64.0, "GPU": 8.0}) == {
        "size": 8,
        "num_gpus": 0.7,
        "num_cpus": 0,
        "label_selector": {},
    }


@pytest.mark.parametrize(
    ("gpus", "num_gpus", "size"), [(8, 2, 4), (8, 4, 2), (7, 2, 3), (2, 2, 1), (8, 0.5, 8)]
)
def test_replicas_of_several_cards_are_as_many_as_there_are_cards_for(
    gpus: int, num_gpus: float, size: int
) -> None:
    assert pool_resources(PoolConfig(num_gpus=num_gpus), 0.7, {"GPU": gpus})["size"] == size


def test_a_replica_of_more_cards_than_there_are_is_refused() -> None:
    with pytest.raises(
        UsageError, match="a pool of 1 replicas with 4 GPUs each needs 4 GPUs, the cluster has 2"
    ):
        pool_resources(PoolConfig(num_gpus=4), 0.7, {"GPU": 2.0})


def test_settings_win() -> None:
    assert pool_resources(PoolConfig(size=3, num_gpus=0, num_cpus=2), 0.7, {"GPU": 8.0}) == {
        "size": 3,
        "num_gpus": 0,
        "num_cpus": 2,
        "label_selector": {},
    }


def test_gpus_that_are_not_there_are_refused() -> None:
    with pytest.raises(UsageError, match="needs 4 GPUs, the cluster has 2"):
        pool_resources(PoolConfig(size=4, num_gpus=1), 0.7, {"GPU": 2.0})


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
    wanted = pools(config, config.asr.pool, config.aligner.pool, nodes)
    assert [(pool["size"], pool["num_gpus"], pool["label_selector"]) for pool in wanted.values()] == [
        (4, 1.0, {"zone": "a"}),
        (2, 1.0, {"zone": "b"}),
    ]


def test_replicas_on_cpus_divide_the_cores_of_their_own_node() -> None:
    """A small head must not decide how many threads a large worker has."""
    nodes = [Node({"CPU": 2.0}), Node({"CPU": 64.0, "memory": 8e9})]
    config = RunConfig(
        asr=ASRConfig(pool=PoolConfig(size=3, num_cpus=4)), aligner=AlignerConfig(pool=PoolConfig(num_cpus=4))
    )
    place = placed(config, nodes)
    assert {seat.node for seat in place.seats} == {1} and len(place.seats) == 4
    assert place.cores_each(("recogniser", "aligner")) == 16 and place.cores_each(("recogniser",)) == 21
    assert place.cores_each(("recogniser", "aligner"), machine=8) == 2
    card = placed(RunConfig(), [Node({"CPU": 8.0, "GPU": 1.0})])
    assert card.cores_each(("recogniser", "aligner")) == 0


@pytest.mark.parametrize(
    ("asr", "aligner", "expected"),
    [
        (ASRConfig(), AlignerConfig(), [(2, 0.7), (2, 0.3)]),
        (ASRConfig(), AlignerConfig(pool=PoolConfig(num_gpus=0)), [(2, 1.0), (1, 0)]),
        (ASRConfig(pool=PoolConfig(num_gpus=0)), AlignerConfig(), [(1, 0), (2, 1.0)]),
        (ASRConfig(backend="openai"), AlignerConfig(), [(1, 0), (2, 1.0)]),
    ],
)
def test_cards_are_shared_only_where_both_models_want_them(
    asr: ASRConfig, aligner: AlignerConfig, expected: list[tuple[int, float]]
) -> None:
    wanted = pools(RunConfig(), asr.pool, aligner.pool, [Node({"CPU": 8.0, "GPU": 2.0})])
    assert [(pool["size"], pool["num_gpus"]) for pool in wanted.values()] == expected


def test_pools_without_gpus_leave_nothing_open_either() -> None:
    config = RunConfig(
        asr=ASRConfig(backend="openai"), aligner=AlignerConfig(pool=PoolConfig(size=2, num_gpus=1))
    )
    decided = told(config)
    assert decided and [(pool["size"], pool["num_gpus"]) for pool in decided.values()] == [(1, 0), (2, 1)]
    assert decided == pools(config, config.asr.pool, config.aligner.pool, [Node({"CPU": 8.0, "GPU": 2.0})])


def test_pools_that_leave_nothing_open_need_no_nodes_to_decide() -> None:
    whole = PoolConfig(size=4, num_gpus=0.5, accelerator="L4")
    config = RunConfig(asr=ASRConfig(pool=whole), aligner=AlignerConfig(pool=whole))
    wanted = {"size": 4, "num_gpus": 0.5, "num_cpus": 0, "label_selector": {ACCELERATOR: "in(L4)"}}
    assert told(config) == {"recogniser": wanted, "aligner": wanted}
    for open_ in (PoolConfig(size=4), PoolConfig(num_gpus=0.5)):
        half = RunConfig(asr=ASRConfig(pool=whole), aligner=AlignerConfig(pool=open_))
        assert told(half) is None
        assert told(half.model_copy(update={"aligner": AlignerConfig(backend="none", pool=open_)})) == {
            "recogniser": wanted
        }


def fit(config: RunConfig, pools: list[dict[str, float]], nodes: list[dict[str, float]]) -> Placement:
    first, second = (*pools, pool(1))[:2]
    return lay_out(config, {"recogniser": first, "aligner": second}, [Node(resources) for resources in nodes])


def pool(size: int, num_gpus: float = 0, num_cpus: float = 0) -> dict[str, float]:
    return {"size": size, "num_gpus": num_gpus, "num_cpus": num_cpus}


def test_pools_that_leave_no_cpu_for_decoding_are_refused() -> None:
    pools = [pool(1, num_cpus=2), pool(1, num_cpus=1)]
    with pytest.raises(UsageError, match="reserve 3 CPUs"):
        fit(RunConfig(), pools, [{"CPU": 4.0}])
    fit(RunConfig(), pools, [{"CPU": 5.0}])


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
    fit(RunConfig(), pools, nodes)


@pytest.mark.parametrize(
    ("pools", "nodes", "message"),
    [
        # Enough GPUs in sum, but no card, and no node, with room for the last one.
        ([pool(2, 0.7), pool(1, 0.6)], [CARDS], "replica 1 of 1 with 0.6 GPUs"),
        ([pool(3, 0.6)], [CARDS], "replica 3 of 3 with 0.6 GPUs"),
        ([pool(1, 2)], [{"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 1.0}], "replica 1 of 1 with 2 GPUs"),
        ([pool(2, 1, 5)], [CARDS], "replica 2 of 2 with 1 GPUs and 5 CPUs"),
        ([pool(3, num_cpus=5)], [{"CPU": 8.0}, {"CPU": 8.0}], "replica 3 of 3"),
        (
            [pool(2, num_cpus=1)],
            [{"CPU": 1.5}, {"CPU": 1.5}, {"CPU": 1.5}, {"CPU": 0.5}],
            "decoding wants 2 CPUs of one node",
        ),
        ([pool(1)], [{"CPU": 8.0, "memory": 5e8}], "1 GiB"),
    ],
)
def test_what_can_never_be_placed_is_refused(
    pools: list[dict[str, float]], nodes: list[dict[str, float]], message: str
) -> None:
    config = RunConfig(audio=AudioConfig(num_cpus=2)) if "decoding" in message else RunConfig()
    with pytest.raises(UsageError, match=message):
        fit(config, pools, nodes)


def test_a_failed_check_says_what_the_nodes_have() -> None:
    with pytest.raises(UsageError, match="the nodes have 2 GPUs and 8 CPUs; lower"):
        fit(RunConfig(), [pool(3, 0.6)], [CARDS])


def kind(count: int, gpus: int, cpus: int, accelerator: str | None = None, **labels: str) -> list[Node]:
    typed = {ACCELERATOR: accelerator} if accelerator else {}
    return [
        Node({"CPU": cpus, "GPU": gpus}, {**typed, **labels, NODE_ID: f"{gpus}-{n}"}, f"{gpus}-{n}")
        for n in range(count)
    ]


def settings(asr: dict | None = None, aligner: dict | None = None, **cluster: object) -> RunConfig:
    pools = [PoolConfig.model_validate(pool or {}) for pool in (asr, aligner)]
    return RunConfig(
        asr=ASRConfig(pool=pools[0]),
        aligner=AlignerConfig(pool=pools[1]),
        cluster=ClusterConfig.model_validate(cluster),
    )


def seats(place: Placement, stage: str) -> list[tuple[int, tuple[int, ...]]]:
    return [(seat.node, seat.cards) for seat in place.seats if seat.stage == stage]


@pytest.mark.parametrize("gpus", [1, 2, 8])
def test_each_card_holds_one_of_each(gpus: int) -> None:
    place = placed(RunConfig(), kind(1, gpus, 16))
    assert seats(place, "recogniser") == seats(place, "aligner") == [(0, (card,)) for card in range(gpus)]
    assert place.cards("recogniser", "aligner") == gpus and place.decoding == (16,)


def test_without_words_a_recogniser_has_its_card_for_itself() -> None:
    place = placed(RunConfig(aligner=AlignerConfig(backend="none")), kind(2, 1, 4))
    assert (place.asr["size"], place.asr["num_gpus"], place.aligner["num_gpus"]) == (2, 1.0, 0.0)


def test_pools_on_different_types_of_cards_have_whole_ones() -> None:
    nodes = [*kind(1, 8, 16, "H100"), *kind(2, 2, 8, "L4"), *kind(1, 0, 32)]
    place = placed(settings({"accelerator": "H100"}, {"accelerator": "L4"}), nodes)
    assert (place.asr["size"], place.asr["num_gpus"], place.aligner["size"], place.aligner["num_gpus"]) == (
        8,
        1.0,
        4,
        1.0,
    )
    assert {node for node, _ in seats(place, "recogniser")} == {0} and {
        node for node, _ in seats(place, "aligner")
    } == {1, 2}
    assert place.asr["label_selector"] == {ACCELERATOR: "in(H100)"}
    assert placed(settings({"accelerator": "H100, L4"}), nodes).asr["label_selector"] == {
        ACCELERATOR: "in(H100,L4)"
    }
    both = placed(settings({"accelerator": "H100, L4"}, {"accelerator": "H100, L4"}), nodes)
    assert (both.asr["size"], both.asr["num_gpus"]) == (12, 0.7)


def test_labels_keep_a_pool_on_its_nodes() -> None:
    nodes = [*kind(1, 1, 4, zone="a"), *kind(2, 1, 4, zone="b")]
    place = placed(settings({"labels": {"zone": "b"}}, {"labels": {"zone": "!a"}}), nodes)
    assert (
        [node for node, _ in seats(place, "recogniser")]
        == [node for node, _ in seats(place, "aligner")]
        == [1, 2]
    )


def test_spaces_in_selectors_do_not_reach_ray() -> None:
    """It would take them for a part of the value, and let the second and all further values through."""
    assert settings({"labels": {"zone": "!in(a, b)"}}).asr.pool.labels == {"zone": "!in(a,b)"}


def test_labels_that_no_node_has_are_refused_with_those_there_are() -> None:
    with pytest.raises(
        UsageError,
        match=r"asr.pool may only run on nodes with .*in\(B200\), .* there are ray.io/accelerator-type=H100, zone=a",
    ):
        placed(settings({"accelerator": "B200"}), kind(1, 1, 4, "H100", zone="a"))


def test_more_gpus_than_nodes_of_the_type_have_are_refused() -> None:
    with pytest.raises(UsageError, match=r"needs 3 GPUs, the cluster has 2 on nodes with .*in\(L4\)"):
        placed(
            settings({"accelerator": "L4", "size": 3, "num_gpus": 1}),
            [*kind(1, 2, 4, "L4"), *kind(1, 8, 4, "H100")],
        )


@pytest.mark.parametrize("accelerator", [None, "L4"])
def test_decoding_is_kept_off_or_on_gpu_nodes(accelerator: str | None) -> None:
    nodes = [*kind(2, 1, 8, accelerator), *kind(3, 0, 4)]
    name, values = (ACCELERATOR, "L4") if accelerator else (NODE_ID, "1-0,1-1")
    off, on = (placed(settings(decode_nodes=where), nodes) for where in ("cpu", "gpu"))
    assert (off.decoding, off.decode_labels) == ((0, 0, 4, 4, 4), {name: f"!in({values})"})
    assert (on.decoding, on.decode_labels) == ((8, 8, 0, 0, 0), {name: f"in({values})"})
    assert placed(RunConfig(), nodes).decoding == (8, 8, 4, 4, 4)
    assert placed(settings(decode_labels={"fast": "yes"}), [*nodes, *kind(1, 0, 2, fast="yes")]).decoding == (
        0,
        0,
        0,
        0,
        0,
        2,
    )


@pytest.mark.parametrize(
    ("where", "nodes"), [("cpu", [*kind(2, 1, 8), *kind(1, 0, 0)]), ("gpu", kind(2, 0, 8))]
)
def test_decoding_that_has_no_node_is_refused(where: str, nodes: list[Node]) -> None:
    with pytest.raises(UsageError, match=f"decode_nodes={where}, but there is no node"):
        placed(settings(decode_nodes=where), nodes)


def test_replicas_on_the_only_decoding_nodes_are_refused() -> None:
    """All CPUs of the nodes that may decode are taken by replicas, however many others have."""
    with pytest.raises(
        UsageError, match=r"decoding wants 1 CPUs of one node on nodes with .* none has more than 0"
    ):
        placed(settings({"num_cpus": 4}, decode_nodes="gpu"), [*kind(1, 1, 4), *kind(1, 0, 64)])


def test_no_whole_cpu_for_the_filter_is_refused() -> None:
    with pytest.raises(UsageError, match="no node has a whole CPU left"):
        fit(
            RunConfig(audio=AudioConfig(num_cpus=1.5)),
            [pool(1), pool(1)],
            [{"CPU": 1.5}, {"CPU": 0.5}, {"CPU": 0.5}],
        )


def test_replicas_without_gpus_keep_away_from_gpu_nodes() -> None:
    place = placed(
        settings({"num_gpus": 0, "size": 2, "num_cpus": 1}, {"num_gpus": 0}),
        [*kind(1, 4, 64), *kind(2, 0, 8)],
    )
    assert {node for node, _ in seats(place, "recogniser")} == {1, 2}


def test_fewer_replicas_will_do_when_nodes_have_gone() -> None:
    config = settings({"size": 4}, {"size": 4})
    with pytest.raises(UsageError):
        placed(config, kind(1, 1, 8))
    assert placed(config, kind(1, 1, 8), fewer=True).asr["size"] == 1
    with pytest.raises(FatalError, match="not enough to finish"):
        placed(config, kind(1, 1, 1), fewer=True)
