"""Nodes with different GPUs and without: replicas and decoding run where the settings and the dry run say."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.cluster.nodes import ACCELERATOR, Node
from tests.e2e.cluster import recorded_stages
from tests.faults.harness import checker, jobs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# Nodes with GPUs. Ray does not check that they exist.
CARDS = {
    "one": (1, "L4"),
    "two": (2, "A10G"),
    "eight": (8, "H100"),
}
STORE = 100 << 20


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A head, a node that only decodes, and nodes with one, two and eight GPUs of different types."""
    from pipelines.cluster.session import LOCAL_ENVIRONMENT

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            **LOCAL_ENVIRONMENT,
            recorded_stages.FOLDER: str(tmp_path_factory.mktemp("notes")),
        }.items():
            patch.setenv(name, value)
        import ray
        from ray.cluster_utils import Cluster

        made = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 1,
                "num_gpus": 0,
                "object_store_memory": STORE,
                "include_dashboard": False,
            },
        )
        try:
            made.add_node(num_cpus=2, num_gpus=0, object_store_memory=STORE, labels={"name": "decoder"})
            for name, (gpus, kind) in CARDS.items():
                made.add_node(
                    num_cpus=2,
                    num_gpus=gpus,
                    object_store_memory=STORE,
                    labels={"name": name, ACCELERATOR: kind},
                )
            ray.init(address=made.address, log_to_driver=False)
            yield made
        finally:
            ray.shutdown()
            made.shutdown()


@pytest.fixture
def notes(cluster: Any) -> Path:
    folder = Path(os.environ[recorded_stages.FOLDER])
    for path in folder.iterdir():
        path.unlink()
    return folder


def run(
    manifest: Path, out: Path, notes: Path, *settings: str
) -> dict[str, list[tuple[str, tuple[str, ...]]]]:
    """Transcribe on the cluster with these settings; by stage, the node and GPUs of each process."""
    from pipelines import transcribe
    from pipelines.config import load_config
    from pipelines.execution import dataflow

    config = load_config(None, [*jobs.FAKE, "cluster.address=auto", "plan.task_seconds=1", *settings])
    with pytest.MonkeyPatch.context() as patch:
        for stage in (recorded_stages.decode, recorded_stages.Recognise, recorded_stages.Align):
            patch.setattr(dataflow, stage.__name__, stage)
        assert transcribe.transcribe(str(manifest), str(out), config).exit_code == 0
    found: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
    for path in notes.iterdir():
        place = json.loads(path.read_text())
        found.setdefault(place["stage"], []).append((place["node"], tuple(place["cards"])))
    return {stage: sorted(set(places) if stage == "decode" else places) for stage, places in found.items()}


@pytest.mark.parametrize("node", CARDS)
def test_each_gpu_holds_a_recogniser_and_an_aligner(
    cluster: Any, notes: Path, tmp_path: Path, node: str
) -> None:
    """0.7 and 0.3 of each of 1, 2 or 8 GPUs, on the requested type, where the dry run puts them."""
    from pipelines.cluster.placement import place
    from pipelines.cluster.session import living_nodes
    from pipelines.config import load_config

    gpus, kind = CARDS[node]
    manifest, ids = jobs.archive(tmp_path / "archive", 24, seconds=0.5)
    settings = (
        "asr.model=fake:5",
        f"asr.pool.accelerator={kind}",
        f"aligner.pool.accelerator={kind}",
        "cluster.decode_nodes=cpu",
    )
    places = run(manifest, tmp_path / "out", notes, *settings)
    assert places["recogniser"] == places["aligner"] == [(node, (str(card),)) for card in range(gpus)]
    assert {name for name, _ in places["decode"]} <= {"decoder", "head"}
    checker.check(tmp_path / "out", ids)

    placement = place(load_config(None, [*jobs.FAKE, *settings]), living_nodes())
    for stage in ("recogniser", "aligner"):
        said = [
            (placement.nodes[slot.node].labels["name"], tuple(map(str, slot.cards)))
            for slot in placement.slots
            if slot.stage == stage
        ]
        assert said == places[stage]
    assert {
        placement.nodes[number].labels.get("name", "head")
        for number, tasks in enumerate(placement.decode_tasks)
        if tasks
    } == {"decoder", "head"}


