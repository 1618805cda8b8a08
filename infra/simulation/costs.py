"""The cost of every step in one table; each figure is marked as measured here, published elsewhere, or
assumed.
"""

from __future__ import annotations

from dataclasses import dataclass

RESULTS = "tests/benchmarks/RESULTS.md"
DRIVER = "python -m tests.benchmarks driver, 2026-11-23"
STUDY = "model.md"


@dataclass(frozen=True)
class Cost:
    """A figure, its unit and its source."""

    value: float
    unit: str
    source: str


COSTS: dict[str, Cost] = {
    "workers": Cost(
        7.33,
        "core s per audio hour",
        f"{RESULTS}, archive: 8.00 for all processes, without the driver's 0.67",
    ),
    "recognise": Cost(
        1136, "audio s per s of a GPU", f"{STUDY} section 4: 0.6B, the paper, offline, GPU not named"
    ),
    "align": Cost(962, "audio s per s of a GPU", f"{STUDY} section 4: the paper, GPU not named"),
    "driver_chain": Cost(
        0.061, "s of the driver per block through all stages", f"{DRIVER}: 1,200 tasks against 5"
    ),
    "driver_idle": Cost(0.05, "s of the driver per s of a job, whatever there is to do", "assumed"),
    "plan": Cost(
        69.6, "s per 1,000,000 recordings with durations", f"{RESULTS}, Scale: CPU s of reading and planning"
    ),
    "start": Cost(13.3, "s until the last model is there", f"{RESULTS}, Start-up, models that cost nothing"),
    "load": Cost(60.0, "s to load two large models", "assumed"),
    "stitch": Cost(0.045, "core s per audio hour", f"{RESULTS}, Text: the second pass from files to files"),
    "index": Cost(
        0.0036,
        "s of the driver per committed file, to find what can be stitched",
        f"{DRIVER}: 1,500 files on a local disk",
    ),
}


def value(name: str) -> float:
    """The figure."""
    return COSTS[name].value
