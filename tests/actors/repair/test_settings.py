"""The settings of the repair, and those of the second model."""

from __future__ import annotations

import pytest

from actors.config import ASRConfig
from actors.config.repair import WEAK_LANGUAGES, RepairConfig
from actors.errors import UsageError
from pipelines.config import RunConfig, load_config


def test_the_second_model_shares_what_its_engine_shares() -> None:
    asr = ASRConfig(model="small", dtype="float32", context="terms", threads=2)
    second = RepairConfig(model="large").second_model(asr)
    assert second is not None
    assert (second.model, second.dtype, second.context, second.threads) == ("large", "float32", "terms", 2)
    remote = RepairConfig(model="whisper", backend="openai").second_model(asr)
    assert remote is not None
    assert (remote.backend, remote.dtype, remote.context, remote.threads) == ("openai", "auto", "terms", None)
    assert remote.pool.num_gpus == 0


def test_there_is_none_without_a_model_or_with_repair_switched_off() -> None:
    assert RepairConfig().second_model(ASRConfig()) is None
    assert RepairConfig(model="large", enabled=False).second_model(ASRConfig()) is None


def test_weak_stands_for_the_languages_in_which_the_small_model_is_weak() -> None:
    assert RepairConfig(model="large", languages="weak, German").languages == [*WEAK_LANGUAGES, "de"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("repair.languages=[sv]", "set repair.model"),
        ("repair.max_share=1.5", "less than or equal to 1"),
        ("repair.languages=[xx]", "unknown language"),
        ("asr.languages=[de,klingon]", "unknown language"),
    ],
)
def test_wrong_settings_are_refused_before_anything_starts(setting: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_config(None, [setting])


def test_languages_that_are_not_expected_cannot_be_sent_to_the_second_model() -> None:
    with pytest.raises(UsageError, match="does not allow"):
        load_config(None, ["repair.model=m", "repair.languages=[sv]", "asr.languages=[de]"])


def test_repair_is_a_part_of_what_determines_the_output_only_where_it_is_on() -> None:
    assert "repair" in RunConfig().identity()
    off = load_config(None, ["repair.enabled=false"]).identity()
    assert "repair" not in off and "languages" not in off["asr"]
