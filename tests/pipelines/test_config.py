"""Settings: defaults, YAML files, overrides, and messages about wrong values."""

from pathlib import Path

import pytest
import yaml

from actors.config import RemoteConfig
from actors.errors import UsageError
from pipelines.config import RunConfig, describe, load_config

ROOT = Path(__file__).resolve().parents[2]


def test_every_shipped_config_loads() -> None:
    configs = sorted((ROOT / "configs").glob("*.yaml"))
    assert {path.name for path in configs} >= {"transcribe.yaml", "demo.yaml"}
    for path in configs:
        load_config(str(path))


def test_the_default_config_file_is_what_print_config_prints() -> None:
    text = (ROOT / "configs/transcribe.yaml").read_text()
    assert yaml.safe_load(text) == yaml.safe_load("\n".join(describe(RunConfig())))
    assert text.split("\n", 1)[1].strip() == "\n".join(describe(RunConfig())).strip()
    assert RunConfig.model_validate(yaml.safe_load(text)) == RunConfig()


def test_an_unknown_parquet_codec_is_refused() -> None:
    with pytest.raises(UsageError, match=r"output\.compression"):
        load_config(None, ["output.compression=zst"])


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("asr: {language: de}\nsegmenter: {max_duration: 20}\n")
    config = load_config(str(file), ["asr.language=French", "asr.pool.size=3"])
    assert (config.asr.language, config.asr.pool.size, config.segmenter.max_duration) == ("French", 3, 20)


def test_a_model_folder_beside_the_config_is_found(tmp_path: Path) -> None:
    (tmp_path / "models/asr").mkdir(parents=True)
    file = tmp_path / "c.yaml"
    file.write_text("asr: {model: models/asr}\naligner: {model: Qwen/Qwen3-ForcedAligner-0.6B-hf}\n")
    config = load_config(str(file))
    assert config.asr.model == str(tmp_path / "models/asr")
    assert config.aligner.model == "Qwen/Qwen3-ForcedAligner-0.6B-hf"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["asr.modle=x"], "asr.modle: there is no such setting"),
        (["asr.language=Klingon"], "Klingon"),
        (["segmenter.max_duration=200"], "word times are only right in segments of at most 180 s"),
        (["segmenter.max_duration=700", "aligner.backend=none"], "must not be above plan.shard_duration"),
        (["audio.channel=centre"], "mix, left, right, each or a number"),
        (["asr.pool.size=0"], "asr.pool.size"),
        (["asr.language"], "NAME=VALUE"),
        (["estimate.gpus=0"], "estimate.gpus"),
        (["plan.probe_timeout=1e7"], "plan.probe_timeout"),
        (["asr.timeout=.inf"], "asr.timeout"),
        (["serve.timeout=.inf"], "serve.timeout"),
        (["cluster.object_store_memory=.inf"], "cluster.object_store_memory"),
        (["cluster.no_progress_timeout=1000000"], "cluster.no_progress_timeout"),
        (["asr.language.name=x", "asr.language=x", "asr.language.name=y"], "is a value, not a section"),
    ],
)
def test_wrong_settings_are_named(overrides: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=None) as caught:
        load_config(None, overrides)
    assert said in str(caught.value)


