"""The parts of the comparison. Each yields records: plain values, one for each run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.parquet as pq

from pipelines.output import shards
from pipelines.reporting import status
from tests.benchmarks.peers.accounting import measure
from tests.benchmarks.peers.contestants import WITH_MODEL, WITHOUT_MODEL, Contestant, rows_of
from tests.benchmarks.peers.data import Data
from tests.benchmarks.peers.environments import FOLDER, ROOT, python_of
from tests.benchmarks.workloads.rows import Skipped

Record = dict[str, Any]
TIMEOUT = 400  # seconds of one run
# Where in its work a run is killed.
KILL_AT = 0.5
# 1,000 clips take NeMo Curator two minutes, and more than once: see `kill`.
_SLOW_FAMILY, _FEW = "nemo", "few"
_PROGRESS = re.compile(r"committed ([\d,]+) of [\d,]+ recordings(?:.*?under way ([\d,]+) )?")


class Comparison:
    """Runs contestants on sets of recordings.

    Args:
        families: which contestants.
        sets: from `data.prepare`.
        xenna: NeMo Curator on Xenna, too, which takes as long as on Ray Data.
        install: make environments that are missing.
    """

    def __init__(
        self, families: Sequence[str], sets: Mapping[str, Data], *, xenna: bool = False, install: bool = True
    ) -> None:
        self._families, self._sets, self._xenna, self._install = families, sets, xenna, install
        self.skipped: dict[str, str] = {}

    def cost(self, number: int) -> Iterator[Record]:
        """A round: each contestant on one file, the long files and the short clips, without a model."""
        for data in ("one", "long", "short"):
            for contestant in _rotated(self._chosen(WITHOUT_MODEL), number):
                yield from self._run("cost", contestant, data, number)

    def decoding(self, number: int) -> Iterator[Record]:
        """What decoding alone costs in one process."""
        commands = {}
        if "ours" in self._families:
            module = "tests.benchmarks.peers.scripts.our_decoding"
            commands["ours"] = [sys.executable, "-m", module]
        if {"ray", "daft"} & {*self._families}:
            try:
                script = Path(__file__).with_name("scripts") / "pyav_decoding.py"
                commands["pyav"] = [str(python_of("ray", self._install)), str(script)]
            except Skipped as reason:
                self.skipped["decoding with PyAV alone"] = str(reason)
        for who, command in commands.items():
            for data in ("long", "short"):
                line = [*command, str(self._sets[data].manifest)]
                done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
                cpu = json.loads(done.stdout.splitlines()[-1])["cpu"]
                yield {"part": "decoding", "who": who, "data": data, "round": number, "cpu": cpu}

    def models(self, number: int) -> Iterator[Record]:
        """A round with the demo models: one file, and 200 clips."""
        for data in ("one", "clips"):
            for contestant in _rotated(self._chosen(WITH_MODEL), number):
                yield from self._run("models", contestant, data, number)

    def broken(self) -> Iterator[Record]:
        """Ten damaged files among good ones."""
        for contestant in self._chosen(WITHOUT_MODEL):
            yield from self._run("broken", contestant, "broken", 0)

    def kill(self, records: Sequence[Record]) -> Iterator[Record]:
        """kill -9 in the middle, and the same command again.

        Args:
            records: so far; where they lack an undisturbed run to know the middle from, it is done first.
        """
        for contestant in self._chosen(WITHOUT_MODEL):
            if contestant.family == "ffmpeg":
                continue
            data = _FEW if contestant.family == _SLOW_FAMILY else "short"
            known = [record for record in records if record["who"] == contestant.name]
            for needed in ("one", data):
                if not any(record["data"] == needed and record["part"] == "cost" for record in known):
                    for record in self._run("cost", contestant, needed, 0):
                        known.append(record)
                        yield record
            start, whole = (_median(known, needed, "wall") for needed in ("one", data))
            if not whole:
                continue
            moment = start + KILL_AT * (whole - start)
            for record in self._run("kill", contestant, data, 0, kill_after=moment):
                yield {**record, **_after_kill(contestant, self._out(contestant, "kill", data))}
            for record in self._run("again", contestant, data, 0, out=self._out(contestant, "kill", data)):
                yield record

    def _chosen(self, contestants: Sequence[Contestant]) -> list[Contestant]:
        return [
            one
            for one in contestants
            if one.family in self._families and (self._xenna or one.name != "nemo-xenna")
        ]

    def _out(self, contestant: Contestant, part: str, data: str) -> Path:
        return FOLDER / "out" / f"{contestant.name}-{part}-{data}"

    def _run(
        self,
        part: str,
        contestant: Contestant,
        data: str,
        number: int,
        kill_after: float | None = None,
        out: Path | None = None,
    ) -> Iterator[Record]:
        """Measure one run; nothing where the contestant is not to be had here, which is noted.

        Args:
            part, data, number: for the record.
            contestant: who runs.
            kill_after: seconds.
            out: of an earlier run, which is gone on with.
        """
        chosen = self._sets[data]
        if out is None:
            out = self._out(contestant, part, data)
            shutil.rmtree(out, ignore_errors=True)
        log = FOLDER / "logs" / f"{contestant.name}-{part}-{data}-{number}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            command = contestant.command(chosen.manifest, out, self._install)
        except Skipped as reason:
            self.skipped[contestant.title] = str(reason)
            return
        usage = measure(command, log, timeout=TIMEOUT, kill_after=kill_after, cwd=ROOT)
        record = {"part": part, "who": contestant.name, "data": data, "round": number, **asdict(usage)}
        yield {**record, **_rows_record(contestant, out, chosen), **_inner_cost(log)}


def _rows_record(contestant: Contestant, out: Path, data: Data) -> Record:
    """What was stored: rows, recordings, lost and doubled ones; texts where there are models."""
    rows = rows_of(contestant, out)
    times = Counter(name for name, _ in rows)
    good = [name for name in data.ids if name not in data.damaged]
    record: Record = {
        "rows": len(rows),
        "lost": sum(name not in times for name in good),
        "doubled": sum(count > 1 for count in times.values()),
        "damaged_rows": sum(name in times for name in data.damaged),
    }
    if contestant in WITH_MODEL:
        record["texts"] = dict(rows)
    letters = out / "dead_letters"
    if data.damaged and letters.is_dir():
        found = pq.read_table(letters, columns=["recording_id", "error_code"]).to_pylist()
        record["reasons"] = {row["recording_id"]: row["error_code"] for row in found}
    return record


def _inner_cost(log: Path) -> Record:
    """Core-seconds without loading, where a script prints them."""
    lines = log.read_text(errors="replace").splitlines()
    return {"inner_cpu": json.loads(lines[-1])["cpu"]} if lines and lines[-1].startswith('{"cpu"') else {}


def _after_kill(contestant: Contestant, out: Path) -> Record:
    """What a killed run has stored, and what ours said last of it."""
    if contestant.family != "ours" or not out.is_dir():
        return {"stored": len({name for name, _ in rows_of(contestant, out)})}
    shards.recover(str(out))
    record: Record = {"stored": status.read(str(out))["recordings_committed"]}
    log = FOLDER / "logs" / f"{contestant.name}-kill-short-0.log"
    if said := _PROGRESS.findall(log.read_text(errors="replace")):
        committed, under_way = (int(number.replace(",", "") or 0) for number in said[-1])
        record |= {"said_committed": committed, "said_under_way": under_way}
    return record


def _rotated(contestants: Sequence[Contestant], number: int) -> list[Contestant]:
    """The contestants, each round beginning with another one."""
    first = number % max(1, len(contestants))
    return [*contestants[first:], *contestants[:first]]


def _median(records: Sequence[Record], data: str, name: str) -> float:
    values = [record[name] for record in records if record["data"] == data and record["part"] == "cost"]
    return median(values) if values else 0.0
