"""A run of the GPU benchmark: its stages with their guards, the clock, and the lines of results."""

from __future__ import annotations

import gc
import json
import os
import statistics
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

TOKENS_PER_SECOND = 3.5  # of an answer, as in conversations
ANSWER = (2.0, 5.0)  # tokens a second of the shortest and the longest answers of a whole actor
RATE = 16_000


@dataclass
class Run:
    """One run on one device."""

    data: Path | None = None  # file made by --prepare; None: demo answers are made here
    out: Path = Path("bench-output/gpu")
    limit: float = 440.0  # seconds for all stages
    tiny: bool = False  # small shapes: shows on a CPU that the stages fit the code
    began: float = field(default_factory=time.monotonic)
    device: torch.device = field(
        default_factory=lambda: torch.device("cuda" if torch.cuda.is_available() else "cpu")
    )

    @property
    def cuda(self) -> bool:
        """Whether there is a GPU."""
        return self.device.type == "cuda"

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the random weights."""
        return torch.bfloat16 if self.cuda else torch.float32

    @property
    def rows(self) -> tuple[int, ...]:
        """Rows of a decoding step to measure."""
        return (2, 3) if self.tiny else (32, 128, 256)

    @property
    def seconds(self) -> float:
        """Length of the usual segment."""
        return 4.0 if self.tiny else 30.0

    def left(self) -> float:
        """Seconds of the limit that are left."""
        return self.limit - (time.monotonic() - self.began)

    def say(self, what: str, **figures: Any) -> None:
        """Print a line of results at once and append it to results.jsonl."""
        rounded = {
            key: round(value, 4) if isinstance(value, float) else value for key, value in figures.items()
        }
        line = json.dumps(
            {"t": round(time.monotonic() - self.began, 1), "what": what, **rounded}, ensure_ascii=False
        )
        print(line, flush=True)
        self.out.mkdir(parents=True, exist_ok=True)
        with open(self.out / "results.jsonl", "a") as file:
            file.write(line + "\n")

    def sync(self) -> None:
        """Wait until the device has finished."""
        if self.cuda:
            torch.cuda.synchronize()

    def timed(self, call: Callable[[], Any], runs: int = 3, warm: int = 1) -> float:
        """Median milliseconds of a call, including all its work on the device."""
        for _ in range(warm):
            call()
        found = []
        for _ in range(runs):
            self.sync()
            started = time.perf_counter()
            call()
            self.sync()
            found.append((time.perf_counter() - started) * 1e3)
        return statistics.median(found)

    def forget(self) -> None:
        """Free what nobody uses any more, and start to measure peak memory anew."""
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak_gib(self) -> float:
        """Peak memory since `forget`."""
        return torch.cuda.max_memory_allocated() / 2**30 if self.cuda else 0.0


@dataclass(frozen=True)
class Stage:
    """A part of the benchmark that runs on its own."""

    name: str
    seconds: float  # that it should take on a GPU at most
    run: Callable[[Run], None]


def run_stages(run: Run, stages: list[Stage]) -> int:
    """Run stages one after the other; returns how many failed.

    A stage that fails is named, and one for which too little time is left is skipped; the others run all the
    same.
    """
    failed = 0
    for stage in stages:
        if run.left() < stage.seconds * (0 if run.tiny else 0.6):
            run.say(f"SKIPPED {stage.name}", left=run.left())
            continue
        started = time.monotonic()
        try:
            stage.run(run)
        except Exception as error:
            failed += 1
            where = traceback.format_exc().strip().splitlines()[-7:-1]
            run.say(f"FAILED {stage.name}", error=repr(error)[:300], where=where)
        run.forget()
        run.say(f"stage {stage.name}", seconds=time.monotonic() - started)
    return failed


def default_out() -> Path:
    """$OUT, or a folder of the checkout that git ignores."""
    return Path(os.environ.get("OUT", "bench-output/gpu"))
