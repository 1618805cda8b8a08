"""How full the batches are: `python tests/benchmarks/bench_batching.py` prints a table; no model, no audio."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from actors.batching import fill, pack

SIZES = (32, 256, 4096)


def lognormal(rng: np.random.Generator, size: int) -> np.ndarray:
    """Segments of conversational recordings: most of a few seconds, a long tail up to the segment limit."""
    return rng.lognormal(mean=2.0, sigma=0.8, size=size).clip(0.5, 60)


def bimodal(rng: np.random.Generator, size: int) -> np.ndarray:
    """Prompts and monologues in one corpus."""
    short = rng.random(size) < 0.6
    return np.where(short, rng.normal(3, 0.8, size), rng.normal(50, 6, size)).clip(0.5, 60)


def uniform(rng: np.random.Generator, size: int) -> np.ndarray:
    """Every length alike."""
    return rng.uniform(0.5, 60, size)


MIXES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {"lognormal": lognormal, "bimodal": bimodal, "uniform": uniform}


def main() -> None:
    """Print fill, calls and planning time for each mix."""
    print(f"{'mix':<10} {'segments':>8} {'fill':>6} {'in order':>8} {'calls':>6} {'ms':>7}")
    for name, draw in MIXES.items():
        for size in SIZES:
            durations = draw(np.random.default_rng(0), size).tolist()
            started = time.perf_counter()
            batches = pack(durations, max_batch_seconds=960, max_batch_size=128)
            elapsed = 1000 * (time.perf_counter() - started)
            naive = [list(range(start, min(start + 16, size))) for start in range(0, size, 16)]
            row = f"{name:<10} {size:>8} {fill(durations, batches):>6.3f} {fill(durations, naive):>8.3f}"
            print(f"{row} {len(batches):>6} {elapsed:>7.1f}")


if __name__ == "__main__":
    main()
