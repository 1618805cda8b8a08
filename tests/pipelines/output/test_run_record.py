"""run.json: a run with the same settings goes on, one with other settings is refused; no secret is stored."""

import json
import os
from pathlib import Path

import pytest

from actors.config import ASRConfig, VLLMConfig
from actors.errors import UsageError
from actors.redaction import redacted
from pipelines.config import RunConfig, load_config
from pipelines.config_sections import ClusterConfig
from pipelines.output import run_record, saved_settings


def test_a_second_run_with_the_same_settings_joins_the_first(tmp_path: Path) -> None:
    out = str(tmp_path)
    first, _ = run_record.open_run(out, RunConfig(), "transcribe", "m.jsonl")
    second, record = run_record.open_run(out, RunConfig(), "transcribe", "m.jsonl")
    assert first != second
    run_record.close_run(out, record, second, recordings=3)
    stored = json.loads((tmp_path / "run.json").read_text())
    assert [run["run_id"] for run in stored["runs"]] == [first, second]
    assert stored["runs"][1]["finished_at"] and stored["runs"][1]["recordings"] == 3
    assert stored["config_hash"] == RunConfig().hash()


def test_other_settings_are_refused_and_named_unless_accepted(tmp_path: Path) -> None:
    out = str(tmp_path)
    run_record.open_run(out, RunConfig(), "transcribe", "m.jsonl")
    other = load_config(None, ["asr.language=German"])
    with pytest.raises(UsageError, match=r"other settings \(asr\.language\)"):
        run_record.open_run(out, other, "transcribe", "m.jsonl")
    _, record = run_record.open_run(out, other, "transcribe", "m.jsonl", accept_changes=True)
    assert record["config_hash"] == other.hash()


def test_another_command_is_refused(tmp_path: Path) -> None:
    run_record.open_run(str(tmp_path), RunConfig(), "transcribe", "m.jsonl")
    with pytest.raises(UsageError, match="was made by `scriptorium transcribe`"):
        run_record.open_run(str(tmp_path), RunConfig(), "align", "m.jsonl")


def test_a_folder_with_unknown_tables_is_refused(tmp_path: Path) -> None:
    (tmp_path / "transcripts").mkdir()
    (tmp_path / "transcripts/x.parquet").write_bytes(b"theirs")
    with pytest.raises(UsageError, match=r"no run\.json"):
        run_record.open_run(str(tmp_path), RunConfig(), "transcribe", "m.jsonl")


def test_the_name_of_a_manifest_may_be_invalid_utf_8(tmp_path: Path) -> None:
    run_record.open_run(str(tmp_path), RunConfig(), "transcribe", os.fsdecode(b"/data/m\xff.jsonl"))
    assert run_record.require(str(tmp_path))["runs"][0]["manifest"] == "/data/m\\udcff.jsonl"


def test_a_note_does_not_finish_a_run(tmp_path: Path) -> None:
    run_id, record = run_record.open_run(str(tmp_path), RunConfig(), "transcribe", "m.jsonl")
    run_record.note(str(tmp_path), record, run_id, asked_of_servers={"requests": 3})
    assert (
        run_record.require(str(tmp_path))["runs"][0]
        | {"finished_at": None, "asked_of_servers": {"requests": 3}}
        == record["runs"][0]
    )


def test_a_foreign_run_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("[1]")
    with pytest.raises(UsageError, match="does not describe a run of Scriptorium"):
        run_record.read(str(tmp_path))
    assert run_record.read(str(tmp_path / "elsewhere")) is None


def test_secrets_do_not_reach_run_json(tmp_path: Path) -> None:
    config = load_config(None, ['cluster.runtime_env={"env_vars": {"TOKEN": "hush-hush"}}'])
    run_record.open_run(str(tmp_path), config, "transcribe", "m.jsonl")
    text = (tmp_path / "run.json").read_text()
    assert "hush-hush" not in text and "TOKEN" in text


def test_no_part_of_a_runtime_environment_reveals_a_secret(tmp_path: Path) -> None:
    environment = {
        "pip": {
            "packages": [
                "numpy==2.1",
                "torch[x]>=2.4, <3",
                "--extra-index-url",
                "https://u:hush@host/simple",
                "--find-links=https://host/hush/",
            ],
            "pip_install_options": ["--hush"],
        },
        "conda": {
            "dependencies": ["python=3.11", {"pip": ["git+https://hush@host/x.git"]}],
            "variables": {"KEY": "hush"},
        },
        "working_dir": "https://host/app.zip?token=hush",
        "container": {"run_options": ["--env", "TOKEN=hush"]},
        "py_modules": ["s3://hush/x.zip"],
        "config": {"eager_install": True, "setup_timeout_seconds": 600},
    }
    run_record.open_run(
        str(tmp_path), RunConfig(cluster=ClusterConfig(runtime_env=environment)), "transcribe", "m.jsonl"
    )
    text = (tmp_path / "run.json").read_text()
    assert "hush" not in text
    assert all(
        name in text
        for name in ("numpy==2.1", "torch[x]>=2.4, <3", "python=3.11", "working_dir", "KEY", "eager_install")
    )


def test_the_address_of_a_manifest_is_stored_without_credentials(tmp_path: Path) -> None:
    out = str(tmp_path)
    _, record = run_record.open_run(
        out, RunConfig(), "transcribe", "https://me:hush@host/m.jsonl?X-Amz-Signature=hush&x=1"
    )
    assert (
        "hush" not in (tmp_path / "run.json").read_text()
        and "host/m.jsonl" in (tmp_path / "run.json").read_text()
    )
    record["runs"][0]["manifest"] = "https://host/m.jsonl?hush"  # as early versions stored it
    run_record.write(out, record)
    assert run_record.require(out)["runs"][0]["manifest"] == "https://host/m.jsonl?***"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://u:p@host/a?b=c", "https://***@host/a?***"),
        ("ftp://u@host/a@b.wav", "ftp://***@host/a@b.wav"),
        (
            "zip://m.jsonl::https://u:p@host/z.zip?sig=1::filecache",
            "zip://m.jsonl::https://***@host/z.zip?***::filecache",
        ),
        ("s3://bucket/a@b/*.wa?", "s3://bucket/a@b/*.wa?"),
        ("/data/what?/m.jsonl", "/data/what?/m.jsonl"),
        ("404 at URL('https://h/a.wav?sig=1') for a@b", "404 at URL('https://h/a.wav?***') for a@b"),
    ],
)
def test_addresses_are_shown_without_credentials(address: str, expected: str) -> None:
    assert redacted(address) == expected


def test_secrets_of_an_engine_are_neither_stored_nor_hashed(tmp_path: Path) -> None:
    engine = {
        "hf_token": "hf_nobody",
        "quantization": "fp8",
        "max_num_batched_tokens": 4096,
        "tokenizer_mode": "slow",
    }
    settings = ASRConfig(backend="vllm", vllm=VLLMConfig(engine=engine))
    config, other = (
        RunConfig(asr=settings),
        RunConfig(asr=settings.model_copy(update={"vllm": VLLMConfig(engine={**engine, "hf_token": "x"})})),
    )
    assert config.hash() == other.hash() != RunConfig(asr=ASRConfig(backend="vllm")).hash()
    run_record.open_run(str(tmp_path), config, "transcribe", "m.jsonl")
    stored = (tmp_path / "run.json").read_text()
    assert "hf_nobody" not in stored and "fp8" in stored
    again = saved_settings.load_settings(str(tmp_path), run_record.require(str(tmp_path)))
    assert again.asr.vllm.engine == {name: value for name, value in engine.items() if name != "hf_token"}
