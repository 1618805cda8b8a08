"""The repair in whole jobs: the second model's pass and pool, and its resume after a kill -9."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines.output import shards
from tests.e2e.conftest import NO_WORDS, read_transcripts, write_manifest
from tests.faults.harness import checker, jobs

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SURE = ("hotline-8khz", "voice-note", "memo")


def run_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "run.json").read_text())["runs"][-1]


def test_what_is_doubtful_is_heard_by_the_second_model_and_sound_segments_are_not_changed(
    scriptorium: Callable[..., int], demo: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    manifest = write_manifest(tmp_path / "m.jsonl", [demo[name] for name in (*SURE, "message", "front-desk")])
    plain, out = tmp_path / "plain", tmp_path / "out"
    assert scriptorium("transcribe", manifest, plain, *NO_WORDS, "--set", "repair.enabled=false") == 0
    second = ("repair.model=configs/demo/asr", "repair.languages=[es]", "repair.max_share=0.9")
    # Everything but the surest texts is doubtful.
    settings = [*second, "guards.min_confidence=0.96"]
    options = [part for setting in settings for part in ("--set", setting)]
    assert scriptorium("transcribe", manifest, out, *NO_WORDS, *options) == 0
    before, after = read_transcripts(plain), read_transcripts(out)
    assert before.keys() == after.keys()
    for name in ("hotline-8khz", "voice-note"):
        assert after[name]["text"] == before[name]["text"]
        assert not {flag for one in after[name]["segments"] for flag in one["flags"] if "repair" in flag}
    (memo,) = after["memo"]["segments"]
    assert "second_model" in memo["flags"] and memo["candidates"][-1]["source"] == "original"
    repairs = run_of(out)["repairs"]
    assert repairs["second_model"]["segments"] >= 1 and repairs["recut"]["segments"] >= 1
    planned = sum(row["duration"] for row in after.values())
    assert shards.repair_seconds(str(out)) <= 0.9 * planned + sum(
        one["end"] - one["start"] for one in after["memo"]["segments"]
    )
    report = json.loads((out / "report.json").read_text())
    assert report["exact"] and 0 < report["repairs"]["recut"]["cost_share"] < 1


def test_without_anything_to_hear_the_second_pool_never_starts(
    scriptorium: Callable[..., int], demo: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    manifest, out = write_manifest(tmp_path / "m.jsonl", [demo[name] for name in SURE[:2]]), tmp_path / "out"
    # A model that could not be loaded.
    nowhere = ("--set", "repair.model=m", "--set", "repair.backend=openai")
    remote = ("--set", "repair.remote.base_url=http://127.0.0.1:9/v1")
    assert scriptorium("transcribe", manifest, out, *NO_WORDS, *nowhere, *remote) == 0
    assert len(read_transcripts(out)) == 2 and not (out / "second_pass").exists()
    assert run_of(out)["repairs"] == {}


@pytest.mark.faults
def test_a_kill_in_the_second_pass_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    manifest, ids = jobs.archive(tmp_path / "archive", 40, seconds=0.5)
    # Every segment of the fake recogniser is English.
    settings = (*jobs.FAKE, "repair.model=fake:0.4", "repair.languages=[en]", "plan.task_seconds=2")
    out = tmp_path / "out"
    job = jobs.Job("transcribe", manifest, out, settings=settings, log=tmp_path / "log")
    deadline = time.monotonic() + 240
    while not 2 <= len(second_ids(out)) < 38:
        assert job.process.poll() is None and time.monotonic() < deadline, job.said()[-2000:]
        time.sleep(0.1)
    job.kill()
    checker.nobody_left(job.mark)
    before = len(second_ids(out))
    assert not list((out / "transcripts").glob("*.parquet"))
    again = jobs.Job("transcribe", manifest, out, settings=settings, log=tmp_path / "log")
    assert again.wait(300) == 0, again.said()[-3000:]
    found = [
        row for file in (out / "transcripts").glob("*.parquet") for row in pq.read_table(file).to_pylist()
    ]
    assert sorted(row["recording_id"] for row in found) == sorted(ids)
    assert {flag for row in found for one in row["segments"] for flag in one["flags"]} == {"second_model"}
    heard = second_ids(out)
    assert len(heard) == len(set(heard)) == len(ids) > before
    assert json.loads((out / "report.json").read_text())["exact"]


def second_ids(out: Path) -> list[str]:
    if not (out / "checkpoint").exists():
        return []
    return [one for one in shards.committed_ids(str(out)).to_pylist() if one.endswith("+2")]
