"""What the two pools of model replicas ask Ray for, decided from the settings and the GPUs of the nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from actors.config.base import PoolConfig
from actors.errors import UsageError
from pipelines.cluster.nodes import ACCELERATOR, NODE_ID, Node, matches, on_nodes_with
from pipelines.config import RunConfig

EPSILON = 1e-6  # GPUs and CPUs: 0.7 and 0.3 are a whole card
SHARES = (0.7, 0.3)  # of a card, where a recogniser and an aligner share it
SPEAKER_SHARE = 0.1  # of a card, which the other models leave to a speaker model


@dataclass(frozen=True)
class PoolResources:
    """A pool of replicas as Ray must be asked for it.

    Attributes:
        size: number of replicas.
        num_gpus: GPUs of each replica; a fraction is a fraction of one card.
        num_cpus: CPUs of each replica.
        label_selector: labels of the nodes that the pool may use.
    """

    size: int = 1
    num_gpus: float = 0.0
    num_cpus: float = 0.0
    label_selector: Mapping[str, str] = field(default_factory=dict)


def decide_pools(
    config: RunConfig,
    asr: PoolConfig,
    aligner: PoolConfig,
    nodes: Sequence[Node],
    speakers: PoolConfig | None = None,
) -> dict[str, PoolResources]:
    """What to ask Ray for so that the models get their replicas, by stage, the recogniser first.

    Args:
        config: the settings.
        asr: the recogniser's pool, as in the settings or smaller.
        aligner: the aligner's pool, likewise.
        nodes: the living nodes.
        speakers: the speaker model's pool; None: there is none.

    Raises:
        UsageError: no node may be used, or the usable nodes have too few GPUs.
    """
    has_aligner = config.aligner.backend != "none"
    asr_nodes = allowed_nodes("asr", asr, nodes)
    aligner_nodes = allowed_nodes("aligner", aligner, nodes)
    # A recogniser behind HTTP wants no GPU.
    both_want_gpus = has_aligner and asr.num_gpus != 0 and aligner.num_gpus != 0
    shared = both_want_gpus and any(nodes[number].gpus for number in {*asr_nodes} & {*aligner_nodes})
    asr_share, aligner_share = SHARES if shared else (1.0, 1.0)
    pools = {}
    if speakers is not None:
        # A small model: it gets a part of each card that the others would share, and CPUs where their share
        # was set by hand.
        open_shares = {asr.num_gpus, aligner.num_gpus if has_aligner else None} <= {None, 0}
        share = SPEAKER_SHARE if open_shares else 0.0
        if speakers.num_gpus is None:
            asr_share, aligner_share = asr_share * (1 - share), aligner_share * (1 - share)
        speaker_nodes = allowed_nodes("speakers", speakers, nodes)
        gpus = _total_gpus(nodes, speaker_nodes)
        pools["speakers"] = pool_resources(speakers, share, gpus)
    return {
        "recogniser": pool_resources(asr, asr_share, _total_gpus(nodes, asr_nodes)),
        "aligner": pool_resources(aligner, aligner_share, _total_gpus(nodes, aligner_nodes))
        if has_aligner
        else PoolResources(),
        **pools,
    }


def explicit_pools(config: RunConfig) -> dict[str, PoolResources] | None:
    """The pools as from `decide_pools` if the settings alone decide them; None if nodes are needed."""
    sections = {"recogniser": config.asr.pool, "aligner": config.aligner.pool}
    if config.aligner.backend == "none":
        del sections["aligner"]
    # Without GPUs there is one replica, however many nodes there are.
    if any(pool.num_gpus is None or (pool.size is None and pool.num_gpus) for pool in sections.values()):
        return None
    return {
        stage: PoolResources(pool.size or 1, pool.num_gpus or 0.0, pool.num_cpus, pool_labels(pool))
        for stage, pool in sections.items()
    }


def pool_resources(pool: PoolConfig, share: float, gpus: float) -> PoolResources:
    """What to ask Ray for so that one pool gets its replicas.

    Args:
        pool: the pool's settings; what they leave open is decided here.
        share: the part of one GPU that a replica takes if the settings leave that open.
        gpus: GPUs of all nodes that the pool may use.

    Raises:
        UsageError: there are too few GPUs; Ray would wait for more without a message.
    """
    num_gpus = pool.num_gpus if pool.num_gpus is not None else (share if gpus else 0.0)
    size = pool.size or (max(1, int(gpus // max(1, num_gpus))) if num_gpus else 1)
    if num_gpus * size > gpus + EPSILON:
        replicas = "1 replica" if size == 1 else f"{size} replicas"
        raise UsageError(
            f"a pool of {replicas} with {num_gpus:g} GPUs each needs {num_gpus * size:g} GPUs, "
            f"the cluster has {gpus:g}{on_nodes_with(pool_labels(pool))}: lower pool.size or pool.num_gpus, "
            "or set pool.num_gpus=0 to run on CPUs"
        )
    return PoolResources(size, num_gpus, pool.num_cpus, pool_labels(pool))


def pool_labels(pool: PoolConfig) -> dict[str, str]:
    """The label selector of a pool."""
    types = [name.strip() for name in (pool.accelerator or "").split(",") if name.strip()]
    return {**({ACCELERATOR: f"in({','.join(types)})"} if types else {}), **pool.labels}


def allowed_nodes(name: str, pool: PoolConfig, nodes: Sequence[Node]) -> list[int]:
    """Numbers of the nodes that a pool may use.

    Args:
        name: of the settings' section, for the message.
        pool: its settings.
        nodes: the living nodes.

    Raises:
        UsageError: there are none.
    """
    selector = pool_labels(pool)
    allowed = [number for number, node in enumerate(nodes) if matches(node.labels, selector)]
    if not allowed:
        labels = sorted(
            {f"{key}={value}" for node in nodes for key, value in node.labels.items() if key != NODE_ID}
        )
        raise UsageError(
            f"{name}.pool may only run{on_nodes_with(selector)}, but no node has such labels; there are "
            f"{', '.join(labels) or 'none'}: change {name}.pool.accelerator or {name}.pool.labels, or "
            "start Ray with labels on those nodes (ray start --labels)"
        )
    return allowed


def _total_gpus(nodes: Sequence[Node], numbers: Sequence[int]) -> float:
    return sum(nodes[number].resources.get("GPU", 0.0) for number in numbers)
