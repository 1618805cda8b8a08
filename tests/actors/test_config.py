"""Settings of the actors: values that no clock or file can hold are refused before anything runs."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from actors.config import AlignerConfig, ASRConfig, AudioConfig, RemoteConfig, SegmenterConfig
from actors.config.base import LONGEST_TIMEOUT, PoolConfig, Settings, StorageConfig

LIMITS: list[tuple[type[Settings], str]] = [
    (StorageConfig, "timeout"),
    (AudioConfig, "timeout"),
    (ASRConfig, "timeout"),
    (AlignerConfig, "timeout"),
    (RemoteConfig, "timeout"),
    (RemoteConfig, "patience"),
]


@pytest.mark.parametrize(("section", "name"), LIMITS)
def test_a_time_limit_is_at_most_a_week(section: type[Settings], name: str) -> None:
    assert getattr(section.model_validate({name: LONGEST_TIMEOUT}), name) == LONGEST_TIMEOUT
    for wrong in (LONGEST_TIMEOUT + 1, 1e10, float("inf"), float("nan"), 0):
        with pytest.raises(ValidationError):
            section.model_validate({name: wrong})


@pytest.mark.parametrize(
    ("section", "values"),
    [
        (AudioConfig, {"max_memory": float("inf")}),
        (AudioConfig, {"max_memory": 1e10}),  # more bytes than a limit of the system can have
        (SegmenterConfig, {"silence_dbfs": float("-inf")}),
        (ASRConfig, {"max_batch_seconds": float("inf")}),
    ],
)
def test_values_that_cannot_be_stored_are_refused(section: type[Settings], values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        section.model_validate(values)


def test_text_may_look_like_a_number() -> None:
    assert AudioConfig.model_validate({"channel": 1}).channel == "1"
    assert ASRConfig.model_validate({"revision": 1234567}).revision == "1234567"
    assert PoolConfig.model_validate({"labels": {"generation": 4}}).labels == {"generation": "4"}
    with pytest.raises(ValidationError):
        AudioConfig.model_validate({"channel": 1.5})
