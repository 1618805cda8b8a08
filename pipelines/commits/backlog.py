"""Holds back a stage of replicas while the stages behind it have a backlog.

What a model has finished and nothing has committed is done again after a kill. Ray lets it pile up until the
object store is half full, which may be minutes of work where the aligner is slower than the recogniser.
"""

from __future__ import annotations

from typing import Any

from pipelines.supervision.ray_internals import ActorPoolMapOperator, BackpressurePolicy

# Tables that may wait behind a stage for each of its replicas, beside those that the next one is working on.
# Two are enough to keep that one busy: it takes three at a time.
TABLES_PER_REPLICA = 2


class BacklogPolicy(BackpressurePolicy):
    """See the head of this file. Each execution has a policy of its own."""

    def __init__(self, data_context: Any, topology: Any, resource_manager: Any) -> None:
        super().__init__(data_context, topology, resource_manager)
        self._operators = topology

    def can_add_input(self, op: Any) -> bool:
        """See `BackpressurePolicy`."""
        try:
            if not isinstance(op, ActorPoolMapOperator):
                return True
            waiting = sum(
                self._operators[behind].total_enqueued_input_blocks() for behind in op.output_dependencies
            )
            return waiting < TABLES_PER_REPLICA * max(1, op._actor_pool.max_size())
        except Exception:  # the executor's thread may change the topology meanwhile
            return True
