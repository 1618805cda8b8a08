"""Object storage that misbehaves: the job continues, or stops and says so; a bad object costs only itself."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.faults.harness import checker
from tests.faults.harness.jobs import FAKE, Job, archive
from tests.faults.harness.proxy import Proxy, Rule

pytestmark = [pytest.mark.faults, pytest.mark.ray]

RECORDINGS = 24
# Many small tasks, so that many commits can fail; and a stall that costs a test seconds, not minutes.
SETTINGS = (*FAKE, "plan.task_seconds=1.5", "storage.timeout=5", "cluster.no_progress_timeout=300")
STALL = 6.0


@pytest.fixture(scope="module")
def shelf(undisturbed: Path, s3_bucket: str) -> tuple[str, list[str]]:
    """Recordings of `undisturbed` and their manifest in S3; returns the manifest's URI and the ids."""
    import boto3

    bucket, client = urlsplit(s3_bucket).netloc, boto3.client("s3")
    lines = (undisturbed / "archive/manifest.jsonl").read_text().splitlines()[:RECORDINGS]
    rows = [json.loads(line) for line in lines]
    client.put_object(Bucket=bucket, Key="shelf/manifest.jsonl", Body="\n".join(lines).encode())
    for row in rows:
        client.upload_file(str(undisturbed / "archive" / row["audio"]), bucket, f"shelf/{row['audio']}")
    return f"{s3_bucket}/shelf/manifest.jsonl", [row["id"] for row in rows]


def run(
    manifest: str, out: str, proxy: Proxy, log: Path, settings: tuple[str, ...] = SETTINGS, code: int = 0
) -> Job:
    """Run the job with `proxy` as its store; its figures go to the log, for the table of results."""
    started = time.monotonic()
    job = Job(
        "transcribe", manifest, out, settings=settings, environment={"AWS_ENDPOINT_URL": proxy.url}, log=log
    )
    try:
        assert job.wait(540) == code, job.said()
    finally:
        print(
            json.dumps({"seed": proxy.seed, "seconds": round(time.monotonic() - started), **proxy.summary()})
        )
    return job


