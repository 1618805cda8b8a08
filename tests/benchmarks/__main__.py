"""`make bench`: every benchmark of these folders, then one table of all figures with their aims, and JSON.

    python -m tests.benchmarks                      those of the job and the models: MINUTES on two cores
    python -m tests.benchmarks serving streams      these, which run only if named (or with --full)
    python -m tests.benchmarks archive feeding      only these (`bench_archive.py`, `bench_feeding.py`)
    python -m tests.benchmarks --list               their names and what each measures
    python -m tests.benchmarks scale --full         also what takes long (a million rows)
    python -m tests.benchmarks --json figures.json  where the JSON goes (default: bench-output/results.json)

A benchmark is a module `bench_NAME.py` in one of the folders here, with

    def measure(full: bool) -> Iterator[Row]: ...

It yields `tests.benchmarks.workloads.rows.Row`s as it gets them (name, value, unit, aim, note), raises
`Skipped` with the reason where it cannot run on this machine, and takes a few minutes at most unless `full`.
The first line of the module's docstring is its title in the table. Each runs in its own fresh process, one
after the other. One that crashes, or takes longer than LIMIT_SECONDS (a constant of the module; 300
without), is a line in the table and does not end the others; what it had yielded by then counts. One with
BY_NAME = True runs only if it is named. EXPECTED_MINUTES is what one takes on two cores with nothing else to
do; all others have it. Its output goes to the terminal, before the table. Aims are reported, never asserted:
the exit code is 1 only where a benchmark failed.

Minutes of each, without --full:
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks.workloads.rows import Skipped

FOLDER = Path(__file__).parent
LIMIT_SECONDS = 300
OUTPUT = "bench-output/results.json"


def main() -> int:
    """Run what the command line names and print the table."""
    known = {path.stem.removeprefix("bench_"): path for path in sorted(FOLDER.glob("*/bench_*.py"))}
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=_description(known),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="benchmarks to run; without: all but those with BY_NAME"
    )
    parser.add_argument("--full", action="store_true", help="also what takes long")
    parser.add_argument("--list", action="store_true", help="only name the benchmarks")
    parser.add_argument(
        "--json", type=Path, default=Path(OUTPUT), help=f"where the figures go (default: {OUTPUT})"
    )
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)  # set for the process of one benchmark
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in known]:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(known)}")
    if arguments.rows:
        return _measure(known[arguments.names[0]], arguments.full, arguments.rows)
    if arguments.list:
        for name, path in known.items():
            facts = _facts(path)
            print(f"{name:<12} {facts.title} ({facts.time}{', by name' * facts.by_name})")
        return 0
    usual = [name for name, path in known.items() if arguments.full or not _facts(path).by_name]
    results = [_run(name, known[name], arguments.full) for name in arguments.names or usual]
    figures = {"machine": _machine(), "full": arguments.full, "benchmarks": results}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    print(_table(figures))
    if not arguments.names and len(usual) < len(known):
        print(
            "(not run, because they were not named: "
            f"{', '.join(name for name in known if name not in usual)})"
        )
    print(f"(as JSON: {arguments.json})")
    return int(any(result["outcome"] not in ("measured", "skipped") for result in results))


def _measure(path: Path, full: bool, to: Path) -> int:
    """The process of one benchmark: every row to a file as soon as it is there."""
    module = f"tests.benchmarks.{path.parent.name}.{path.stem}"
    with to.open("a") as file:
        try:
            for row in importlib.import_module(module).measure(full):
                file.write(json.dumps({**asdict(row), "reached": row.reached}) + "\n")
                file.flush()
        except Skipped as reason:
            file.write(json.dumps({"skipped": str(reason)}) + "\n")
    return 0


def _run(name: str, path: Path, full: bool) -> dict[str, Any]:
    """Run one benchmark in a process of its own and read its rows."""
    facts = _facts(path)
    title, limit = facts.title, facts.limit
    print(f"== {name}: {title} ({facts.time})", flush=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.jsonl"
        rows.touch()
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks",
            name,
            "--rows",
            str(rows),
            *(["--full"] if full else []),
        ]
        process = subprocess.Popen(command, cwd=FOLDER.parents[1], start_new_session=True)
        try:
            code = process.wait(None if full else limit)
            outcome = "measured" if code == 0 else f"failed with exit code {code}"
        except subprocess.TimeoutExpired:
            outcome = f"not finished after {limit} s"
        finally:
            _end(process)
        found = [json.loads(line) for line in rows.read_text().splitlines()]
    skipped = next((row["skipped"] for row in found if "skipped" in row), None)
    return {
        "name": name,
        "title": title,
        "outcome": "skipped" if skipped and outcome == "measured" else outcome,
        "reason": skipped,
        "seconds": round(time.monotonic() - started, 1),
        "rows": [row for row in found if "skipped" not in row],
    }


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a benchmark that is still at work: first politely, so that it can take its own children along."""
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, sign)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            continue


