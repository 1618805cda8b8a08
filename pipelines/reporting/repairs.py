"""What the repair of doubtful segments did in all runs on an output directory, by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.supervision.repair_budget import summed

_MODELS = ("recognise", "align", "recognise_again")


def of_runs(runs: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Counts and costs by step, over all runs.

    Args:
        runs: of run.json.

    Returns:
        For each step `segments` that were decoded again, `repaired` of them, `seconds` of audio,
        `busy_seconds` of models, and `cost_share`: the part of the time of all models. Empty where nothing
        was repaired.
    """
    total: dict[str, dict[str, float]] = {}
    busy = 0.0
    for run in runs:
        total = summed(total, run.get("repairs") or {})
        for stage, devices in (run.get("model_costs") or {}).items():
            busy += sum(record.get("busy_seconds", 0.0) for record in devices.values() if stage in _MODELS)
    return {
        step: {
            **{name: round(value, 3) for name, value in costs.items()},
            "cost_share": round(costs.get("busy_seconds", 0.0) / busy, 4) if busy else 0.0,
        }
        for step, costs in total.items()
    }
