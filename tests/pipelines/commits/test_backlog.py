"""A stage of replicas waits while the stage behind it has more tables than it can soon take."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest


class Stage:
    """An operator with so many tables waiting for it."""

    def __init__(self, waiting: int = 0, behind: list[Any] | None = None) -> None:
        self.waiting, self.output_dependencies = waiting, behind or []
        self._actor_pool = SimpleNamespace(max_size=lambda: 2)


@pytest.fixture
def backlog(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, with `Stage` as the operator of a pool."""
    pytest.importorskip("ray")
    from pipelines.commits import backlog

    monkeypatch.setattr(backlog, "ActorPoolMapOperator", Stage)
    return backlog


def allowed(backlog: Any, op: Any, *others: Stage) -> bool:
    states = {one: SimpleNamespace(total_enqueued_input_blocks=lambda one=one: one.waiting) for one in others}
    policy = object.__new__(backlog.BacklogPolicy)
    policy._operators = states
    return policy.can_add_input(op)


def test_a_pool_waits_for_the_stage_behind_it(backlog: Any) -> None:
    slow = Stage(waiting=4)
    assert not allowed(backlog, Stage(behind=[slow]), slow)
    slow.waiting = 3
    assert allowed(backlog, Stage(behind=[slow]), slow)


def test_other_stages_are_ray_s_business(backlog: Any) -> None:
    slow = Stage(waiting=100)
    reading = SimpleNamespace(output_dependencies=[slow])
    assert allowed(backlog, reading, slow)


def test_what_cannot_be_told_holds_nothing_back(backlog: Any) -> None:
    assert allowed(backlog, Stage(behind=[Stage(waiting=100)]))


def test_the_private_parts_that_it_reads_are_where_they_are_expected() -> None:
    pytest.importorskip("ray")
    from ray.data._internal.execution.operators import actor_pool_map_operator
    from ray.data._internal.execution.streaming_executor_state import OpState

    assert callable(OpState.total_enqueued_input_blocks)
    source = Path(actor_pool_map_operator.__file__).read_text()
    assert "self._actor_pool.max_size()" in source
