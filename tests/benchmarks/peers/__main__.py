"""`make bench-peers`: whole pipelines side by side, without a model and with the demo models.

    python -m tests.benchmarks.peers                          all, three rounds: an hour
    python -m tests.benchmarks.peers ours ray daft ffmpeg --parts cost,decoding     ten minutes
    python -m tests.benchmarks.peers nemo --parts cost --rounds 1 --add         one more round of one
    python -m tests.benchmarks.peers --parts none --add --docs      earlier results into README and RESULTS.md

Each contestant has an environment of its own under .peers/, made at the first run from pinned packages (NeMo
Curator: 8.8 GB, ten minutes); where that is impossible, the reason is told and the others run. The recordings
are made from ../shared/corpus (CORPUS_DIR). Rounds are interleaved. Minutes of a round on two cores: ours,
ray, daft and ffmpeg one each, nemo four, with --xenna eight; `models` three; `broken` and `kill` six, with
nemo ten. Results: .peers/results.json, and as Markdown .peers/tables.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from datetime import UTC, datetime
from typing import Any

from tests.benchmarks.peers import pages, tables
from tests.benchmarks.peers.contestants import FAIR, FAMILIES, UNFAIR_TO_OTHERS, UNFAIR_TO_US
from tests.benchmarks.peers.data import Data, prepare
from tests.benchmarks.peers.environments import FOLDER
from tests.benchmarks.peers.parts import Comparison, Record
from tests.benchmarks.workloads.rows import Skipped

SHORT = "In short"  # the table for the README
PARTS = ("cost", "decoding", "models", "broken", "kill")
RESULTS, MARKDOWN = FOLDER / "results.json", FOLDER / "tables.md"


def main() -> int:
    """Measure what the command line names and print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("families", nargs="*", metavar="WHO", help=f"of {', '.join(FAMILIES)}; without: all")
    parser.add_argument("--parts", default=",".join(PARTS), help="with commas; default: %(default)s; or none")
    parser.add_argument("--rounds", type=int, default=3, help="of cost and models; default: %(default)s")
    parser.add_argument("--add", action="store_true", help="keep the results of earlier runs")
    parser.add_argument("--xenna", action="store_true", help="NeMo Curator on Xenna, too")
    parser.add_argument("--docs", action="store_true", help="write the tables into README.md and RESULTS.md")
    parser.add_argument("--no-install", action="store_true", help="skip what is not installed yet")
    arguments = parser.parse_args()
    parts = [part for part in arguments.parts.split(",") if part != "none"]
    if unknown := sorted({*arguments.families} - {*FAMILIES} | {*parts} - {*PARTS}):
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(FAMILIES)} and {', '.join(PARTS)}")
    # What is being measured is ended, too, where this process is asked to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sets = prepare()
    except Skipped as reason:
        print(f"skipped: {reason}")
        return 0
    earlier = json.loads(RESULTS.read_text()) if arguments.add and RESULTS.exists() else {}
    records: list[Record] = earlier.get("records", [])
    comparison = Comparison(
        arguments.families or FAMILIES, sets, xenna=arguments.xenna, install=not arguments.no_install
    )
    for number in range(_next_round(records), _next_round(records) + arguments.rounds):
        if "cost" in parts:
            _collect(comparison.cost(number), records)
        if "models" in parts:
            _collect(comparison.models(number), records)
    if "decoding" in parts:
        _collect(comparison.decoding(0), records)
    if "broken" in parts:
        _collect(comparison.broken(), records)
    if "kill" in parts:
        _collect(comparison.kill(records), records)
    skipped = {**earlier.get("skipped", {}), **comparison.skipped}
    machine = _machine() if parts else earlier.get("machine", _machine())
    RESULTS.write_text(json.dumps({"machine": machine, "skipped": skipped, "records": records}, indent=1))
    found = _tables(records, sets)
    if arguments.docs:
        pages.write(found, machine, skipped, SHORT)
    MARKDOWN.write_text("\n\n".join(f"{title}\n\n{tables.markdown(table)}" for title, table in found) + "\n")
    for title, table in found:
        print(f"\n{title}\n{tables.plain(table)}")
    for who, reason in skipped.items():
        print(f"skipped: {who}: {reason}")
    for title, points in (
        ("Fair", FAIR),
        ("Unfair to the others", UNFAIR_TO_OTHERS),
        ("Unfair to us", UNFAIR_TO_US),
    ):
        print(f"{title}: " + "; ".join(points) + ".")
    print(f"(as JSON: {RESULTS}; as Markdown: {MARKDOWN})")
    return 0


def _collect(found: Any, records: list[Record]) -> None:
    for record in found:
        records.append(record)
        shown = ("part", "who", "data", "round", "code", "wall", "cpu", "peak_mib", "rows", "lost", "doubled")
        print(
            "peers: " + " ".join(f"{name}={_short(record[name])}" for name in shown if name in record),
            flush=True,
        )


def _short(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, float) else f"{value}"


def _next_round(records: list[Record]) -> int:
    return 1 + max(
        (record["round"] for record in records if record["part"] in ("cost", "models")), default=-1
    )


def _tables(records: list[Record], sets: dict[str, Data]) -> list[tuple[str, tables.Table]]:
    """All tables that have a line."""
    hours = f"long: {sets['long'].hours:.2f} h in 6 files; short: {sets['short'].hours:.2f} h in 1,000 clips"
    found = [
        (SHORT, tables.short_table(records, sets)),
        (f"Without a model; {hours}; medians of the rounds", tables.cost_table(records, sets)),
        ("Ten damaged files among 200 good ones", tables.broken_table(records)),
        ("kill -9 in the middle, and the same command again", tables.kill_table(records, sets)),
        ("The demo models on 200 clips of 1 to 15 s, one thread", tables.model_table(records, sets)),
    ]
    return [(title, table) for title, table in found if len(table) > 1]


def _machine() -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    sys.exit(main())
