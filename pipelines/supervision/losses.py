"""What a pass lost and used: crashed processes, unfinished shards, requests to servers, time of models."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.supervision import repair_budget
from pipelines.supervision.model_costs import Costs, summed
from pipelines.supervision.repair_budget import RepairCosts

ANSWER_TIMEOUT = 60.0  # seconds that the supervisor may take to answer


@dataclass(frozen=True)
class PassLosses:
    """What one pass, or two passes in a row, lost and used.

    Attributes:
        crashed_processes: model processes that crashed with shards in flight.
        repeated_shards: shards that a model was given once more because of a crash.
        reasons: stage, code and message of each shard that was not finished, by shard id.
        usage: what recognition servers were asked for, by name.
        failed_tasks: tasks that failed and that Ray tolerated.
        last_failure: the last line of the last of these failures.
        costs: what the stages cost, by stage and device.
        repairs: what was decoded again, by step of the repair.
        throughput: how fast each pass went, see `pipelines.supervision.throughput`.
    """

    crashed_processes: int = 0
    repeated_shards: int = 0
    reasons: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    usage: dict[str, float] = field(default_factory=dict)
    failed_tasks: int = 0
    last_failure: str = ""
    costs: Costs = field(default_factory=dict)
    repairs: RepairCosts = field(default_factory=dict)
    throughput: tuple[dict[str, Any], ...] = ()

    def explain(self, lost: Collection[str]) -> bool:
        """Whether the known crashes and failures can account for these lost shards of an isolated pass."""
        unexplained = sum(shard not in self.reasons for shard in lost)
        return unexplained <= self.failed_tasks + self.crashed_processes

    def and_then(self, later: PassLosses) -> PassLosses:
        """The sum of two passes; where both know a reason for a shard, the later one counts."""
        return PassLosses(
            self.crashed_processes + later.crashed_processes,
            self.repeated_shards + later.repeated_shards,
            {**self.reasons, **later.reasons},
            sum_by_name((self.usage, later.usage)),
            self.failed_tasks + later.failed_tasks,
            later.last_failure or self.last_failure,
            summed(self.costs, later.costs),
            repair_budget.summed(self.repairs, later.repairs),
            (*self.throughput, *later.throughput),
        )


def losses_of(supervisor: Any, timeout: float = ANSWER_TIMEOUT) -> PassLosses:
    """The losses that a supervisor knows of, by its Ray handle; none if it does not answer in `timeout` s."""
    import ray

    try:
        requests = [
            supervisor.losses.remote(),
            supervisor.failure_reasons.remote(),
            supervisor.usage.remote(),
            supervisor.model_costs.remote(),
            supervisor.repairs.remote(),
        ]
        (crashed, repeated), reasons, usage, costs, repairs = ray.get(requests, timeout=timeout)
        return PassLosses(crashed, repeated, reasons, usage, costs=costs, repairs=repairs)
    except ray.exceptions.RayError:
        return PassLosses()


def sum_by_name(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Add up mappings name by name, rounded to three decimals."""
    total: dict[str, float] = {}
    for part in parts:
        total |= {name: round(total.get(name, 0) + value, 3) for name, value in part.items()}
    return total
