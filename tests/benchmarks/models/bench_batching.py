"""Batch fill: real over padded seconds of packed model calls, without a model or audio."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np

from actors.batch_limits import batch_limits
from actors.batching import fill, pack
from actors.config import ASRConfig
from tests.benchmarks.workloads.rows import Row

# Seconds of one task's call: about an hour of conversation.

EXPECTED_MINUTES = 0.1
SEGMENTS = 256
SEEDS = range(9)


def lognormal(rng: np.random.Generator, size: int) -> np.ndarray:
    """Segments of conversational recordings: most of a few seconds, a long tail up to the segment limit."""
    return rng.lognormal(mean=2.0, sigma=0.8, size=size).clip(0.5, 60)


def bimodal(rng: np.random.Generator, size: int) -> np.ndarray:
    """Prompts and monologues in one corpus."""
    short = rng.random(size) < 0.6
    return np.where(short, rng.normal(3, 0.8, size), rng.normal(50, 6, size)).clip(0.5, 60)


def uniform(rng: np.random.Generator, size: int) -> np.ndarray:
    """Every length equally likely."""
    return rng.uniform(0.5, 60, size)


MIXES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "lognormal": lognormal,
    "bimodal": bimodal,
    "uniform": uniform,
}


def measure(full: bool) -> Iterator[Row]:
    """Fill by mix, as medians over several draws, and whether any call exceeds its budget."""
    limits = batch_limits(ASRConfig(), gpu_memory=None)
    budget, most = limits.max_seconds, limits.max_size
    over = 0
    for name, draw in MIXES.items():
        fills, naive, times = [], [], []
        for seed in SEEDS:
            durations = draw(np.random.default_rng(seed), SEGMENTS).tolist()
            started = time.perf_counter()
            batches = pack(durations, budget, most)
            times.append(1000 * (time.perf_counter() - started))
            fills.append(fill(durations, batches))
            in_order = [list(range(start, min(start + 16, SEGMENTS))) for start in range(0, SEGMENTS, 16)]
            naive.append(fill(durations, in_order))
            over += sum(
                len(batch) > most
                or (len(batch) > 1 and len(batch) * max(durations[i] for i in batch) > budget)
                for batch in batches
            )
        note = (
            f"in file order {np.median(naive):.3f}; "
            f"packing {SEGMENTS} segments takes {np.median(times):.1f} ms"
        )
        yield Row(f"fill, {name}", float(np.median(fills)), "real/padded s", ">= 0.93", note)
    yield Row(
        "calls over their budget",
        over,
        "calls",
        "<= 0",
        f"{budget:g} padded s, {most} segments, {len(SEEDS)} draws of each mix",
    )
