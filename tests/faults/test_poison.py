"""Rows that crash the model's process every time: each costs only itself, in a bounded number of crashes, and
says why.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.harness import checker
from tests.faults.harness.jobs import FAKE, Job

pytestmark = pytest.mark.faults

# A process has 5 s for a model call; the fake model needs microseconds.
SETTINGS = (
    *FAKE,
    "plan.task_seconds=4",
    "asr.timeout=5",
    "aligner.timeout=5",
    "asr.pool.max_task_retries=1",
    "aligner.pool.max_task_retries=1",
)
# pool.max_task_retries + 1
TRIES = 2
DEADLY = {"segfault": "worker_lost", "kill": "worker_lost", "hang": "model_timeout", "engine": "worker_lost"}
SURVIVED = {"raise": "model_failed", "never": "device_out_of_memory"}


def poisoned(manifest: Path, faults: dict[int, str]) -> tuple[Path, list[str]]:
    """The same manifest with faults for the fake backend at the given positions, and its ids."""
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    for place, fault in faults.items():
        rows[place]["context"] = f"fault:{fault}"
    poison = manifest.with_name("poison.jsonl")
    poison.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return poison, [row["id"] for row in rows]


def run(manifest: Path, out: Path, *settings: str) -> tuple[int, Job]:
    job = Job("transcribe", manifest, out, settings=(*SETTINGS, *settings), log=out.with_suffix(".log"))
    code = job.wait(500)
    checker.nobody_left(job.mark)
    return code, job


def last_run(out: Path) -> dict[str, int]:
    runs: list[dict[str, int]] = json.loads((out / "run.json").read_text())["runs"]
    return runs[-1]


FEW = ("segfault", "hang", "raise", "oom", "align:segfault")
ALL = (*DEADLY, *SURVIVED, "oom", "align:segfault", "align:hang", "align:raise")


@pytest.mark.timeout(900)
@pytest.mark.slow
@pytest.mark.parametrize("kinds", [FEW, ALL], ids=["few", "all"])
def test_each_poison_row_costs_only_itself(kinds: tuple[str, ...], undisturbed: Path, tmp_path: Path) -> None:
    faults = dict(zip(range(3, 40, 4), kinds, strict=False))
    manifest, ids = poisoned(undisturbed / "archive/manifest.jsonl", faults)
    code, job = run(manifest, tmp_path / "out")
    assert code == 3, job.said()
    failing = {ids[place] for place, fault in faults.items() if fault != "oom"}
    _, letters = checker.check(tmp_path / "out", ids, undisturbed / "calm", failing)
    codes = {
        ids[place]: {**DEADLY, **SURVIVED}[fault]
        for place, fault in faults.items()
        if fault in {**DEADLY, **SURVIVED}
    }
    codes |= {
        ids[place]: DEADLY[fault.removeprefix("align:")]
        for place, fault in faults.items()
        if fault in ("align:segfault", "align:hang")
    }
    assert {key: row["error_code"] for key, row in letters.items()} == codes
    message = {faults[ids.index(key)]: row["error_message"] for key, row in letters.items()}
    assert f"stage `recognise` crashed {TRIES} times while it held this shard" in message["segfault"]
    assert "not finished within its limit of 5 s" in message["hang"]
    assert "CUDA error" in message.get("engine", "CUDA error")
    assert "stage `align` crashed" in message["align:segfault"]
    stages = {faults[ids.index(key)]: row["error_stage"] for key, row in letters.items()}
    assert stages["segfault"] == "recognise" and stages["align:segfault"] == "align"
    deadly = sum(fault.rpartition(":")[2] in DEADLY for fault in faults.values())
    assert last_run(tmp_path / "out")["processes_died"] <= TRIES * deadly
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert (
        report["exact"] and report["recordings"] == len(ids) == report["transcripts"] + report["dead_letters"]
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_stops_with_the_cause_if_every_row_is_poison(undisturbed: Path, tmp_path: Path) -> None:
    """A broken image, for example: a dead letter for each of a million recordings would help nobody."""
    manifest, _ = poisoned(undisturbed / "archive/manifest.jsonl", dict.fromkeys(range(48), "engine"))
    code, job = run(manifest, tmp_path / "out")
    assert code == 1
    # 20, and 2 for each of the two replicas.
    assert "24 processes of the stage `recognise` crashed in a row" in job.said()
    assert "CUDA error" in job.said()