def test_stages_run_on_different_gpu_types(cluster: Any, notes: Path, tmp_path: Path) -> None:
    manifest, ids = jobs.archive(tmp_path / "archive", 8, seconds=0.5)
    settings = (
        "asr.model=fake:5",
        "asr.pool.accelerator=A10G, L4",
        "aligner.pool.labels={name: eight}",
        "aligner.pool.size=2",
        "cluster.decode_nodes=gpu",
    )
    places = run(manifest, tmp_path / "out", notes, *settings)
    assert places["recogniser"] == [("one", ("0",)), ("two", ("0",)), ("two", ("1",))]
    assert [name for name, _ in places["aligner"]] == ["eight"] * 2 and len(
        {card for _, card in places["aligner"]}
    ) == 2
    assert {name for name, _ in places["decode"]} <= set(CARDS)
    checker.check(tmp_path / "out", ids)


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_decoding_stays_on_its_nodes_where_a_gpu_has_no_type(
    cluster: Any, notes: Path, tmp_path: Path, kind: str
) -> None:
    """Nodes are then selected by Ray's node id."""
    from pipelines.cluster.nodes import NODE_ID
    from pipelines.cluster.placement import place
    from pipelines.cluster.session import living_nodes
    from pipelines.config import load_config

    plain = cluster.add_node(num_cpus=2, num_gpus=1, object_store_memory=STORE, labels={"name": "plain"})
    try:
        manifest, ids = jobs.archive(tmp_path / "archive", 8, seconds=0.5)
        settings = (
            "asr.model=fake:5",
            "asr.pool.size=1",
            "aligner.pool.size=1",
            f"cluster.decode_nodes={kind}",
        )
        assert NODE_ID in place(load_config(None, [*jobs.FAKE, *settings]), living_nodes()).decode_labels
        places = run(manifest, tmp_path / "out", notes, *settings)
        checker.check(tmp_path / "out", ids)
        assert {name for name, _ in places["decode"]} <= (
            {"decoder", "head"} if kind == "cpu" else {*CARDS, "plain"}
        )
    finally:
        cluster.remove_node(plain)


@pytest.mark.parametrize("wanted", ["spot", "!spot", "in(spot,reserved)", "!in(spot,reserved)"])
def test_label_selectors_match_like_rays_scheduler(cluster: Any, wanted: str) -> None:
    """`nodes.matches` against Ray's scheduler, including nodes without the label."""
    import ray

    from pipelines.cluster.nodes import matches
    from pipelines.cluster.session import living_nodes

    names = {"spot": "eight", "reserved": "two"}
    selector = {"name": wanted.replace("spot", names["spot"]).replace("reserved", names["reserved"])}

    @ray.remote(num_cpus=0, label_selector=selector)
    def where() -> str:
        import time

        time.sleep(0.2)
        return ray.get_runtime_context().get_node_labels().get("name", "head")

    allowed = {node.labels.get("name", "head") for node in living_nodes() if matches(node.labels, selector)}
    assert set(ray.get([where.remote() for _ in range(6)])) <= allowed


def test_a_described_node_equals_a_real_one(cluster: Any) -> None:
    """The dry run uses Ray's own names of resources and labels."""
    from pipelines.cluster.session import living_nodes

    eight = next(node for node in living_nodes() if node.labels.get("name") == "eight")
    assert isinstance(eight, Node) and (eight.cpus, eight.gpus, eight.labels[ACCELERATOR]) == (2, 8, "H100")
    assert eight.resources["object_store_memory"] == STORE and eight.resources["memory"] > 0
