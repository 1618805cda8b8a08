"""Where the speaker model runs, beside the recogniser and the aligner."""

from typing import Any

import pytest

from pipelines.cluster.nodes import Node
from pipelines.cluster.placement import Placement, place
from pipelines.config import RunConfig

GPU_NODE = Node({"CPU": 16.0, "GPU": 2.0, "memory": 64.0 * 2**30})
CPU_NODE = Node({"CPU": 8.0, "memory": 64.0 * 2**30})


def placed(node: Node, **settings: Any) -> Placement:
    speakers = {"backend": "campplus", **settings.pop("speakers", {})}
    return place(RunConfig.model_validate({"speakers": speakers, **settings}), [node])


def test_without_speakers_nothing_changes() -> None:
    placement = placed(GPU_NODE, speakers={"backend": "none"})
    assert placement.speakers is None
    assert (placement.asr.num_gpus, placement.aligner.num_gpus) == (0.7, 0.3)


def test_it_has_a_part_of_each_card_that_the_others_share() -> None:
    placement = placed(GPU_NODE)
    assert placement.speakers is not None
    assert (placement.speakers.size, placement.speakers.num_gpus) == (2, 0.1)
    assert placement.asr.num_gpus + placement.aligner.num_gpus == pytest.approx(0.9)
    assert placement.cards("speakers") == 2


def test_a_recogniser_alone_leaves_it_room() -> None:
    placement = placed(GPU_NODE, aligner={"backend": "none"})
    assert placement.speakers is not None
    assert (placement.asr.num_gpus, placement.speakers.num_gpus) == (0.9, 0.1)


def test_it_runs_on_cpus_where_the_shares_were_set_by_hand() -> None:
    placement = placed(GPU_NODE, asr={"pool": {"num_gpus": 1}}, aligner={"pool": {"num_gpus": 0}})
    assert placement.speakers is not None
    assert (placement.speakers.num_gpus, placement.speakers.size) == (0.0, 1)
    assert placement.asr.num_gpus == 1


def test_its_own_share_can_be_set() -> None:
    placement = placed(GPU_NODE, speakers={"pool": {"num_gpus": 0, "size": 3}})
    assert placement.speakers is not None
    assert (placement.speakers.size, placement.speakers.num_gpus) == (3, 0.0)
    assert (placement.asr.num_gpus, placement.aligner.num_gpus) == (0.7, 0.3)


def test_on_cpus_it_is_one_replica() -> None:
    placement = placed(CPU_NODE)
    assert placement.speakers is not None
    assert (placement.speakers.size, placement.speakers.num_gpus) == (1, 0.0)