@pytest.mark.timeout(1800)
@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_tenth_of_all_requests_may_fail_without_a_trace(
    shelf: tuple[str, list[str]], undisturbed: Path, s3_bucket: str, tmp_path: Path, seed: int
) -> None:
    manifest, ids = shelf
    out = f"{s3_bucket}/tenth-{seed}"
    with Proxy(os.environ["AWS_ENDPOINT_URL"], seed, 0.1, stall=STALL) as proxy:
        job = run(manifest, out, proxy, tmp_path / "job.log")
    _, letters = checker.check(out, ids, calm=undisturbed / "calm", moved=True)
    assert not letters
    assert proxy.injected.total() >= 0.07 * proxy.requests.total() > 15
    broken = " ".join(proxy.places)
    assert all(part in broken for part in ("shelf/", "/shards/", "/checkpoint/")), sorted(proxy.places)
    checker.nobody_left(job.mark)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_object_that_fails_changes_or_vanishes_costs_only_itself(
    shelf: tuple[str, list[str]], undisturbed: Path, s3_bucket: str, tmp_path: Path
) -> None:
    import boto3

    manifest, ids = shelf
    bucket, client = urlsplit(s3_bucket).netloc, boto3.client("s3")
    before = {
        number: client.get_object(Bucket=bucket, Key=f"shelf/{number:05d}.wav")["Body"].read()
        for number in (4, 5)
    }

    def meddle() -> None:
        client.put_object(Bucket=bucket, Key="shelf/00004.wav", Body=before[4][:-2000])
        client.delete_object(Bucket=bucket, Key="shelf/00005.wav")

    out = f"{s3_bucket}/single"
    with Proxy(
        os.environ["AWS_ENDPOINT_URL"],
        4,
        rules={"shelf/00003.wav": Rule(1.0, ("error_500", "slow_down", "reset", "truncated"))},
        # The plan is complete and nothing is decoded yet.
        events={r"PUT .*_plan-.*\.index": meddle},
    ) as proxy:
        try:
            run(manifest, out, proxy, tmp_path / "job.log", (*SETTINGS, "storage.retries=2"), code=3)
        finally:
            for number, data in before.items():
                client.put_object(Bucket=bucket, Key=f"shelf/{number:05d}.wav", Body=data)
    bad = {"r00003": "storage_unavailable", "r00004": "audio_changed", "r00005": "audio_not_found"}
    transcripts, letters = checker.check(out, ids, calm=undisturbed / "calm", moved=True, damaged=bad)
    assert {key: row["error_code"] for key, row in letters.items()} == bad
    assert len(transcripts) == RECORDINGS - 3


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_commits_that_fail_half_way_lose_and_duplicate_nothing(
    shelf: tuple[str, list[str]], undisturbed: Path, s3_bucket: str, tmp_path: Path
) -> None:
    """A commit is a copy and a delete. Either may fail for good, before or after taking effect."""
    manifest, ids = shelf
    out = f"{s3_bucket}/half"
    with Proxy(
        os.environ["AWS_ENDPOINT_URL"],
        5,
        rules={
            r"DELETE .*\.pending\.parquet": Rule(0.25, ("lost", "error_500"), streak=3),
            r"PUT .*/checkpoint/[^.]+\.parquet": Rule(0.25, ("lost", "error_500"), streak=3),
        },
    ) as proxy:
        settings, environment = (*SETTINGS, "storage.retries=2"), {"AWS_ENDPOINT_URL": proxy.url}
        for number in range(
            4
            # Settling a commit may fail for good as well: then the run stops and is started again.
        ):
            job = Job(
                "transcribe",
                manifest,
                out,
                settings=settings,
                environment=environment,
                log=tmp_path / f"{number}.log",
            )
            if job.wait(540) == 0:
                break
            assert "the same command goes on from there" in _last_line(job), job.said()
    _, letters = checker.check(out, ids, calm=undisturbed / "calm", moved=True)
    assert not letters
    assert sum("DELETE" in place for place in proxy.places) and sum(
        "PUT" in place for place in proxy.places
    ), proxy.places


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_s3_output_that_refuses_writes_stops_the_run_and_the_same_command_resumes(
    shelf: tuple[str, list[str]], undisturbed: Path, s3_bucket: str, tmp_path: Path
) -> None:
    manifest, ids = shelf
    out = f"{s3_bucket}/refused"
    with Proxy(
        os.environ["AWS_ENDPOINT_URL"], 6, rules={r"PUT .*/refused/": Rule(1.0, ("denied",))}
    ) as proxy:
        job = run(manifest, out, proxy, tmp_path / "before.log", code=1)
        assert _last_line(job).startswith(
            f"scriptorium: cannot write {out}/"
        ) and "AccessDenied" in job.said().replace(" ", "")
        assert "0 of 24" not in job.said(), "Ray was started first"
        proxy.rules = {r"PUT .*/shards/.*_000001-": Rule(1.0, ("denied",))}
        job = run(manifest, out, proxy, tmp_path / "during.log", code=1)
        assert _last_line(job).startswith(
            f"scriptorium: cannot read or write {out}: "
        ) and "ACCESS_DENIED" in _last_line(job)
        proxy.rules = {}
        run(manifest, out, proxy, tmp_path / "after.log")
    _, letters = checker.check(out, ids, calm=undisturbed / "calm", moved=True)
    assert not letters


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True
    ).returncode:
        pytest.skip("mounting a tmpfs needs rights that this user does not have")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_read_only_or_full_disk_stops_the_run_and_the_same_command_resumes(
    small_disk: Path, tmp_path: Path
) -> None:
    manifest, ids = archive(tmp_path / "audio", RECORDINGS, seconds=1.0)
    out = small_disk / "out"

    def again(name: str, code: int) -> Job:
        job = Job("transcribe", manifest, out, settings=SETTINGS, log=tmp_path / name)
        assert job.wait(540) == code, job.said()
        return job

    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    said = _last_line(again("read-only.log", 1))
    assert (
        said.startswith("scriptorium: cannot write ")
        and "Read-only file system" in said
        and "the same command goes on" in said
    )
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    ballast = small_disk / "ballast"
    # Room for the plan and for some shards.
    ballast.write_bytes(bytes((1024 - 160) * 1024))
    job = again("full.log", 1)
    assert "No space left on device" in _last_line(job) and "the same command goes on" in _last_line(job), (
        job.said()
    )
    ballast.unlink()
    again("resumed.log", 0)
    transcripts, letters = checker.check(out, ids)
    assert len(transcripts) == RECORDINGS and not letters
    assert len({row["text"] for row in transcripts.values()}) == RECORDINGS


def _last_line(job: Job) -> str:
    return job.said().strip().splitlines()[-1]
