"""The budget of a run's repair: the supervisor grants seconds of audio to the processes that decode again.

All grants come from one place, so the bound holds for the whole run however many processes it has: what is
decoded again, in this pass and in rows that were committed before, is at most `repair.max_share` of the
planned audio. What a process that crashed was granted counts as used.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

log = logging.getLogger(__name__)

_ANSWER_TIMEOUT = 60.0  # seconds that the supervisor may take to answer
# By step: numbers of segments, and seconds: see `actors.repair.ladder.StepCost`.
RepairCosts = dict[str, dict[str, float]]


@dataclass
class RepairLedger:
    """What may be decoded again, and what it cost; a part of the supervisor.

    Attributes:
        seconds: of audio that are finished.
        repair_share: most audio that may be decoded again, as a share.
        repair_planned: seconds of audio of the whole run.
        repair_granted: seconds that were granted, in this pass and before.
        repair_costs: by step.
    """

    seconds: float = 0.0
    repair_share: float = 0.0
    repair_planned: float = 0.0
    repair_granted: float = 0.0
    repair_costs: RepairCosts = field(default_factory=dict)

    def open_repair(self, share: float, planned: float, used: float) -> None:
        """Begin to grant: a share of the planned seconds, of which some were used before this pass."""
        self.repair_share, self.repair_planned, self.repair_granted = share, planned, used

    def grant_repair(self, seconds: float) -> float:
        """Grant so many seconds, or what is left."""
        # Headers may give no duration: then what is finished shows how much audio there is.
        total = max(self.repair_planned, self.seconds)
        granted = max(0.0, min(seconds, self.repair_share * total - self.repair_granted))
        self.repair_granted += granted
        return granted

    def return_repair(self, seconds: float) -> None:
        """Seconds that were granted were not used."""
        self.repair_granted -= seconds

    def record_repair(self, costs: RepairCosts) -> None:
        """A process has decoded segments again."""
        self.repair_costs = summed(self.repair_costs, costs)

    def repairs(self) -> RepairCosts:
        """What was decoded again so far."""
        return self.repair_costs


class SupervisedBudget:
    """The budget of a process: asks the supervisor, once for each call with doubtful segments.

    Args:
        supervisor: its Ray handle. Where it does not answer, nothing is granted.
    """

    def __init__(self, supervisor: Any) -> None:
        self._supervisor = supervisor

    def count(self, seconds: float) -> None:
        """See `actors.repair.budget.Budget`: the supervisor knows the run's audio."""

    def grant(self, seconds: float) -> float:
        """See `actors.repair.budget.Budget`."""
        import ray

        try:
            granted: float = ray.get(self._supervisor.grant_repair.remote(seconds), timeout=_ANSWER_TIMEOUT)
            return granted
        except ray.exceptions.RayError:
            log.warning("the supervisor does not answer: nothing is repaired", exc_info=True)
            return 0.0

    def give_back(self, seconds: float) -> None:
        """See `actors.repair.budget.Budget`."""
        self._supervisor.return_repair.remote(seconds)


def summed(first: RepairCosts, second: RepairCosts) -> RepairCosts:
    """The costs of two sets of repairs together."""
    return {
        step: {
            name: first.get(step, {}).get(name, 0) + second.get(step, {}).get(name, 0)
            for name in {**first.get(step, {}), **second.get(step, {})}
        }
        for step in {**first, **second}
    }
