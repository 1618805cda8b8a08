"""The model client: the number of concurrent calls follows the replicas, and readiness checks are shared."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from actors.config import ASRConfig
from pipelines.serving import service
from pipelines.serving.inference import model_client
from pipelines.serving.inference.model_client import ReplicaPool
from tests.pipelines.serving.conftest import Make


def test_a_failed_count_of_replicas_keeps_the_number_of_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> list[int]:
        handle: Any = object()  # no deployment: counting its replicas fails
        pool = ReplicaPool(handle, ASRConfig(backend="fake", model="fake"), 1.0)
        with monkeypatch.context() as patch:
            patch.setattr(model_client, "running_replicas", lambda handle: 8)
            await pool._count_replicas()
        counted = pool._batcher.max_concurrent_calls
        await pool._count_replicas()
        return [counted, pool._batcher.max_concurrent_calls]

    assert asyncio.run(main()) == [8, 8]


def test_concurrent_readiness_checks_share_one_call(serve: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    served = serve()
    assert served.application.service is not None
    calls, working = [0], [True]

    async def model_columns() -> dict[str, str | None]:
        calls[0] += 1
        await asyncio.sleep(0.2)
        if not working[0]:
            raise RuntimeError("no model")
        return {}

    monkeypatch.setattr(served.application.service.models, "model_columns", model_columns)
    monkeypatch.setattr(service, "_READY_MAX_AGE", 600)
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda _: served.ask("GET", "/readyz"), range(24)))
    assert {response[0] for response in responses} == {200}
    assert calls == [1]
    working[0] = False
    assert served.ask("GET", "/readyz")[0] == 200 and calls == [1]
    monkeypatch.setattr(service, "_READY_MAX_AGE", 0)
    assert served.ask("GET", "/readyz")[0] == 503 and calls == [2]
