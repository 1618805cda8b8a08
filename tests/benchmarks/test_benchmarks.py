"""`python -m tests.benchmarks` finds every benchmark, and runs one in a process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem.removeprefix("bench_") for path in (ROOT / "tests/benchmarks").rglob("bench_*.py"))


def bench(*arguments: str) -> str:
    command = [sys.executable, "-m", "tests.benchmarks", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def test_every_benchmark_is_listed_with_its_title() -> None:
    lines = dict(line.split(maxsplit=1) for line in bench("--list").splitlines())
    assert sorted(lines) == MODULES
    assert all(len(title) > 20 for title in lines.values())
    # Nothing that runs without being named may make the whole take longer than half an hour.
    usual = [title for title in lines.values() if not title.endswith("by name)")]
    minutes = [re.search(r"\(([\d.]+) min\)$", title) for title in usual]
    assert all(minutes)
    assert sum(float(found[1]) for found in minutes if found) <= 28


def test_the_help_has_the_minutes_of_each_benchmark() -> None:
    lines = [line.strip() for line in bench("--help").splitlines()]
    assert all(any(re.match(rf"{name} .*[\d.]+ min", line) for line in lines) for name in MODULES)


def test_a_benchmark_yields_figures(tmp_path: Path) -> None:
    bench("batching", "--json", str(tmp_path / "figures.json"))
    figures = json.loads((tmp_path / "figures.json").read_text())
    [result] = figures["benchmarks"]
    assert result["outcome"] == "measured"
    assert result["rows"]
