"""The way to the replicas of a model: how many calls go to them at a time."""

import asyncio
from typing import Any

import pytest

from actors.config import ASRConfig
from pipelines.serving import models
from pipelines.serving.models import Pool


def test_a_look_that_fails_leaves_the_lanes_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> list[int]:
        handle: Any = object()  # of no deployment: the real look at it fails
        pool = Pool(handle, ASRConfig(backend="fake", model="fake"), 1.0)
        lanes = []
        with monkeypatch.context() as patch:
            patch.setattr(models, "_running", lambda handle: 8)
            await pool._count()
        lanes.append(pool._shared.lanes)
        await pool._count()
        return [*lanes, pool._shared.lanes]

    assert asyncio.run(main()) == [8, 8]
