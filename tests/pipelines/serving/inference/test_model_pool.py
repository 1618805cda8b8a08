"""The way to the replicas of a model: how many calls go to them at a time, and how many questions how they are."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from actors.config import ASRConfig
from pipelines.serving import service
from pipelines.serving.inference import model_client
from pipelines.serving.inference.model_client import ReplicaPool
from tests.pipelines.serving.conftest import Make


def test_a_look_that_fails_leaves_the_lanes_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> list[int]:
        handle: Any = object()  # of no deployment: the real look at it fails
        pool = ReplicaPool(handle, ASRConfig(backend="fake", model="fake"), 1.0)
        max_concurrent_calls = []
        with monkeypatch.context() as patch:
            patch.setattr(model_client, "_running", lambda handle: 8)
            await pool._count_replicas()
        max_concurrent_calls.append(pool._batcher.max_concurrent_calls)
        await pool._count_replicas()
        return [*max_concurrent_calls, pool._batcher.max_concurrent_calls]

    assert asyncio.run(main()) == [8, 8]


def test_all_who_ask_whether_the_models_answer_share_a_look(
    serve: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve()
    assert served.application.service is not None
    looks, well = [0], [True]

    async def model_columns() -> dict[str, str | None]:
        looks[0] += 1
        await asyncio.sleep(0.2)
        if not well[0]:
            raise RuntimeError("no model")
        return {}

    monkeypatch.setattr(served.application.service.models, "facts", model_columns)
    monkeypatch.setattr(service, "_FRESH", 60)
    with ThreadPoolExecutor(8) as pool:
        assert {answer[0] for answer in pool.map(lambda _: served.ask("GET", "/readyz"), range(24))} == {200}
    assert looks == [1]
    well[0] = False
    assert served.ask("GET", "/readyz")[0] == 200 and looks == [1]
    monkeypatch.setattr(service, "_FRESH", 0)
    assert served.ask("GET", "/readyz")[0] == 503 and looks == [2]
