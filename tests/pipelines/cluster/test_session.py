"""A replica's share of this machine."""

from actors.config import ASRConfig
from pipelines.cluster.session import with_share


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
