"""The placement of a run is decided, or refused, before Ray waits for resources that do not exist."""

import pytest

from actors.config import AlignerConfig, ASRConfig, AudioConfig
from actors.config.base import PoolConfig
from actors.errors import FatalError, UsageError
from pipelines.cluster.nodes import ACCELERATOR, NODE_ID, Node
from pipelines.cluster.placement import Placement, lay_out, place
from pipelines.cluster.pools import PoolResources
from pipelines.config import RunConfig
from pipelines.config_sections import ClusterConfig


def test_replicas_on_cpus_divide_the_cores_of_their_own_node() -> None:
    """A small head must not decide how many threads a large worker has."""
    nodes = [Node({"CPU": 2.0}), Node({"CPU": 64.0, "memory": 8e9})]
    config = RunConfig(
        asr=ASRConfig(pool=PoolConfig(size=3, num_cpus=4)), aligner=AlignerConfig(pool=PoolConfig(num_cpus=4))
    )
    placement = place(config, nodes)
    assert {slot.node for slot in placement.slots} == {1}
    assert len(placement.slots) == 4
    assert placement.cores_each(("recogniser", "aligner")) == 16
    assert placement.cores_each(("recogniser",)) == 21
    assert placement.cores_each(("recogniser", "aligner"), machine=8) == 2
    with_card = place(RunConfig(), [Node({"CPU": 8.0, "GPU": 1.0})])
    assert with_card.cores_each(("recogniser", "aligner")) == 0


def lay_out_pools(config: RunConfig, pools: list[PoolResources], nodes: list[dict[str, float]]) -> Placement:
    first, second = (*pools, pool(1))[:2]
    return lay_out(config, {"recogniser": first, "aligner": second}, [Node(resources) for resources in nodes])


def pool(size: int, num_gpus: float = 0, num_cpus: float = 0) -> PoolResources:
    return PoolResources(size, num_gpus, num_cpus)


def test_pools_that_leave_no_cpu_for_decoding_are_refused() -> None:
    pools = [pool(1, num_cpus=2), pool(1, num_cpus=1)]
    with pytest.raises(UsageError, match="reserve 3 CPUs"):
        lay_out_pools(RunConfig(), pools, [{"CPU": 4.0}])
    lay_out_pools(RunConfig(), pools, [{"CPU": 5.0}])


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
def test_pools_that_fit_are_laid_out(pools: list[PoolResources], nodes: list[dict[str, float]]) -> None:
    lay_out_pools(RunConfig(), pools, nodes)


