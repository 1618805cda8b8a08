"""`retry` starts from the settings in run.json, also from those of older versions; given settings win."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest

from actors.errors import UsageError
from pipelines import transcribe
from pipelines.cli import main
from pipelines.config import RunConfig, load_config
from pipelines.output import run_record, saved_settings

MADE = [
    "asr.backend=fake",
    "aligner.backend=fake",
    "cluster.address=auto",
    "asr.pool.size=8",
    "asr.pool.labels={zone: a}",
]


@pytest.fixture
def out(tmp_path: Path) -> str:
    """A run that was made with settings other than the defaults."""
    folder = str(tmp_path / "out")
    run_record.open_run(folder, load_config(None, MADE), "transcribe", "m.jsonl")
    return folder


@pytest.fixture
def retried(monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """The settings that `transcribe.retry` was called with."""
    seen: list[RunConfig] = []

    def retry(out: str, config: RunConfig, codes: Any = ()) -> transcribe.Outcome:
        run_record.checked(out, config, "transcribe")
        seen.append(config)
        return transcribe.Outcome(1, 1, 0, 1)

    monkeypatch.setattr(transcribe, "retry", retry)
    return seen


def test_an_override_leaves_the_other_saved_settings_unchanged(out: str, retried: list[RunConfig]) -> None:
    assert main(["retry", out, "--set", "asr.timeout=900"]) == 0
    assert retried == [load_config(None, [*MADE, "asr.timeout=900"])]


def test_a_file_wins_over_saved_settings_and_overrides_win_over_both(
    out: str, tmp_path: Path, retried: list[RunConfig]
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("asr: {timeout: 900, threads: 2, pool: {labels: {}}}\n")
    assert main(["retry", out, "--config", str(file), "--set", "asr.threads=3"]) == 0
    assert retried == [load_config(None, [*MADE, "asr.timeout=900", "asr.threads=3", "asr.pool.labels={}"])]


def test_changed_settings_are_refused_and_the_message_says_how_to_go_on(
    out: str, capsys: pytest.CaptureFixture[str], retried: list[RunConfig]
) -> None:
    assert main(["retry", out, "--set", "asr.language=de"]) == 2
    assert (
        "(asr.language)" in (said := capsys.readouterr().err)
        and "`scriptorium transcribe` with --accept-changes" in said
    )
    assert not retried


def test_unknown_saved_settings_are_ignored_and_named(
    out: str, caplog: pytest.LogCaptureFixture, tmp_path: Path, retried: list[RunConfig]
) -> None:
    record = run_record.require(out)
    before = copy.deepcopy(record["config"])
    record["config"]["asr"]["gone_setting"] = record["config"]["asr"]["pool"]["older"] = record["config"][
        "section"
    ] = {"a": 1}
    run_record.write(out, record)
    with caplog.at_level(logging.WARNING):
        assert main(["retry", out]) == 0
    assert "asr.pool.older, asr.gone_setting, section" in caplog.text
    assert retried == [RunConfig.model_validate(before)]


def test_a_saved_setting_that_is_no_longer_valid_is_named_and_can_be_replaced(
    out: str, capsys: pytest.CaptureFixture[str], retried: list[RunConfig]
) -> None:
    record = run_record.require(out)
    record["config"]["output"]["compression"] = "foo"
    record["config"]["asr"]["timeout"] = float("inf")
    run_record.write(out, record)
    assert main(["retry", out]) == 2
    said = capsys.readouterr().err
    assert (
        f"{out}/run.json" in said
        and "output.compression" in said
        and "'foo'" in said
        and "asr.timeout" in said
        and "--set" in said
    )
    assert main(["retry", out, "--set", "output.compression=zstd", "--set", "asr.timeout=null"]) == 0
    assert retried == [load_config(None, MADE)]


@pytest.mark.parametrize("config", [None, {"asr": 1, "cluster": [], "aligner": {"vllm": 7}}])
def test_a_record_without_valid_settings_is_a_usage_error(out: str, config: Any) -> None:
    record = {**run_record.require(out), "config": config}
    with pytest.raises(UsageError, match=r"run\.json"):
        saved_settings.load_settings(out, record)


def test_retry_accepts_only_error_codes_that_exist(
    out: str, capsys: pytest.CaptureFixture[str], retried: list[RunConfig]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["retry", out, "--code", "storage_unavaliable"])
    assert stopped.value.code == 2 and "storage_unavailable" in capsys.readouterr().err
    assert main(["retry", out, "--code", "storage_unavailable", "--code", "not_audio"]) == 0
    assert len(retried) == 1


DEFAULTS_OF_0_1_0 = [
    "segmenter.backend=energy",
    "segmenter.silence_dbfs=-60",
    "guards.enabled=false",
    "repair.enabled=false",
]


def _written_by_0_1_0(out: str, backend: str = "transformers") -> str:
    """Make the run.json of `out` look as version 0.1.0 wrote it.

    The section `asr.remote` was called `asr.openai`, and the hashes are those that 0.1.0 computed.
    """
    record = run_record.require(out)
    asr = record["config"]["asr"]
    asr["openai"] = asr.pop("remote")
    record["config_hash"] = {"transformers": "38b9605526d9cff4", "openai": "5615f3540558277a"}[backend]
    run_record.write(out, record)
    return out


def test_a_run_of_version_0_1_0_is_resumed_with_the_default_settings(tmp_path: Path) -> None:
    then = load_config(None, DEFAULTS_OF_0_1_0)
    run_record.open_run(str(tmp_path), then, "transcribe", "m.jsonl")
    out = _written_by_0_1_0(str(tmp_path))
    config = saved_settings.with_former_defaults(RunConfig(), run_record.require(out))
    assert run_record.checked(out, config, "transcribe")
    assert saved_settings.load_settings(out, run_record.require(out)) == config == then


def test_a_run_of_version_0_1_0_with_a_remote_recogniser_is_resumed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = [
        "asr.backend=openai",
        *DEFAULTS_OF_0_1_0,
        "asr.openai.endpoint=transcriptions",
        "asr.openai.concurrency=3",
    ]
    config = load_config(None, settings)
    run_record.open_run(str(tmp_path), config, "transcribe", "m.jsonl")
    out = _written_by_0_1_0(str(tmp_path), "openai")
    assert run_record.checked(out, config, "transcribe")
    assert saved_settings.load_settings(out, run_record.require(out)) == config
    assert "does not know" not in caplog.text
    with pytest.raises(UsageError, match=r"other settings \(asr\.remote\)"):
        run_record.checked(out, load_config(None, settings[:5]), "transcribe")


@pytest.mark.parametrize("name", ["openai", "remote"])
def test_new_settings_lie_over_those_of_version_0_1_0_under_either_name(tmp_path: Path, name: str) -> None:
    config = load_config(None, ["asr.backend=openai", "asr.remote.concurrency=3"])
    run_record.open_run(str(tmp_path), config, "transcribe", "m.jsonl")
    record = run_record.require(_written_by_0_1_0(str(tmp_path), "openai"))
    found = saved_settings.load_settings(str(tmp_path), record, None, [f"asr.{name}.retries=1"])
    assert found == load_config(
        None, ["asr.backend=openai", "asr.remote.concurrency=3", "asr.remote.retries=1"]
    )
