"""What the runs on an output directory cost at a price for a GPU hour and for a core hour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_DEFAULTS = {"gpu_hour_price": 2.5, "core_hour_price": 0.05, "currency": ""}


@dataclass(frozen=True)
class Prices:
    """Prices of the machines; None: those of the settings that the run was made with."""

    gpu_hour: float | None = None
    core_hour: float | None = None
    currency: str | None = None


def of_runs(
    record: Mapping[str, Any], throughput: Mapping[str, Mapping[str, Any]], prices: Prices
) -> dict[str, Any]:
    """Machine hours and cost of all runs: every GPU with a model is paid for from start to end of a run.

    Where a run had no GPU, its cores are. Runs of versions that did not record their machines are left out.

    Args:
        record: run.json.
        throughput: of the runs, from `figures.throughput.of_runs`.
        prices: of the machines.

    Returns:
        `gpu_hours`, `core_hours`, `cost`, `currency`, `per_audio_hour` (None: nothing was transcribed), the
        prices, `assumed`: whether they are Scriptorium's own, `runs` that count, and `runs_unknown`.
    """
    settings = {**_DEFAULTS, **(record.get("config") or {}).get("estimate", {})}
    gpu_price = settings["gpu_hour_price"] if prices.gpu_hour is None else prices.gpu_hour
    core_price = settings["core_hour_price"] if prices.core_hour is None else prices.core_hour
    gpu_hours = core_hours = audio = 0.0
    known = 0
    for run in throughput.values():
        machines = _machines(run["passes"])
        if machines is None or not run["wall_seconds"]:
            continue
        gpus, cores = machines
        known += 1
        audio += run["audio_seconds"]
        gpu_hours += gpus * run["wall_seconds"] / 3600
        core_hours += 0 if gpus else cores * run["wall_seconds"] / 3600
    cost = gpu_hours * gpu_price + core_hours * core_price
    is_assumed = (
        (prices.gpu_hour is None and gpu_price == _DEFAULTS["gpu_hour_price"])
        if gpu_hours
        else (prices.core_hour is None and core_price == _DEFAULTS["core_hour_price"])
    )
    return {
        "gpu_hours": round(gpu_hours, 4),
        "core_hours": round(core_hours, 4),
        "gpu_hour_price": gpu_price,
        "core_hour_price": core_price,
        "currency": settings["currency"] if prices.currency is None else prices.currency,
        "assumed": is_assumed,
        "cost": round(cost, 6) if known else None,
        "per_audio_hour": round(cost / (audio / 3600), 6) if known and audio else None,
        "runs": known,
        "runs_unknown": len(throughput) - known,
    }


def _machines(passes: Sequence[Mapping[str, Any]]) -> tuple[int, int] | None:
    """GPUs and cores of a run: the most that one of its passes had."""
    if not passes:
        return None
    return max(one["gpus"] for one in passes), max(one["cores"] for one in passes)
