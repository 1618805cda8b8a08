"""Where a run goes: which node holds how many replicas of the models, on what share of which card, and where decoding runs.

Ray waits in silence for what never fits. Here that is found out before anything starts, from what Ray says of the nodes (or from nodes that do
not exist yet): replicas are laid out as Ray does it, and what they leave must do for the rest of the run. Nothing here asks Ray itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actors.config import PoolConfig
from actors.errors import FatalError, UsageError
from pipelines.cluster.nodes import ACCELERATOR, NODE_ID, Node, matches, where
from pipelines.config import RunConfig

FILTER_MEMORY = 1 << 30  # bytes that Ray's resume filter reserves
EPSILON = 1e-6  # GPUs and CPUs: 0.7 and 0.3 are a whole card
SHARES = (0.7, 0.3)  # of a card, where a recogniser and an aligner share it


@dataclass(frozen=True)
class ReplicaSlot:
    """One replica's place: its stage, its node's number, and the cards there that it has (a part of)."""

    stage: str
    node: int
    cards: tuple[int, ...]


@dataclass(frozen=True)
class Placement:
    """Pools as `map_batches` must ask for them, and where that puts everything."""

    nodes: tuple[Node, ...]
    asr: dict[str, Any]
    aligner: dict[str, Any]
    seats: tuple[ReplicaSlot, ...]
    cpus_left: tuple[float, ...]  # of each node, beside the replicas
    decode_labels: dict[str, str]  # label selector of decoding tasks
    decoding: tuple[int, ...]  # tasks at a time on each node, where nothing else wants its CPUs

    @property
    def on_gpu(self) -> bool:
        """Whether there are GPUs."""
        return any(node.gpus for node in self.nodes)

    def cores_each(self, stages: Sequence[str], machine: int | None = None) -> int:
        """Cores for each replica that has no card, on the node where there are fewest; 0 where all have one.

        Args:
            stages: those that have a model.
            machine: cores that there really are, where Ray was told of others.
        """
        beside = Counter(seat.node for seat in self.seats if seat.stage in stages and not seat.cards)
        cores = [int(machine or self.nodes[node].cpus) // replicas for node, replicas in beside.items()]
        return max(1, min(cores)) if cores else 0

    def cards(self, *stages: str) -> int:
        """Cards that hold replicas of these stages."""
        return len({(seat.node, card) for seat in self.seats if seat.stage in stages for card in seat.cards})


def pool_resources(pool: PoolConfig, share: float, resources: Mapping[str, float]) -> dict[str, Any]:
    """What `map_batches` must ask for so that one pool gets its replicas.

    Args:
        pool: the pool's settings; what they leave open is decided here.
        share: the part of one GPU that a replica takes where the settings leave that open.
        resources: of all nodes together that the pool may use.

    Raises:
        UsageError: if there are not enough GPUs, which Ray would wait for in silence.
    """
    gpus = resources.get("GPU", 0.0)
    num_gpus = pool.num_gpus if pool.num_gpus is not None else (share if gpus else 0.0)
    size = pool.size or (max(1, int(gpus // max(1, num_gpus))) if num_gpus else 1)
    if num_gpus * size > gpus + EPSILON:
        raise UsageError(
            f"a pool of {size} replicas with {num_gpus:g} GPUs each needs {num_gpus * size:g} GPUs, the cluster has {gpus:g}"
            f"{where(pool_labels(pool))}: lower pool.size or pool.num_gpus, or set pool.num_gpus=0 to run on CPUs"
        )
    return {
        "size": size,
        "num_gpus": num_gpus,
        "num_cpus": pool.num_cpus,
        "label_selector": pool_labels(pool),
    }


def told(config: RunConfig) -> dict[str, dict[str, Any]] | None:
    """What the models need, as `pools` has it, where the settings leave nothing of it to the nodes; None where they do."""
    sections = {"recogniser": config.asr.pool, "aligner": config.aligner.pool}
    if config.aligner.backend == "none":
        del sections["aligner"]
    # Without GPUs there is one replica, however many nodes there are.
    if any(pool.num_gpus is None or (pool.size is None and pool.num_gpus) for pool in sections.values()):
        return None
    return {
        stage: {
            "size": pool.size or 1,
            "num_gpus": pool.num_gpus,
            "num_cpus": pool.num_cpus,
            "label_selector": pool_labels(pool),
        }
        for stage, pool in sections.items()
    }


def pool_labels(pool: PoolConfig) -> dict[str, str]:
    """The label selector of a pool."""
    types = [name.strip() for name in (pool.accelerator or "").split(",") if name.strip()]
    return {**({ACCELERATOR: f"in({','.join(types)})"} if types else {}), **pool.labels}


def placed(config: RunConfig, nodes: Sequence[Node], *, fewer: bool = False) -> Placement:
    """Decide what the two pools of models ask for, and see whether the run fits.

    Args:
        config: the settings.
        nodes: those that live.
        fewer: be content with one replica of each where the settings do not fit any more, because nodes have gone.

    Raises:
        UsageError: with what does not fit, and what to change.
        FatalError: with `fewer`, where even that does not fit.
    """
    asr, aligner = config.asr.pool, config.aligner.pool
    try:
        return _placed(config, asr, aligner, nodes)
    except UsageError:
        if not fewer:
            raise
        try:
            one = {"size": 1}
            return _placed(config, asr.model_copy(update=one), aligner.model_copy(update=one), nodes)
        except UsageError as error:
            raise FatalError(
                f"what the cluster still has is not enough to finish the run: {error.message}"
            ) from None


def _placed(config: RunConfig, asr: PoolConfig, aligner: PoolConfig, nodes: Sequence[Node]) -> Placement:
    return lay_out(config, pools(config, asr, aligner, nodes), nodes)


def pools(
    config: RunConfig, asr: PoolConfig, aligner: PoolConfig, nodes: Sequence[Node]
) -> dict[str, dict[str, Any]]:
    """What to ask Ray for so that the models get their replicas: by stage, recogniser first.

    Args:
        config: the settings.
        asr: the pool of the recogniser, as the settings have it or smaller.
        aligner: of the aligner.
        nodes: those that live.

    Raises:
        UsageError: no node may be used, or those that may have not enough GPUs.
    """
    words = config.aligner.backend != "none"
    first, second = (_allowed(name, pool, nodes) for name, pool in (("asr", asr), ("aligner", aligner)))
    both = (
        words and asr.num_gpus != 0 and aligner.num_gpus != 0
    )  # want GPUs; a recogniser behind HTTP does not
    shared = both and any(nodes[place].gpus for place in {*first} & {*second})
    shares = SHARES if shared else (1.0, 1.0)
    recognisers = pool_resources(asr, shares[0], _sum(nodes, first))
    aligners = (
        pool_resources(aligner, shares[1], _sum(nodes, second))
        if words
        else {"size": 1, "num_gpus": 0.0, "num_cpus": 0.0}
    )
    return {"recogniser": recognisers, "aligner": aligners}


def lay_out(config: RunConfig, wanted: Mapping[str, dict[str, Any]], nodes: Sequence[Node]) -> Placement:
    """Lay out replicas as Ray does it: one after the other, each on the fullest card that still has room; and see whether the rest can run.

    A fraction of a GPU is a fraction of one card, and what a replica or a task takes it takes from one node, however much the others have.
    Among nodes that are alike Ray may choose others than these.

    Args:
        config: the settings.
        wanted: what `pools` decided, by stage, in the order of the stages.
        nodes: those that live.

    Raises:
        UsageError: with what does not fit, and what to change.
    """
    cards = [[1.0] * node.gpus for node in nodes]
    cpus = [node.cpus for node in nodes]
    seats = []
    for stage, pool in wanted.items():
        labels = pool.get("label_selector", {})
        allowed = [place for place, node in enumerate(nodes) if matches(node.labels, labels)]
        for number in range(pool["size"]):
            found = _seat(pool, cards, cpus, allowed)
            if found is None:
                raise UsageError(
                    f"replica {number + 1} of {pool['size']} with {pool['num_gpus']:g} GPUs and {pool['num_cpus']:g} CPUs fits no node"
                    f"{where(labels)} beside the others: the nodes have {', '.join(node.short() for node in nodes)}; lower pool.size, "
                    "pool.num_gpus or pool.num_cpus (a fraction of a GPU must fit on one card), or set pool.num_gpus=0 to run on CPUs"
                )
            seats.append(ReplicaSlot(stage, *found))
    decode_labels = _decode_labels(config, nodes)
    hosts = [place for place, node in enumerate(nodes) if matches(node.labels, decode_labels)]
    _check_rest(
        config,
        cpus,
        hosts,
        decode_labels,
        sum(pool["size"] * pool["num_cpus"] for pool in wanted.values()),
        nodes,
    )
    decoding = [
        int((free + EPSILON) / config.audio.num_cpus) if place in hosts else 0
        for place, free in enumerate(cpus)
    ]
    asr, aligner = wanted["recogniser"], wanted["aligner"]
    return Placement((*nodes,), asr, aligner, (*seats,), (*cpus,), decode_labels, (*decoding,))


def _seat(
    pool: Mapping[str, Any], cards: list[list[float]], cpus: list[float], allowed: Sequence[int]
) -> tuple[int, tuple[int, ...]] | None:
    """Take what one replica needs from what is left; its node and cards, or None if no node has it."""
    gpus, needed = pool["num_gpus"], pool["num_cpus"]
    hosts = [node for node in allowed if cpus[node] + EPSILON >= needed]
    taken: tuple[int, ...] = ()
    if gpus > 1:
        whole = [node for node in hosts if sum(free >= 1 for free in cards[node]) >= gpus]
        if not whole:
            return None
        node = whole[0]
        taken = tuple([card for card, free in enumerate(cards[node]) if free >= 1][: int(gpus)])
    elif gpus > 0:
        room = [
            (free, node, card)
            for node in hosts
            for card, free in enumerate(cards[node])
            if free + EPSILON >= gpus
        ]
        if not room:
            return None
        _, node, card = min(room)
        taken = (card,)
    elif hosts:  # Ray keeps what needs no GPU away from nodes with GPUs as long as others have room
        node = max(hosts, key=lambda host: (not cards[host], cpus[host]))
    else:
        return None
    for card in taken:
        cards[node][card] -= min(gpus, 1.0)
    cpus[node] -= needed
    return node, taken


def _decode_labels(config: RunConfig, nodes: Sequence[Node]) -> dict[str, str]:
    """The label selector of decoding: the settings' labels, and nodes with or without GPUs by what Ray labels them with."""
    if config.cluster.decode_nodes == "any":
        return config.cluster.decode_labels
    with_gpus = [node for node in nodes if node.gpus]
    without = [node for node in nodes if not node.gpus and node.cpus]
    if not (with_gpus if config.cluster.decode_nodes == "gpu" else without):
        kind = "with" if config.cluster.decode_nodes == "gpu" else "without"
        raise UsageError(
            f"cluster.decode_nodes={config.cluster.decode_nodes}, but there is no node {kind} GPUs that could decode: set cluster.decode_nodes=any"
        )
    # By type, so that a node which takes another one's place counts as well; by name only where there are no types.
    typed = all(ACCELERATOR in node.labels for node in with_gpus) and not any(
        ACCELERATOR in node.labels for node in without
    )
    name = ACCELERATOR if typed else NODE_ID
    values = sorted({node.labels.get(name, node.name) for node in with_gpus})
    selector = (
        {name: f"{'!' * (config.cluster.decode_nodes == 'cpu')}in({','.join(values)})"} if values else {}
    )
    return {**selector, **config.cluster.decode_labels}


