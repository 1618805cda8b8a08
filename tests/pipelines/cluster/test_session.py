"""A replica's share of this machine."""

import os
from typing import Any

import pytest

from actors.config import ASRConfig
from pipelines.cluster import local_machine
from pipelines.cluster.nodes import GIB
from pipelines.cluster.session import this_machine, with_share
from pipelines.config_sections import ClusterConfig


def test_a_replica_without_a_card_runs_on_its_part_of_the_cores() -> None:
    """Ray lets it see all cards: it would take the first one."""
    config = with_share(ASRConfig(), 0, 8)
    assert (config.device, config.threads, config.pool.num_gpus) == ("cpu", 8, 0)
    assert with_share(ASRConfig(threads=3, device="cuda"), 0, 8).threads == 3
    assert with_share(ASRConfig(threads=3, device="cuda:1"), 0, 8).device == "cuda:1"
    assert with_share(ASRConfig(backend="vllm"), 0, 8).device == "auto"


def test_a_replica_knows_its_share_of_a_card() -> None:
    config = with_share(ASRConfig(), 0.7, 8)
    assert (config.device, config.threads, config.pool.num_gpus) == ("auto", None, 0.7)


def test_the_object_store_grows_with_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 256 * GIB / 4096}
    monkeypatch.setattr(os, "sysconf", sizes.__getitem__)
    monkeypatch.setattr(local_machine, "_free_shared_memory", lambda: 100.0)
    assert [local_machine.object_store_size(gpus) for gpus in (0, 1, 8)] == [1, 4, 18]
    sizes["SC_PHYS_PAGES"] = 32 * GIB / 4096
    assert local_machine.object_store_size(8) == 9.6
    # As in a container without --shm-size.
    monkeypatch.setattr(local_machine, "_free_shared_memory", lambda: 0.06)
    assert local_machine.object_store_size(8) == 1


def test_a_local_object_store_follows_the_settings_or_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_machine, "object_store_size", lambda gpus: 2.0 + 2 * gpus)

    def size(**settings: Any) -> float:
        config = ClusterConfig.model_validate({"num_cpus": 2, **settings})
        return float(this_machine(config).resources["object_store_memory"] / GIB)

    assert size(num_gpus=2) == 6
    assert size(num_gpus=2, object_store_memory=0.5) == 0.5
    assert size(num_gpus=0) == 2