@pytest.mark.parametrize("keys", ["[123456]", "[true]", "[[hush-123456]]", "{hush-123456: 1}", "hush-123456"])
def test_an_api_key_that_is_not_a_digest_is_not_repeated(keys: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_config(None, [f"serve.api_keys={keys}"])
    assert "serve.api_keys" in str(caught.value)
    assert "123456" not in str(caught.value) and "True" not in str(caught.value)


def test_a_channel_and_a_revision_may_be_numbers() -> None:
    config = load_config(None, ["audio.channel=1", "asr.revision=1234567"])
    assert (config.audio.channel, config.asr.revision) == ("1", "1234567")


def test_long_segments_are_accepted_without_words() -> None:
    assert (
        load_config(None, ["segmenter.max_duration=300", "aligner.backend=none"]).segmenter.max_duration
        == 300
    )


@pytest.mark.parametrize(("text", "said"), [("a: [", "is not YAML"), ("- 1\n", "a mapping of sections")])
def test_wrong_files_are_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_config(str(file))
    assert said in str(caught.value) and str(file) in str(caught.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(UsageError, match=r"cannot read the config file nowhere\.yaml"):
        load_config("nowhere.yaml")


def test_the_hash_covers_results_and_not_speed() -> None:
    base = RunConfig().hash()
    assert load_config(None, ["asr.max_batch_size=7", "cluster.num_cpus=3", "asr.pool.size=2"]).hash() == base
    for change in (
        "asr.language=German",
        "aligner.backend=none",
        "segmenter.min_silence=1",
        "audio.channel=left",
        "asr.model=x",
    ):
        assert load_config(None, [change]).hash() != base


def test_vllm_gets_the_longest_segment() -> None:
    config = load_config(
        None,
        [
            "asr.backend=vllm",
            "segmenter.max_duration=45",
            "aligner.vllm.max_duration=20",
            "aligner.backend=vllm",
        ],
    )
    assert (config.asr.vllm.max_duration, config.aligner.vllm.max_duration) == (45, 20)
    assert load_config(None, ["segmenter.max_duration=45"]).asr.vllm.max_duration is None


def test_of_the_vllm_settings_only_engine_arguments_change_the_hash() -> None:
    one, other, third = (
        load_config(None, ["asr.backend=vllm", *settings])
        for settings in ([], ["asr.vllm.max_num_seqs=7"], ["asr.vllm.engine={quantization: fp8}"])
    )
    assert one.hash() == other.hash() != third.hash()
    assert one.hash() != RunConfig().hash()


@pytest.mark.parametrize("name", ["openai", "remote"])
def test_the_former_name_of_the_section_for_servers_is_accepted(tmp_path: Path, name: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(f"asr: {{{name}: {{concurrency: 5, retries: 1}}}}\n")
    expected = RemoteConfig(concurrency=5, retries=2)
    assert load_config(str(file), [f"asr.{name}.retries=2"]).asr.remote == expected
    assert load_config(None, [f"asr.{name}={{concurrency: 5, retries: 2}}"]).asr.remote == expected
    assert load_config(None, [f"asr={{{name}: {{concurrency: 5, retries: 2}}}}"]).asr.remote == expected


@pytest.mark.parametrize(
    ("text", "overrides"),
    [
        ("asr: {openai: {retries: 1}, remote: {concurrency: 5}}", []),
        ("asr: {openai: {retries: 1}}", ["asr.remote.concurrency=5"]),
        ("", ["asr.openai.retries=1", "asr.remote.concurrency=5"]),
    ],
)
def test_both_names_of_the_section_for_servers_are_refused(
    tmp_path: Path, text: str, overrides: list[str]
) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"asr\.openai is the former name of asr\.remote"):
        load_config(str(tmp_path / "c.yaml"), overrides)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("asr:\n  model: a\naligner: {}\nasr:\n  model: b\n", "'asr' is given twice, in line 1 and 4"),
        ("asr:\n  model: a\n  pool: {size: 1}\n  model: a\n", "'model' is given twice, in line 2 and 4"),
        ("asr: {pool: {size: 1, size: 2}}\n", "'size' is given twice, in line 1 and 1"),
    ],
)
def test_a_key_that_is_given_twice_is_refused_with_both_lines(tmp_path: Path, text: str, said: str) -> None:
    """PyYAML takes the last one without a word."""
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=said):
        load_config(str(file))


def test_merged_keys_may_be_given_again(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("asr: &model {model: a, language: German}\naligner:\n  <<: {model: b}\n  model: c\n")
    assert load_config(str(file)).aligner.model == "c"


def test_an_override_with_a_key_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--set asr\.pool\.labels: 'a' is given twice"):
        load_config(None, ["asr.pool.labels={a: x, a: y}"])


def test_speakers_change_the_hash_only_where_they_are_asked_for() -> None:
    plain = load_config(None)
    assert "speakers" not in plain.identity()
    assert load_config(None, ["speakers.count=3"]).hash() == plain.hash()
    found = load_config(None, ["speakers.backend=campplus"])
    assert found.hash() != plain.hash()
    assert load_config(None, ["speakers.backend=campplus", "speakers.threads=3"]).hash() == found.hash()
    assert load_config(None, ["speakers.backend=campplus", "speakers.count=3"]).hash() != found.hash()
