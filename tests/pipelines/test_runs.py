"""run.json: the same settings go on, others are refused."""

import json
from pathlib import Path

import pytest

from actors.errors import UsageError
from pipelines.config import RunConfig, load_config
from pipelines.storage import runs


def test_a_second_run_with_the_same_settings_joins_the_first(tmp_path: Path) -> None:
    out = str(tmp_path)
    first, _ = runs.open_run(out, RunConfig(), "transcribe", "m.jsonl")
    second, record = runs.open_run(out, RunConfig(), "transcribe", "m.jsonl")
    assert first != second
    runs.close_run(out, record, second, recordings=3)
    stored = json.loads((tmp_path / "run.json").read_text())
    assert [run["run_id"] for run in stored["runs"]] == [first, second]
    assert stored["runs"][1]["finished_at"] and stored["runs"][1]["recordings"] == 3
    assert stored["config_hash"] == RunConfig().hash()


def test_other_settings_are_refused_and_named_unless_told(tmp_path: Path) -> None:
    out = str(tmp_path)
    runs.open_run(out, RunConfig(), "transcribe", "m.jsonl")
    other = load_config(None, ["asr.language=German"])
    with pytest.raises(UsageError, match=r"other settings \(asr\.language\)"):
        runs.open_run(out, other, "transcribe", "m.jsonl")
    _, record = runs.open_run(out, other, "transcribe", "m.jsonl", accept_changes=True)
    assert record["config_hash"] == other.hash()


def test_another_command_is_refused(tmp_path: Path) -> None:
    runs.open_run(str(tmp_path), RunConfig(), "transcribe", "m.jsonl")
    with pytest.raises(UsageError, match="was made by `scriptorium transcribe`"):
        runs.open_run(str(tmp_path), RunConfig(), "align", "m.jsonl")


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "transcripts").mkdir()
    (tmp_path / "transcripts/x.parquet").write_bytes(b"theirs")
    with pytest.raises(UsageError, match=r"no run\.json"):
        runs.open_run(str(tmp_path), RunConfig(), "transcribe", "m.jsonl")


def test_a_strange_run_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("[1]")
    with pytest.raises(UsageError, match="not a run of Scriptorium"):
        runs.read(str(tmp_path))
    assert runs.read(str(tmp_path / "elsewhere")) is None


def test_secrets_do_not_reach_run_json(tmp_path: Path) -> None:
    config = load_config(None, ['cluster.runtime_env={"env_vars": {"TOKEN": "hush-hush"}}'])
    runs.open_run(str(tmp_path), config, "transcribe", "m.jsonl")
    text = (tmp_path / "run.json").read_text()
    assert "hush-hush" not in text and "TOKEN" in text
