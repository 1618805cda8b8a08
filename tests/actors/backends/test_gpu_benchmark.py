"""The GPU benchmark fits the code: its stages run on a CPU with small shapes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

ROOT = Path(__file__).resolve().parents[3]
STAGES = (
    "machine,parity,actor_small,actor_large,steps,attention,encoder,prefill,aligner,lengths,features,cost,"
    "both_models,out_of_memory,vllm"
)


def results(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    """Run the benchmark; the lines of its results."""
    environment = {**os.environ, "OUT": str(folder), "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    finished = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.gpu", "--tiny", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    failed = [line for line in lines if line["what"].startswith(("FAILED", "SKIPPED"))]
    assert not failed and finished.returncode == 0, (failed, finished.stderr[-2000:])
    return lines


def test_all_stages_on_one_process_run(tmp_path: Path) -> None:
    lines = results(tmp_path, "--stages", STAGES)
    finished = [line["what"].removeprefix("stage ") for line in lines if line["what"].startswith("stage ")]
    assert finished == STAGES.split(",")
    [recogniser] = [line for line in lines if line["what"] == "demo recogniser, float32"]
    assert recogniser["same_as_cpu"] == "3 of 3" and recogniser["single_equals_batch"] == "2 of 2"


@pytest.mark.slow
def test_several_processes_share_a_device(tmp_path: Path) -> None:
    [line] = [
        line for line in results(tmp_path, "--stages", "processes") if line["what"] == "processes on one card"
    ]
    assert all(rate > 0 for rate in line["rtfx"])


@pytest.mark.slow
def test_answers_prepared_on_another_machine_are_read(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.gpu", "--prepare", str(tmp_path / "demo.npz")],
        cwd=ROOT,
        check=True,
        timeout=280,
    )
    lines = results(tmp_path, "--stages", "parity", "--data", str(tmp_path / "demo.npz"))
    [recogniser] = [line for line in lines if line["what"] == "demo recogniser, float32"]
    assert recogniser["same_as_cpu"] == "22 of 22"


def test_every_stage_is_tested() -> None:
    from tests.benchmarks.gpu.__main__ import STAGES as KNOWN

    assert {stage.name for stage in KNOWN} == {*STAGES.split(","), "processes"}


def test_an_unknown_stage_is_refused(tmp_path: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.gpu", "--stages", "warp"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 2 and "no stage warp; there are machine, parity" in finished.stderr
