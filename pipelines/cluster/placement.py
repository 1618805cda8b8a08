"""Where a run goes: the replicas of the models on each node, their cards, and where decoding runs.

Ray waits without a message for resources that do not exist. Here that is found out before anything starts,
from Ray's list of nodes or from nodes that are only described: replicas are laid out as Ray does it, and what
they leave must suffice for the rest of the run. Nothing here calls Ray.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from actors.config.base import PoolConfig
from actors.errors import FatalError, UsageError
from pipelines.cluster.nodes import ACCELERATOR, NODE_ID, Node, matches, on_nodes_with
from pipelines.cluster.pools import EPSILON, PoolResources, decide_pools
from pipelines.config import RunConfig

FILTER_MEMORY = 1 << 30  # bytes that Ray's resume filter reserves


@dataclass(frozen=True)
class ReplicaSlot:
    """Where one replica runs: its stage, its node's number, and the cards there that it has (a part of)."""

    stage: str
    node: int
    cards: tuple[int, ...]


@dataclass(frozen=True)
class Placement:
    """The pools as Ray must be asked for them, and where that puts everything.

    Attributes:
        nodes: the living nodes.
        asr: the recogniser's pool.
        aligner: the aligner's pool.
        slots: where each replica runs.
        free_cpus: CPUs of each node that the replicas leave.
        decode_labels: label selector of decoding tasks.
        decode_tasks: decoding tasks at a time on each node, if nothing else wants its CPUs.
        speakers: the speaker model's pool; None: there is none.
    """

    nodes: tuple[Node, ...]
    asr: PoolResources
    aligner: PoolResources
    slots: tuple[ReplicaSlot, ...]
    free_cpus: tuple[float, ...]
    decode_labels: dict[str, str]
    decode_tasks: tuple[int, ...]
    speakers: PoolResources | None = None

    @property
    def on_gpu(self) -> bool:
        """Whether there are GPUs."""
        return any(node.gpus for node in self.nodes)

    def cores_each(self, stages: Sequence[str], machine: int | None = None) -> int:
        """Cores for each replica without a card, on the node with the fewest; 0 if all replicas have a card.

        Args:
            stages: those that have a model.
            machine: the real number of cores, where Ray was told another one.
        """
        on_cpus = Counter(slot.node for slot in self.slots if slot.stage in stages and not slot.cards)
        cores = [int(machine or self.nodes[node].cpus) // replicas for node, replicas in on_cpus.items()]
        return max(1, min(cores)) if cores else 0

    def cards(self, *stages: str) -> int:
        """Number of cards that hold replicas of these stages."""
        return len({(slot.node, card) for slot in self.slots if slot.stage in stages for card in slot.cards})


def place(config: RunConfig, nodes: Sequence[Node], *, fewer: bool = False) -> Placement:
    """Decide what the two pools of models ask for, and check that the run fits.

    Args:
        config: the settings.
        nodes: the living nodes.
        fewer: accept one replica of each model if the settings do not fit any more, because nodes have gone.

    Raises:
        UsageError: the run does not fit; the message says what to change.
        FatalError: with `fewer`, if even one replica of each does not fit.
    """
    asr, aligner = config.asr.pool, config.aligner.pool
    speakers = config.speakers.pool if config.speakers.backend != "none" else None
    try:
        return _place_pools(config, asr, aligner, nodes, speakers)
    except UsageError:
        if not fewer:
            raise
        try:
            one = {"size": 1}
            return _place_pools(
                config,
                asr.model_copy(update=one),
                aligner.model_copy(update=one),
                nodes,
                speakers and speakers.model_copy(update=one),
            )
        except UsageError as error:
            raise FatalError(
                f"what the cluster still has is not enough to finish the run: {error.message}"
            ) from None


def _place_pools(
    config: RunConfig,
    asr: PoolConfig,
    aligner: PoolConfig,
    nodes: Sequence[Node],
    speakers: PoolConfig | None,
) -> Placement:
    return lay_out(config, decide_pools(config, asr, aligner, nodes, speakers), nodes)


def lay_out(config: RunConfig, pools: Mapping[str, PoolResources], nodes: Sequence[Node]) -> Placement:
    """Lay out replicas as Ray does it, and check that the rest of the run fits beside them.

    Ray places one replica after the other, each on the fullest card that still has room. A fraction of a GPU
    is a fraction of one card, and a replica or a task takes everything from one node, however much the others
    have. Among nodes that are alike Ray may choose others than these.

    Args:
        config: the settings.
        pools: from `decide_pools`, by stage, in the order of the stages.
        nodes: the living nodes.

    Raises:
        UsageError: the run does not fit; the message says what to change.
    """
    cards = [[1.0] * node.gpus for node in nodes]
    cpus = [node.cpus for node in nodes]
    slots = []
    for stage, pool in pools.items():
        allowed = [number for number, node in enumerate(nodes) if matches(node.labels, pool.label_selector)]
        for number in range(pool.size):
            taken = _take_slot(pool, cards, cpus, allowed)
            if taken is None:
                raise UsageError(
                    f"replica {number + 1} of {pool.size} with {pool.num_gpus:g} GPUs and {pool.num_cpus:g} "
                    f"CPUs fits no node{on_nodes_with(pool.label_selector)} beside the others: the nodes "
                    f"have {_summary(nodes)}; lower pool.size, pool.num_gpus or pool.num_cpus (a fraction of "
                    "a GPU must fit on one card), or set pool.num_gpus=0 to run on CPUs"
                )
            slots.append(ReplicaSlot(stage, *taken))
    decode_labels = _decode_labels(config, nodes)
    hosts = [number for number, node in enumerate(nodes) if matches(node.labels, decode_labels)]
    reserved = sum(pool.size * pool.num_cpus for pool in pools.values())
    _check_rest(config, cpus, hosts, decode_labels, reserved, nodes)
    decode_tasks = [
        int((free + EPSILON) / config.audio.num_cpus) if number in hosts else 0
        for number, free in enumerate(cpus)
    ]
    asr, aligner = pools["recogniser"], pools["aligner"]
    return Placement(
        (*nodes,), asr, aligner, (*slots,), (*cpus,), decode_labels, (*decode_tasks,), pools.get("speakers")
    )


def _take_slot(
    pool: PoolResources, cards: list[list[float]], cpus: list[float], allowed: Sequence[int]
) -> tuple[int, tuple[int, ...]] | None:
    """Take one replica's share from `cards` and `cpus`; returns its node and cards, None if none has room."""
    gpus, needed = pool.num_gpus, pool.num_cpus
    hosts = [node for node in allowed if cpus[node] + EPSILON >= needed]
    taken: tuple[int, ...] = ()
    if gpus > 1:
        candidates = [node for node in hosts if sum(free >= 1 for free in cards[node]) >= gpus]
        if not candidates:
            return None
        node = candidates[0]
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
    elif hosts:  # Ray keeps replicas without a GPU off nodes with GPUs as long as other nodes have room
        node = max(hosts, key=lambda host: (not cards[host], cpus[host]))
    else:
        return None
    for card in taken:
        cards[node][card] -= min(gpus, 1.0)
    cpus[node] -= needed
    return node, taken


def _decode_labels(config: RunConfig, nodes: Sequence[Node]) -> dict[str, str]:
    """The label selector of decoding: the settings' labels, and labels of nodes with or without GPUs."""
    wanted = config.cluster.decode_nodes
    if wanted == "any":
        return config.cluster.decode_labels
    with_gpus = [node for node in nodes if node.gpus]
    without = [node for node in nodes if not node.gpus and node.cpus]
    if not (with_gpus if wanted == "gpu" else without):
        kind = "with" if wanted == "gpu" else "without"
        raise UsageError(
            f"cluster.decode_nodes={wanted}, but there is no node {kind} GPUs that could decode: "
            "set cluster.decode_nodes=any"
        )
    # By type, so that a node which replaces another one counts as well; by name only where there are no
    # types.
    typed = all(ACCELERATOR in node.labels for node in with_gpus) and not any(
        ACCELERATOR in node.labels for node in without
    )
    label = ACCELERATOR if typed else NODE_ID
    values = sorted({node.labels.get(label, node.name) for node in with_gpus})
    selector = {label: f"{'!' * (wanted == 'cpu')}in({','.join(values)})"} if values else {}
    return {**selector, **config.cluster.decode_labels}


def _check_rest(
    config: RunConfig,
    cpus: Sequence[float],
    hosts: Sequence[int],
    labels: Mapping[str, str],
    reserved: float,
    nodes: Sequence[Node],
) -> None:
    """Refuse a run in which decoding, or Ray's resume filter beside it, would never get a CPU.

    Args:
        config: the settings.
        cpus: of each node, beside the replicas.
        hosts: numbers of the nodes that may decode.
        labels: their label selector, for the message.
        reserved: CPUs of all replicas.
        nodes: the living nodes.
    """
    wanted = config.audio.num_cpus
    needed, total = reserved + max(1.0, wanted) + 1, sum(node.cpus for node in nodes)
    if needed > total + EPSILON:
        raise UsageError(
            f"the actor pools reserve {reserved:g} CPUs; with one for decoding and one for the resume filter "
            f"the run needs {needed:g}, but the cluster has {total:g}: lower asr.pool.num_cpus or "
            "aligner.pool.num_cpus, or raise cluster.num_cpus"
        )
    most = max((cpus[host] for host in hosts), default=0.0)
    if most + EPSILON < wanted:
        raise UsageError(
            f"decoding wants {wanted:g} CPUs of one node{on_nodes_with(labels)}, but none has more than "
            f"{most:g} beside the actor pools: lower audio.num_cpus, asr.pool.num_cpus or "
            "aligner.pool.num_cpus, or let it run elsewhere (cluster.decode_nodes, cluster.decode_labels)"
        )
    if not any(_filter_fits(cpus, node, hosts, wanted) for node in range(len(cpus))):
        raise UsageError(
            f"beside the actor pools and a decoding task with {wanted:g} CPUs no node has a whole CPU left, "
            f"which Ray's resume filter and each write need: the nodes have {_summary(nodes)}; lower "
            "audio.num_cpus or the pools' num_cpus"
        )
    if max(node.resources.get("memory", float(FILTER_MEMORY)) for node in nodes) < FILTER_MEMORY:
        raise UsageError(
            "no node has the 1 GiB of memory that Ray's resume filter reserves: give Ray more memory, "
            "or use a larger machine"
        )


def _filter_fits(cpus: Sequence[float], filter_node: int, hosts: Sequence[int], wanted: float) -> bool:
    """Whether decoding and writing still fit once the resume filter has taken a CPU of this node."""
    left = [free - (node == filter_node) + EPSILON for node, free in enumerate(cpus)]
    return left[filter_node] >= 0 and any(left[host] >= wanted for host in hosts) and max(left) >= 1


def _summary(nodes: Sequence[Node]) -> str:
    return ", ".join(node.summary() for node in nodes)
