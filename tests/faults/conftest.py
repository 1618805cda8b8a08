"""Fixtures that the fault tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.config import AudioConfig, SegmenterConfig
from actors.decoder import Decoder
from tests.faults.harness import jobs


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `archive` (48 recordings of 0.5 to 1 s) and `calm` (an undisturbed run of the fake model
    over them).
    """
    folder = tmp_path_factory.mktemp("undisturbed")
    manifest, _ = jobs.archive(folder / "archive", 48, seconds=0.5)
    job = jobs.Job("transcribe", manifest, folder / "calm", log=folder / "calm.log")
    assert job.wait(500) == 0, job.said()
    return folder


@pytest.fixture(autouse=True)
def ended_jobs() -> Iterator[None]:
    """Ends whatever a test left of its jobs."""
    yield
    while jobs.STARTED:
        jobs.STARTED.pop().end()


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    """A decoder with tight limits, in its child process."""
    made = Decoder(AudioConfig(timeout=120, max_memory=1, retries=0), SegmenterConfig(backend="energy"))
    yield made
    made.close()
