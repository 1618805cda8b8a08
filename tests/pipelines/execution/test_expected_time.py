"""The speed that a run should reach, by earlier runs on such hardware or by what its model measured."""

from __future__ import annotations

import os
from typing import Any

import pytest

from pipelines.cluster.nodes import parse
from pipelines.cluster.placement import Placement, place
from pipelines.config import RunConfig
from pipelines.execution.expected_time import expected_rtfx

MODELS = {"asr": {"model": "asr"}, "aligner": {"model": "aligner"}}


def config(**sections: dict[str, Any]) -> RunConfig:
    merged = {name: {**MODELS.get(name, {}), **sections.get(name, {})} for name in {*MODELS, *sections}}
    return RunConfig.model_validate({"cluster": {"address": "auto"}, **merged})


def placed(settings: RunConfig, nodes: str) -> Placement:
    return place(settings, parse(nodes))


def record(**stages: tuple[str, float]) -> dict[str, Any]:
    """A run.json whose run measured a speed of each stage on a device."""
    costs = {
        stage: {
            device: {
                "audio_seconds": 600_000.0,
                "busy_seconds": 600_000 / rtfx,
                "rtfx": rtfx,
                "model": "asr" if stage == "recognise" else "aligner",
                **({"threads": 4} if device == "cpu" else {}),
            }
        }
        for stage, (device, rtfx) in stages.items()
    }
    return {"runs": [{"run_id": "earlier", "model_costs": costs}]}


def test_cards_share_the_work_of_both_models() -> None:
    settings = config()
    placement = placed(settings, "2x(CPU=16,GPU=1,type=H100)")
    earlier = record(recognise=("NVIDIA H100", 300), align=("NVIDIA H100", 600))
    assert expected_rtfx(earlier, settings, placement, "transcribe") == pytest.approx(2 / (1 / 300 + 1 / 600))
    assert expected_rtfx(earlier, settings, placement, "align") == pytest.approx(1200)
    # Measured on other hardware, or never.
    assert expected_rtfx(earlier, settings, placed(settings, "(CPU=16,GPU=1,type=L4)"), "transcribe") is None
    assert expected_rtfx(None, settings, placement, "transcribe") is None


def test_models_on_cpus_share_the_cores_with_decoding() -> None:
    settings = config(estimate={"decode_rtfx": 100})
    placement = placed(settings, "(CPU=8)")
    earlier = record(recognise=("cpu", 8), align=("cpu", 16))
    core_seconds = 4 / 8 + 4 / 16 + 1 / 100
    assert expected_rtfx(earlier, settings, placement, "transcribe") == pytest.approx(8 / core_seconds)
    local = config(cluster={"address": "local"}, estimate={"decode_rtfx": 100})
    expected = (os.cpu_count() or 1) / core_seconds
    assert expected_rtfx(earlier, local, placement, "transcribe") == pytest.approx(expected)


def test_without_an_earlier_run_the_loaded_model_tells_its_speed() -> None:
    settings = config(aligner={"backend": "none"})
    placement = placed(settings, "(CPU=16,GPU=2,type=H200)")
    fitted = {"call_seconds": 0.128, "padded_second": 0.001, "rows": 128, "device": "NVIDIA H200"}
    costs = {"recognise": {"NVIDIA H200": {"calls": 0, "fitted": fitted}}}
    assert expected_rtfx(None, settings, placement, "transcribe", costs) == pytest.approx(2 * 500)
    assert expected_rtfx(None, settings, placement, "transcribe", {"decode": {"cpu": {}}}) is None
    earlier = record(recognise=("NVIDIA H200", 700))
    assert expected_rtfx(earlier, settings, placement, "transcribe", costs) == pytest.approx(1400)


def test_decoding_can_be_the_limit() -> None:
    settings = config(aligner={"backend": "none"}, estimate={"decode_rtfx": 100})
    placement = placed(settings, "(CPU=4,GPU=1,type=H200)")
    earlier = record(recognise=("NVIDIA H200", 5000))
    expected = 100 * sum(placement.decode_tasks)
    assert expected_rtfx(earlier, settings, placement, "transcribe") == pytest.approx(expected)


def test_nothing_is_expected_of_a_server() -> None:
    settings = config(asr={"backend": "openai", "model": "asr"}, aligner={"backend": "none"})
    placement = placed(settings, "(CPU=8)")
    assert expected_rtfx(record(recognise=("server", 90)), settings, placement, "transcribe") is None
