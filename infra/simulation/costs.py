"""What every step costs, in one table: measured by this project, published by others, or assumed, and each said to be which."""

from __future__ import annotations

from dataclasses import dataclass

RESULTS = "tests/benchmarks/RESULTS.md"
STUDY = "model.md"


@dataclass(frozen=True)
class Cost:
    """A figure, its unit and where it is from."""

    value: float
    unit: str
    source: str


COSTS: dict[str, Cost] = {
    "workers": Cost(10.55, "core s per audio hour", f"{RESULTS}, Archive: 11.75 for all processes, without the driver's 1.2"),
    "recognise": Cost(1136, "audio s per s of a GPU", f"{STUDY} section 4: 0.6B, the paper, offline, GPU not named"),
    "align": Cost(962, "audio s per s of a GPU", f"{STUDY} section 4: the paper, GPU not named"),
    "driver_chain": Cost(0.06, "s of the driver per block through all stages, its task included", f"{RESULTS}, Driver"),
    "driver_idle": Cost(0.0, "s of the driver per s of a job, whatever there is to do", f"{RESULTS}, Driver"),
    "plan": Cost(69.6, "s per 1,000,000 recordings with durations", f"{RESULTS}, Scale: CPU s of reading and planning"),
    "start": Cost(13.3, "s until the last model is there", f"{RESULTS}, Start-up, models that cost nothing"),
    "load": Cost(60.0, "s to load two large models", "assumed"),
    "stitch": Cost(0.045, "core s per audio hour", f"{RESULTS}, Text: the second pass from files to files"),
    "index": Cost(0.0, "s of the driver per committed file, to list it and read what stitching wants to know", f"{RESULTS}, Large run"),
    "resume": Cost(0.0, "s of the driver per committed file on a resume", f"{RESULTS}, Large run"),
}


def value(name: str) -> float:
    """The figure."""
    return COSTS[name].value
