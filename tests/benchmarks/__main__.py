"""`make bench`: every benchmark of this folder, one after the other; each prints its own table."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path


def main() -> None:
    """Run `main()` of each `bench_*.py`."""
    for module in sorted(pkgutil.iter_modules([str(Path(__file__).parent)]), key=lambda module: module.name):
        if module.name.startswith("bench_"):
            print(f"\n== {module.name.removeprefix('bench_')}", flush=True)
            importlib.import_module(f"tests.benchmarks.{module.name}").main()


main()