@pytest.mark.parametrize(
    ("pools", "nodes", "message"),
    [
        # There are enough GPUs in total, but no card, or no node, has room for the last replica.
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
def test_pools_that_never_fit_are_refused(
    pools: list[PoolResources], nodes: list[dict[str, float]], message: str
) -> None:
    config = RunConfig(audio=AudioConfig(num_cpus=2)) if "decoding" in message else RunConfig()
    with pytest.raises(UsageError, match=message):
        lay_out_pools(config, pools, nodes)


def test_a_refusal_says_what_the_nodes_have() -> None:
    with pytest.raises(UsageError, match="the nodes have 2 GPUs and 8 CPUs; lower"):
        lay_out_pools(RunConfig(), [pool(3, 0.6)], [CARDS])


def make_nodes(count: int, gpus: int, cpus: int, accelerator: str | None = None, **labels: str) -> list[Node]:
    typed = {ACCELERATOR: accelerator} if accelerator else {}
    return [
        Node({"CPU": cpus, "GPU": gpus}, {**typed, **labels, NODE_ID: f"{gpus}-{n}"}, f"{gpus}-{n}")
        for n in range(count)
    ]


def configure(asr: dict | None = None, aligner: dict | None = None, **cluster: object) -> RunConfig:
    pools = [PoolConfig.model_validate(pool or {}) for pool in (asr, aligner)]
    return RunConfig(
        asr=ASRConfig(pool=pools[0]),
        aligner=AlignerConfig(pool=pools[1]),
        cluster=ClusterConfig.model_validate(cluster),
    )


def slots(placement: Placement, stage: str) -> list[tuple[int, tuple[int, ...]]]:
    return [(slot.node, slot.cards) for slot in placement.slots if slot.stage == stage]


@pytest.mark.parametrize("gpus", [1, 2, 8])
def test_each_card_holds_a_recogniser_and_an_aligner(gpus: int) -> None:
    placement = place(RunConfig(), make_nodes(1, gpus, 16))
    expected = [(0, (card,)) for card in range(gpus)]
    assert slots(placement, "recogniser") == slots(placement, "aligner") == expected
    assert placement.cards("recogniser", "aligner") == gpus
    assert placement.decode_tasks == (16,)


def test_without_an_aligner_a_recogniser_has_a_whole_card() -> None:
    placement = place(RunConfig(aligner=AlignerConfig(backend="none")), make_nodes(2, 1, 4))
    assert (placement.asr.size, placement.asr.num_gpus, placement.aligner.num_gpus) == (2, 1.0, 0.0)


def test_pools_on_different_types_of_cards_have_whole_cards() -> None:
    nodes = [*make_nodes(1, 8, 16, "H100"), *make_nodes(2, 2, 8, "L4"), *make_nodes(1, 0, 32)]
    placement = place(configure({"accelerator": "H100"}, {"accelerator": "L4"}), nodes)
    assert (placement.asr.size, placement.asr.num_gpus) == (8, 1.0)
    assert (placement.aligner.size, placement.aligner.num_gpus) == (4, 1.0)
    assert {node for node, _ in slots(placement, "recogniser")} == {0}
    assert {node for node, _ in slots(placement, "aligner")} == {1, 2}
    assert placement.asr.label_selector == {ACCELERATOR: "in(H100)"}
    either = place(configure({"accelerator": "H100, L4"}), nodes)
    assert either.asr.label_selector == {ACCELERATOR: "in(H100,L4)"}
    both = place(configure({"accelerator": "H100, L4"}, {"accelerator": "H100, L4"}), nodes)
    assert (both.asr.size, both.asr.num_gpus) == (12, 0.7)


def test_labels_keep_a_pool_on_its_nodes() -> None:
    nodes = [*make_nodes(1, 1, 4, zone="a"), *make_nodes(2, 1, 4, zone="b")]
    placement = place(configure({"labels": {"zone": "b"}}, {"labels": {"zone": "!a"}}), nodes)
    assert [node for node, _ in slots(placement, "recogniser")] == [1, 2]
    assert [node for node, _ in slots(placement, "aligner")] == [1, 2]


def test_spaces_in_label_selectors_are_removed() -> None:
    """Ray would take them as part of the value, and would not exclude zone b here."""
    assert configure({"labels": {"zone": "!in(a, b)"}}).asr.pool.labels == {"zone": "!in(a,b)"}


def test_labels_that_no_node_has_are_refused_with_a_list_of_labels() -> None:
    message = r"asr.pool may only run on nodes with .*in\(B200\), .* there are "
    with pytest.raises(UsageError, match=message + "ray.io/accelerator-type=H100, zone=a"):
        place(configure({"accelerator": "B200"}), make_nodes(1, 1, 4, "H100", zone="a"))


def test_more_gpus_than_nodes_of_the_type_have_are_refused() -> None:
    with pytest.raises(UsageError, match=r"needs 3 GPUs, the cluster has 2 on nodes with .*in\(L4\)"):
        place(
            configure({"accelerator": "L4", "size": 3, "num_gpus": 1}),
            [*make_nodes(1, 2, 4, "L4"), *make_nodes(1, 8, 4, "H100")],
        )


@pytest.mark.parametrize("accelerator", [None, "L4"])
def test_decoding_runs_only_on_or_only_off_gpu_nodes(accelerator: str | None) -> None:
    nodes = [*make_nodes(2, 1, 8, accelerator), *make_nodes(3, 0, 4)]
    name, values = (ACCELERATOR, "L4") if accelerator else (NODE_ID, "1-0,1-1")
    off, on = (place(configure(decode_nodes=where), nodes) for where in ("cpu", "gpu"))
    assert (off.decode_tasks, off.decode_labels) == ((0, 0, 4, 4, 4), {name: f"!in({values})"})
    assert (on.decode_tasks, on.decode_labels) == ((8, 8, 0, 0, 0), {name: f"in({values})"})
    assert place(RunConfig(), nodes).decode_tasks == (8, 8, 4, 4, 4)
    labelled = place(configure(decode_labels={"fast": "yes"}), [*nodes, *make_nodes(1, 0, 2, fast="yes")])
    assert labelled.decode_tasks == (0, 0, 0, 0, 0, 2)


@pytest.mark.parametrize(
    ("where", "nodes"), [("cpu", [*make_nodes(2, 1, 8), *make_nodes(1, 0, 0)]), ("gpu", make_nodes(2, 0, 8))]
)
def test_decoding_without_any_node_is_refused(where: str, nodes: list[Node]) -> None:
    with pytest.raises(UsageError, match=f"decode_nodes={where}, but there is no node"):
        place(configure(decode_nodes=where), nodes)


def test_replicas_on_the_only_decoding_nodes_are_refused() -> None:
    """Replicas take all CPUs of the nodes that may decode, however many the others have."""
    with pytest.raises(
        UsageError, match=r"decoding wants 1 CPUs of one node on nodes with .* none has more than 0"
    ):
        place(configure({"num_cpus": 4}, decode_nodes="gpu"), [*make_nodes(1, 1, 4), *make_nodes(1, 0, 64)])


def test_pools_that_leave_no_whole_cpu_for_the_filter_are_refused() -> None:
    with pytest.raises(UsageError, match="no node has a whole CPU left"):
        lay_out_pools(
            RunConfig(audio=AudioConfig(num_cpus=1.5)),
            [pool(1), pool(1)],
            [{"CPU": 1.5}, {"CPU": 0.5}, {"CPU": 0.5}],
        )


def test_replicas_without_gpus_run_off_gpu_nodes() -> None:
    placement = place(
        configure({"num_gpus": 0, "size": 2, "num_cpus": 1}, {"num_gpus": 0}),
        [*make_nodes(1, 4, 64), *make_nodes(2, 0, 8)],
    )
    assert {node for node, _ in slots(placement, "recogniser")} == {1, 2}


def test_one_replica_is_enough_when_nodes_have_gone() -> None:
    config = configure({"size": 4}, {"size": 4})
    with pytest.raises(UsageError):
        place(config, make_nodes(1, 1, 8))
    assert place(config, make_nodes(1, 1, 8), fewer=True).asr.size == 1
    with pytest.raises(FatalError, match="not enough to finish"):
        place(config, make_nodes(1, 1, 1), fewer=True)
