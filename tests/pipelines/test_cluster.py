"""Ray on this machine, and what a pool asks of it."""

from actors.config import ASRConfig
from pipelines.cluster import pool_arguments, with_threads


def test_threads_are_divided_on_cpus_only() -> None:
    assert with_threads(ASRConfig(threads=3), 2, on_gpu=False).threads == 3
    assert with_threads(ASRConfig(), 2, on_gpu=True).threads is None
    divided = with_threads(ASRConfig(), 1_000_000, on_gpu=False).threads
    assert divided == 1


def test_a_pool_asks_for_labels_only_where_it_wants_some() -> None:
    pool = {"size": 1, "num_gpus": 1.0, "num_cpus": 0.0}
    assert "label_selector" not in pool_arguments({**pool, "label_selector": {}}, alone=False)
    assert pool_arguments({**pool, "label_selector": {"zone": "a"}}, alone=False)["label_selector"] == {"zone": "a"}
