"""Drains Ray Data after a stop was requested.

The first stages start nothing new, the last ones store what is finished.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipelines.supervision import shutdown
from pipelines.supervision.ray_internals import (
    ActorPoolMapOperator,
    BackpressurePolicy,
    add_backpressure_policy,
)

LAST_STAGES = 2  # aligning and writing: both are short, and their input is finished work


class DrainPolicy(BackpressurePolicy):
    """Holds back all but the last stages once a stop was requested. Each execution has its own policy."""

    def __init__(self, data_context: Any, topology: Any, resource_manager: Any) -> None:
        super().__init__(data_context, topology, resource_manager)
        self._last = [*topology][-LAST_STAGES:]
        shutdown.drain_checks.append(self._is_drained)

    def can_add_input(self, op: Any) -> bool:
        """See `BackpressurePolicy`."""
        return not shutdown.stop_requested.is_set() or op in self._last

    def _is_drained(self) -> bool:
        """Whether no model call and no write is under way, and the last stages have no input left."""
        try:
            operators = [*self._topology]
            busy = any(
                operator.num_active_tasks()
                for operator in operators
                if isinstance(operator, ActorPoolMapOperator)
            )
            waiting = any(self._topology[operator].has_pending_bundles() for operator in self._last)
            return not busy and not waiting and not operators[-1].num_active_tasks()
        except Exception:  # the executor's thread may change the topology meanwhile
            return False


@contextmanager
def drain_on_stop() -> Iterator[None]:
    """Let the executions inside a `with` block drain when a stop is requested."""
    add_backpressure_policy(DrainPolicy)
    try:
        yield
    finally:
        shutdown.drain_checks.clear()
