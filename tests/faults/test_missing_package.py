"""A worker node whose environment lacks this package: the run stops with its cause and blames no file."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.e2e.cluster import ray_nodes
from tests.faults.environment.commands import COMMAND, FAKE, ROOT
from tests.faults.harness import checker
from tests.faults.harness.jobs import archive

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(900)]

RECORDINGS = 40


@pytest.mark.parametrize("hidden", [("actors", "pipelines"), ("pipelines/execution",), ("actors/audio",)])
def test_a_worker_without_this_package_stops_the_run(hidden: tuple[str, ...], tmp_path: Path) -> None:
    if not ray_nodes.can_isolate():
        pytest.skip("this user may not create namespaces")
    manifest, _ = archive(tmp_path / "audio", RECORDINGS)
    out = tmp_path / "out"
    with ray_nodes.cluster([["--num-cpus=4"]], [ROOT / name for name in hidden]) as cluster:
        options = (
            *FAKE[:4],
            *("--set", f"cluster.address={cluster.address}", "--set", "plan.task_seconds=2"),
        )
        done = subprocess.run(
            cluster.inside([*COMMAND, "transcribe", manifest, out, *options]),
            env={**cluster.environment, "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=400,
        )
    assert done.returncode in (1, 2), done
    said = [line for line in done.stderr.splitlines() if " recordings · " not in line]
    assert len(said) <= 2 and "Traceback" not in done.stderr, done.stderr
    assert "No module named" in said[0] and hidden[-1].replace("/", ".") in said[0], done.stderr
    assert not checker.table(out, "dead_letters")
