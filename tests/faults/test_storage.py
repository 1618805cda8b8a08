"""Object storage that misbehaves: the job goes on through it, or stops and says so, and a bad object costs itself alone."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from pipelines.storage import locations
from tests.faults import checker
from tests.faults.jobs import FAKE, Job, archive
from tests.faults.proxy import KINDS, Proxy, Rule

pytestmark = [pytest.mark.faults, pytest.mark.ray]

RECORDINGS = 24
# Many small tasks, so that many commits can fail; and a stall that costs a test seconds, not minutes.
SETTINGS = (*FAKE, "plan.task_seconds=6", "storage.timeout=8", "cluster.no_progress_timeout=300")
STALL = 10.0


@pytest.fixture(scope="module")
def shelf(s3_bucket: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    """Recordings and their manifest in S3: the manifest's address and the ids."""
    import boto3

    folder = tmp_path_factory.mktemp("shelf")
    _, ids = archive(folder, RECORDINGS, seconds=1.0)
    bucket = urlsplit(s3_bucket).netloc
    client = boto3.client("s3")
    for path in folder.iterdir():
        client.upload_file(str(path), bucket, f"shelf/{path.name}")
    return f"{s3_bucket}/shelf/manifest.jsonl", ids


@pytest.fixture(scope="module")
def calm(shelf: tuple[str, list[str]], s3_bucket: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The output of an undisturbed run."""
    out = f"{s3_bucket}/calm"
    job = Job("transcribe", shelf[0], out, settings=SETTINGS, log=tmp_path_factory.mktemp("log") / "calm.log")
    assert job.wait(540) == 0, job.said()
    return out


def run(manifest: str, out: str, proxy: Proxy, log: Path, settings: tuple[str, ...] = SETTINGS, code: int = 0) -> Job:
    """The job with `proxy` for a store; its figures go to the log, for the table of results."""
    started = time.monotonic()
    job = Job("transcribe", manifest, out, settings=settings, environment={"AWS_ENDPOINT_URL": proxy.url}, log=log)
    try:
        assert job.wait(540) == code, job.said()
    finally:
        print(json.dumps({"seed": proxy.seed, "seconds": round(time.monotonic() - started), **proxy.summary()}))
    return job


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_a_tenth_of_all_requests_fails_and_nobody_can_tell_afterwards(
    shelf: tuple[str, list[str]], calm: str, s3_bucket: str, tmp_path: Path, seed: int
) -> None:
    manifest, ids = shelf
    out = f"{s3_bucket}/tenth-{seed}"
    with Proxy(os.environ["AWS_ENDPOINT_URL"], seed, 0.1, stall=STALL) as proxy:
        job = run(manifest, out, proxy, tmp_path / "job.log")
    _, letters = checker.check(out, ids, calm=calm)
    assert not letters
    assert proxy.injected.total() >= 0.07 * proxy.requests.total() > 15
    broken = " ".join(proxy.places)
    assert all(part in broken for part in ("shelf/", "/shards/", "/checkpoint/")), sorted(proxy.places)
    checker.nobody_left(job.mark)
