"""Samples without a header, and tracks: from the manifest's columns to the plan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actors.errors import UsageError
from pipelines.config import RunConfig
from pipelines.manifests.manifest import read_manifest
from pipelines.planning import planner


def plan(folder: Path, *rows: dict[str, object], **settings: object) -> list[dict[str, object]]:
    manifest = folder / "m.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = RunConfig.model_validate(
        {"plan": {"shard_duration": 60}, "segmenter": {"max_duration": 60}} | settings
    )
    return list(planner.plan_table(read_manifest(str(manifest)), config).to_pylist())


def test_samples_without_a_header_are_planned_by_their_size(tmp_path: Path) -> None:
    (tmp_path / "a.pcm").write_bytes(b"\1\2" * 16_000 * 150)
    rows = plan(tmp_path, {"audio": "a.pcm", "format": "s16le", "sampling_rate": 16_000, "channels": 1})
    assert [(row["start"], row["end"]) for row in rows] == [(0, 50), (50, 100), (100, None)]
    assert {row["raw_format"] for row in rows} == {"s16le:16000:1"}
    assert {(row["codec"], row["sampling_rate"], row["probe_error"]) for row in rows} == {
        ("pcm_s16le", 16_000, None)
    }
    assert json.loads(str(rows[0]["metadata"]))["format"] == "s16le"


def test_columns_of_a_file_with_a_header_are_metadata_only(tmp_path: Path) -> None:
    (row,) = plan(tmp_path, {"audio": "a.wav", "format": "wav", "sampling_rate": 16_000, "channels": 1})
    assert row["raw_format"] is None


def test_a_track_of_the_manifest_takes_precedence(tmp_path: Path) -> None:
    rows = plan(tmp_path, {"audio": "a.mov", "track": 1}, {"audio": "b.mov"}, audio={"track": "each"})
    assert {str(row["audio"])[-5:]: row["track"] for row in rows} == {"a.mov": "1", "b.mov": "each"}


def test_a_wrong_track_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"m\.jsonl:1: `track` must be one of auto, each, mix or a number"):
        plan(tmp_path, {"audio": "a.mov", "track": "left"})


def test_shards_of_different_tracks_have_different_ids(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    ids = {
        str(plan(tmp_path, {"audio": "a.wav", "id": "x", **columns})[0]["shard_id"])
        for columns in ({}, {"track": "auto"}, {"track": "1"}, {"track": "each"})
    }
    assert len(ids) == 3
