"""`ray job submit --working-dir .` against three nodes on one machine that cannot see the checkout."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.cluster import ray_nodes
from tests.e2e.conftest import DEMO, DEMO_CONFIG, ROOT, read_dead_letters, read_transcripts
from tests.faults.harness import checker, jobs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

WORKERS = (
    ("--num-cpus=2", "--num-gpus=0", "--labels=zone=a"),
    ("--num-cpus=2", "--num-gpus=0", "--labels=zone=b"),
)
# One recogniser and one aligner, on different nodes.
APART = ("asr.pool.labels={zone: a}", "aligner.pool.labels={zone: b}")
# A submission may upload this many bytes; Ray accepts at most 512 MiB.
SENT = 30 << 20


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with the usual files beside the code.

    Its packages record, for each process that imports them, where the process found them.
    """
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("actors", "pipelines", "configs", "infra"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".rayignore", ".gitignore", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder / name)
    for name in (".git", ".venv", ".mypy_cache", "tests", "demo-output", "bench-output", "out"):
        (folder / name).mkdir()
        (folder / name / "large").write_bytes(bytes(SENT))
    notes = folder.with_name("notes")
    notes.mkdir()
    with open(folder / "actors/__init__.py", "a") as file:
        file.write(
            f"import os, pathlib\npathlib.Path({str(notes)!r}, str(os.getpid())).write_text("
            "__file__ + '\\n' + os.getcwd() + '\\n' + os.environ.get('RAY_RAYLET_PID', ''))\n"
        )
    return folder


@pytest.fixture(scope="module")
def cluster(checkout: Path) -> Iterator[ray_nodes.Cluster]:
    if not ray_nodes.can_isolate():
        pytest.skip("only root may give each node a file system of its own")
    with ray_nodes.cluster(WORKERS, hidden=[checkout]) as made:
        yield made


def submit(
    cluster: ray_nodes.Cluster, checkout: Path, job: str, *arguments: object, settings: tuple[str, ...] = ()
) -> None:
    """Submit as infra/README.md describes."""
    options = [part for setting in ("cluster.address=auto", *settings) for part in ("--set", setting)]
    command = ("bash", "infra/ray/transcribe.sh", *arguments, *options)
    cluster.job(
        "submit", "--submission-id", job, "--working-dir", ".", "--no-wait", "--", *command, cwd=checkout
    )


def test_a_submitted_demo_equals_a_local_run(
    cluster: ray_nodes.Cluster, checkout: Path, tmp_path: Path
) -> None:
    from pipelines.cli import main

    manifest, out = "configs/demo/manifest.jsonl", tmp_path / "out"
    submit(cluster, checkout, "demo", manifest, out, "--config", "configs/demo.yaml", settings=APART)
    assert cluster.wait_for("demo", ["SUCCEEDED"], 600) == "SUCCEEDED"
    said = cluster.job("logs", "demo")
    assert "14 recordings = 13 transcripts + 1 dead letter" in said and "the job counts as done" in said

    assert (
        main(["transcribe", str(DEMO / "manifest.jsonl"), str(tmp_path / "local"), "--config", DEMO_CONFIG])
        == 3
    )
    sent, local = read_transcripts(out), read_transcripts(tmp_path / "local")
    assert (
        sent.keys() == local.keys()
        and read_dead_letters(out).keys() == read_dead_letters(tmp_path / "local").keys()
    )
    for key, row in sent.items():
        for name in ("text", "language", "languages", "segments", "duration", "status", "flags", "metadata"):
            assert row[name] == local[key][name], (key, name)
        # Models and audio were uploaded too.
        assert "/_ray_pkg_" in row["audio"] and "/_ray_pkg_" in row["provenance"]["asr_model"]

    notes = [path.read_text().split("\n") for path in checkout.with_name("notes").iterdir()]
    assert all("/_ray_pkg_" in file and "/_ray_pkg_" in folder for file, folder, _ in notes), notes
    assert len({raylet for _, _, raylet in notes if raylet}) >= 2, "only one node worked"
    [package] = {file.removesuffix("/actors/__init__.py") for file, _, _ in notes}
    assert {path.name for path in Path(package).iterdir()} == {
        "actors",
        "pipelines",
        "configs",
        "infra",
        *ROOT_FILES,
    }
    assert sum(path.stat().st_size for path in Path(package).rglob("*") if path.is_file()) < SENT


ROOT_FILES = {".rayignore", ".gitignore", "pyproject.toml", "README.md"}


def test_a_stopped_job_submitted_again_loses_nothing(
    cluster: ray_nodes.Cluster, checkout: Path, tmp_path: Path
) -> None:
    manifest, ids = jobs.archive(tmp_path / "archive", 48, seconds=0.5)
    calm, out = tmp_path / "calm", tmp_path / "out"
    job = jobs.Job("transcribe", manifest, calm, log=tmp_path / "calm.log")
    assert job.wait(300) == 0, job.said()
    settings = (*jobs.FAKE, *APART, "asr.model=fake:0.3", "plan.task_seconds=2")
    submit(cluster, checkout, "first", manifest, out, settings=settings)
    deadline = time.monotonic() + 300
    while jobs.committed(out) < 3:
        assert time.monotonic() < deadline, cluster.job("logs", "first")[-3000:]
        time.sleep(0.1)
    cluster.job("stop", "first")
    assert cluster.wait_for("first", ["STOPPED", "SUCCEEDED", "FAILED"], 60) == "STOPPED"
    stopped = jobs.committed(out)
    assert 3 <= stopped < 24, "it was over before it was stopped"
    submit(cluster, checkout, "second", manifest, out, settings=settings)
    assert cluster.wait_for("second", ["SUCCEEDED"], 300) == "SUCCEEDED"
    transcripts, letters = checker.check(out, ids, calm)
    assert len(transcripts) == len(ids) and not letters
    runs = json.loads((out / "run.json").read_text())["runs"]
    assert len(runs) == 2 and runs[1]["finished_at"]
    print(f"\nray job: stopped after {stopped} tasks, submitted again: lost 0, twice 0, of {len(ids)}")


def test_a_dry_run_joins_the_cluster(cluster: ray_nodes.Cluster, checkout: Path) -> None:
    cluster.job(
        *(
            "submit",
            "--submission-id",
            "dry",
            "--working-dir",
            ".",
            "--",
            "python",
            "-m",
            "pipelines",
            "transcribe",
            "--dry-run",
        ),
        *(
            "--config",
            "configs/demo.yaml",
            "--set",
            "cluster.address=auto",
            *(part for each in APART for part in ("--set", each)),
        ),
        cwd=checkout,
    )
    said = [" ".join(line.split()) for line in cluster.job("logs", "dry").splitlines()]
    assert any(line.startswith("zone=a 2 0 1 on CPUs - 2 2") for line in said), said
    assert any(line.startswith("zone=b 2 0 - 1 on CPUs 2 2") for line in said), said