def _check_rest(
    config: RunConfig,
    cpus: Sequence[float],
    hosts: Sequence[int],
    labels: Mapping[str, str],
    taken: float,
    nodes: Sequence[Node],
) -> None:
    """Refuse where decoding, or on a resume Ray's filter of what is done beside it, would never get a CPU."""
    wanted = config.audio.num_cpus
    needed, total = taken + max(1.0, wanted) + 1, sum(node.cpus for node in nodes)
    if needed > total + EPSILON:
        raise UsageError(
            f"the actor pools reserve {taken:g} CPUs; with one for decoding and one for the resume filter the run needs {needed:g}, "
            f"but the cluster has {total:g}: lower asr.pool.num_cpus or aligner.pool.num_cpus, or raise cluster.num_cpus"
        )
    best = max((cpus[host] for host in hosts), default=0.0)
    if best + EPSILON < wanted:
        raise UsageError(
            f"decoding wants {wanted:g} CPUs of one node{where(labels)}, but none has more than {best:g} beside the actor pools: "
            "lower audio.num_cpus, asr.pool.num_cpus or aligner.pool.num_cpus, or let it run elsewhere (cluster.decode_nodes, cluster.decode_labels)"
        )
    if not any(_left(cpus, place, hosts, wanted) for place in range(len(cpus))):
        raise UsageError(
            f"beside the actor pools and a decoding task with {wanted:g} CPUs no node has a whole CPU left, which Ray's resume filter and each "
            f"write need: the nodes have {', '.join(node.short() for node in nodes)}; lower audio.num_cpus or the pools' num_cpus"
        )
    if max(node.resources.get("memory", float(FILTER_MEMORY)) for node in nodes) < FILTER_MEMORY:
        raise UsageError(
            "no node has the 1 GiB of memory that Ray's resume filter reserves: give Ray more, or a larger machine"
        )


def _left(cpus: Sequence[float], filter_place: int, hosts: Sequence[int], wanted: float) -> bool:
    """Whether decoding still has a place with the filter's CPU taken here."""
    left = [free - (place == filter_place) + EPSILON for place, free in enumerate(cpus)]
    return left[filter_place] >= 0 and any(left[host] >= wanted for host in hosts) and max(left) >= 1


def _allowed(name: str, pool: PoolConfig, nodes: Sequence[Node]) -> list[int]:
    selector = pool_labels(pool)
    found = [place for place, node in enumerate(nodes) if matches(node.labels, selector)]
    if not found:
        had = sorted(
            {f"{key}={value}" for node in nodes for key, value in node.labels.items() if key != NODE_ID}
        )
        raise UsageError(
            f"{name}.pool may only run{where(selector)}, but no node has such labels; there are {', '.join(had) or 'none'}: "
            f"change {name}.pool.accelerator or {name}.pool.labels, or start Ray with labels on those nodes (ray start --labels)"
        )
    return found


def _sum(nodes: Sequence[Node], places: Sequence[int]) -> dict[str, float]:
    return {name: sum(nodes[place].resources.get(name, 0.0) for place in places) for name in ("CPU", "GPU")}
