"""How Ray Data winds down after a stop was asked for: the first stages start nothing more, the last ones carry home what is finished.

The names imported from Ray are its own and may move with a release: the constraints pin it, and tests/faults/test_stopping.py would tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.data import DataContext
from ray.data._internal.execution.backpressure_policy import (
    ENABLED_BACKPRESSURE_POLICIES,
    ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY,
    BackpressurePolicy,
)
from ray.data._internal.execution.operators.actor_pool_map_operator import ActorPoolMapOperator

from pipelines.supervision import shutdown

LAST_STAGES = 2  # aligning and writing: short, and what they are given is finished work


class NothingNew(BackpressurePolicy):
    """Holds back all but the last stages once a stop was asked for. Ray makes one for each execution."""

    def __init__(self, data_context: Any, topology: Any, resource_manager: Any) -> None:
        super().__init__(data_context, topology, resource_manager)
        self._last = [*topology][-LAST_STAGES:]
        shutdown.drained.append(self._is_drained)

    def can_add_input(self, op: Any) -> bool:
        """See `BackpressurePolicy`."""
        return not shutdown.asked.is_set() or op in self._last

    def _is_drained(self) -> bool:
        """Whether no model call and no write is under way, and nothing waits for the last stages."""
        try:
            operators = [*self._topology]
            busy = any(
                operator.num_active_tasks()
                for operator in operators
                if isinstance(operator, ActorPoolMapOperator)
            )
            waiting = any(self._topology[operator].has_pending_bundles() for operator in self._last)
            return not busy and not waiting and not operators[-1].num_active_tasks()
        except Exception:  # the executor's thread changes it while we look
            return False


@contextmanager
def enabled() -> Iterator[None]:
    """Make the executions inside a `with` block stop in this way."""
    DataContext.get_current().set_config(
        ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, [*ENABLED_BACKPRESSURE_POLICIES, NothingNew]
    )
    try:
        yield
    finally:
        shutdown.drained.clear()
