"""The real job through the command line, on a local Ray, with the bundled models."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "configs/demo"
DEMO_CONFIG = str(ROOT / "configs/demo.yaml")
# The demo models transcribe these two recordings without an error, so tests can assert their exact text.
SURE = ("hotline-8khz", "voice-note")
# For tests that do not look at words: without the aligner a run needs one process less.
NO_WORDS = ("--set", "aligner.backend=none")


@pytest.fixture(scope="session")
def local_ray(s3_bucket: str) -> Iterator[None]:
    """One Ray for all runs of this process; the job joins a running Ray.

    It starts after the S3 server, so that its workers inherit the server's address.
    """
    from pipelines.cluster.session import LOCAL_ENVIRONMENT

    os.environ.update(LOCAL_ENVIRONMENT)
    import ray

    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=300 << 20,
        log_to_driver=False,
    )
    yield
    ray.shutdown()


@pytest.fixture
def scriptorium(local_ray: None) -> Callable[..., int]:
    """The command line in this process: `scriptorium("transcribe", manifest, out)` returns the exit code."""
    from pipelines.cli import main

    def run(*arguments: Any, config: str | None = DEMO_CONFIG) -> int:
        options = ["--config", config] if config and arguments[0] in ("transcribe", "align", "plan") else []
        return main([*(str(argument) for argument in arguments), *options])

    return run


@pytest.fixture(scope="session")
def demo() -> dict[str, dict[str, Any]]:
    """The demo manifest by recording id, with absolute audio paths."""
    rows = [json.loads(line) for line in (DEMO / "manifest.jsonl").read_text().splitlines()]
    return {row["id"]: {**row, "audio": str(DEMO / row["audio"])} for row in rows}


def write_manifest(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A JSONL manifest at `path`."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def read_transcripts(out: Any) -> dict[str, dict[str, Any]]:
    """OUT/transcripts by recording id. Fails if an id occurs twice."""
    return _by_id(str(out), "transcripts")


def read_dead_letters(out: Any) -> dict[str, dict[str, Any]]:
    """OUT/dead_letters by recording id. Fails if an id occurs twice."""
    return _by_id(str(out), "dead_letters")


def _by_id(out: str, table: str) -> dict[str, dict[str, Any]]:
    from pipelines.storage import files

    rows = files.read_tables(files.join(out, table)).to_pylist()
    found = {row["recording_id"]: row for row in rows}
    assert len(found) == len(rows), f"a recording occurs twice in {table}"
    return found
