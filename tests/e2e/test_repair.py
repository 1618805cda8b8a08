"""The repair in whole jobs: its steps, and the pass and the pool of the second model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.output import shards
from tests.e2e.conftest import NO_WORDS, read_transcripts, write_manifest

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

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