class Facts(NamedTuple):
    """What a benchmark says of itself: its limit in seconds, whether it runs only if named, its minutes."""

    title: str
    limit: int
    by_name: bool
    minutes: float | None

    @property
    def time(self) -> str:
        """How long it takes, in words."""
        return f"at most {self.limit / 60:g} min" if self.minutes is None else f"{self.minutes:g} min"


def _description(known: dict[str, Path]) -> str:
    """The head of this file, with the minutes of all benchmarks."""
    facts = {name: _facts(path) for name, path in known.items()}
    lines = [
        f"    {name:<10} {one.time}{' (by name)' * one.by_name}"
        for name, one in sorted(facts.items(), key=lambda item: item[1].by_name)
    ]
    total = sum(one.minutes or 0.0 for one in facts.values() if not one.by_name)
    text = (__doc__ or "").replace("MINUTES on two", f"{total:.0f} minutes on two")
    return text + "\n".join(lines)


def _facts(path: Path) -> Facts:
    """The facts of a benchmark, without importing it."""
    tree = ast.parse(path.read_text())
    constants = {
        getattr(node.targets[0], "id", ""): node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    }
    title = " ".join((ast.get_docstring(tree) or "").split("\n\n")[0].split()).rstrip(".")
    return Facts(
        title,
        int(str(constants.get("LIMIT_SECONDS", LIMIT_SECONDS))),
        bool(constants.get("BY_NAME")),
        float(str(constants["EXPECTED_MINUTES"])) if "EXPECTED_MINUTES" in constants else None,
    )


def _machine() -> dict[str, Any]:
    facts = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next(
        (line.partition(":")[2].strip() for line in facts.splitlines() if line.startswith("model name")),
        platform.processor(),
    )
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": model,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _table(figures: dict[str, Any]) -> str:
    """All rows, benchmark by benchmark, as one table."""
    machine = figures["machine"]
    cells: list[Sequence[str]] = [("", "value", "unit", "aim", "reached", "note")]
    for result in figures["benchmarks"]:
        cells.append((f"{result['name']}: {result['title']} ({result['seconds']:.0f} s)",))
        for row in result["rows"]:
            reached = {True: "yes", False: "NO", None: ""}[row["reached"]]
            cells.append(
                (f"  {row['name']}", _number(row["value"]), row["unit"], row["aim"], reached, row["note"])
            )
        if result["outcome"] != "measured":
            cells.append((f"  {result['outcome']}{': ' + result['reason'] if result['reason'] else ''}",))
    wide = [max(len(cell[column]) for cell in cells if len(cell) > 1) for column in range(6)]
    lines = [
        cell[0]
        if len(cell) == 1
        else "  ".join(
            text.rjust(width) if column == 1 else text.ljust(width)
            for column, (text, width) in enumerate(zip(cell, wide, strict=True))
        )
        for cell in cells
    ]
    head = (
        f"{machine['date']}, {machine['processor']}, {machine['cores']} cores at load {machine['load']}, "
        f"Python {machine['python']}"
    )
    return "\n".join(["", head, *(line.rstrip() for line in lines)])


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


if __name__ == "__main__":
    sys.exit(main())
