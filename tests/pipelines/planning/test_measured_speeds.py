"""`plan` takes the speeds of an earlier run on the same hardware with the same models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from actors.errors import UsageError
from pipelines.cli import main
from pipelines.config import RunConfig
from pipelines.output import run_record
from pipelines.planning import measured_speeds as measured_speeds_module
from pipelines.planning.measured_speeds import (
    MIN_BUSY_SECONDS,
    gpu_names_here,
    matches,
    measured_speeds,
    speeds_for_plan,
)

CONFIG = RunConfig.model_validate({"asr": {"model": "asr"}, "aligner": {"model": "aligner"}})


def costs(rtfx: float, model: str | None = None, busy: float = 100.0, **facts: Any) -> dict[str, Any]:
    record = {"calls": 9, "audio_seconds": rtfx * busy, "busy_seconds": busy, "rtfx": rtfx, **facts}
    return record if model is None else {**record, "model": model}


H200, L4 = "NVIDIA H200", "NVIDIA L4"
FIRST = {
    "run_id": "first",
    "model_costs": {
        "decode": {"cpu": costs(800, num_cpus=2.0)},
        "recognise": {H200: costs(3000, "asr"), L4: costs(400, "asr", replicas_per_gpu=2.0)},
        "align": {H200: costs(6000, "aligner", replicas_per_gpu=0.5)},
    },
}
SECOND = {
    "run_id": "second",
    "model_costs": {"recognise": {H200: costs(3300, "asr"), L4: costs(1, "asr", MIN_BUSY_SECONDS - 1)}},
}
ON_CPUS = {
    "run_id": "cpus",
    "model_costs": {"recognise": {"cpu": costs(8, "asr", threads=4)}, "align": {"cpu": costs(6, "aligner")}},
}
RECORD = {"runs": [FIRST, SECOND, {"run_id": "before speeds were measured"}]}


@pytest.fixture
def no_gpus_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured_speeds_module, "gpu_names_here", lambda: [])


def written(folder: Path, *runs: dict[str, Any]) -> str:
    """A run.json with these runs; returns the output directory."""
    out = str(folder / "earlier")
    _, record = run_record.open_run(out, CONFIG, "transcribe", "m.jsonl")
    record["runs"] = [record["runs"][0] | run for run in runs]
    run_record.write(out, record)
    return out


def test_the_latest_run_on_the_gpu_counts() -> None:
    found = measured_speeds(RECORD, CONFIG, ["H200"], on_gpu=True)
    assert found.speeds == {"asr_rtfx": 3300, "aligner_rtfx": 3000, "decode_rtfx": 400}
    assert found.origins["asr_rtfx"] == "run second on NVIDIA H200"
    assert found.origins["aligner_rtfx"] == "run first on NVIDIA H200"
    settings = found.apply(CONFIG.estimate)
    assert (settings.asr_rtfx, settings.aligner_rtfx) == (3300, 3000)
    assert settings.gpu_hour_price == CONFIG.estimate.gpu_hour_price


def test_replicas_that_share_a_gpu_add_up_and_short_measurements_do_not_count() -> None:
    found = measured_speeds(RECORD, CONFIG, ["L4"], on_gpu=True)
    # The second run was busy for too short a time, and no aligner ran on an L4.
    assert found.speeds == {"asr_rtfx": 800, "decode_rtfx": 400}


def test_speeds_of_other_models_do_not_count() -> None:
    other = RunConfig.model_validate({"asr": {"model": "larger"}, "aligner": {"model": "aligner"}})
    assert measured_speeds(RECORD, other, ["H200"], on_gpu=True).speeds.keys() == {
        "aligner_rtfx",
        "decode_rtfx",
    }


def test_without_a_type_the_gpu_with_most_audio_counts() -> None:
    assert measured_speeds(RECORD, CONFIG, [], on_gpu=True).speeds["asr_rtfx"] == 3300
    assert measured_speeds({"runs": [FIRST]}, CONFIG, [], on_gpu=True).speeds["asr_rtfx"] == 3000


def test_speeds_on_cpus_are_those_of_a_core() -> None:
    found = measured_speeds({"runs": [FIRST, ON_CPUS]}, CONFIG, [], on_gpu=False)
    assert found.speeds == {"asr_rtfx_per_core": 2, "aligner_rtfx_per_core": 6, "decode_rtfx": 400}
    assert measured_speeds(RECORD, CONFIG, [], on_gpu=False).speeds == {"decode_rtfx": 400}


def test_a_record_of_an_early_version_has_no_speeds() -> None:
    assert measured_speeds({"runs": [{"run_id": "r"}]}, CONFIG, [], on_gpu=True).speeds == {}
    assert measured_speeds({}, CONFIG, [], on_gpu=True).speeds == {}


@pytest.mark.parametrize(
    ("wanted", "device", "expected"),
    [
        ("H200", "NVIDIA H200", True),
        ("NVIDIA H200", "NVIDIA H200", True),
        ("a100", "NVIDIA A100-SXM4-80GB", True),
        ("A100 40GB", "NVIDIA A100-SXM4-80GB", False),
        ("L4", "NVIDIA L40S", False),
        ("H100", "NVIDIA H200", False),
    ],
)
def test_names_of_gpus_match_by_words(wanted: str, device: str, expected: bool) -> None:
    assert matches(device, [wanted]) is expected
    assert matches(device, [])


def test_the_driver_names_the_gpus_of_this_machine(tmp_path: Path) -> None:
    for bus, name in (("0", "NVIDIA H200"), ("1", "NVIDIA H200"), ("2", "NVIDIA L4")):
        (tmp_path / bus).mkdir()
        (tmp_path / bus / "information").write_text(f"Model: \t\t {name}\nIRQ:   \t\t 100\n")
    assert gpu_names_here(tmp_path) == ["NVIDIA H200", "NVIDIA L4"]
    assert gpu_names_here(tmp_path / "none") == []


@pytest.mark.usefixtures("no_gpus_here")
def test_hardware_that_was_not_measured_is_refused(tmp_path: Path) -> None:
    def speeds(**settings: Any) -> dict[str, float]:
        estimate = CONFIG.estimate.model_copy(update={"run": out, **settings})
        return speeds_for_plan(CONFIG.model_copy(update={"estimate": estimate})).speeds

    out = written(tmp_path, FIRST)
    assert speeds_for_plan(CONFIG).speeds == {}
    assert speeds(gpu_type="H200")["asr_rtfx"] == speeds(gpus=8)["asr_rtfx"] == 3000
    with pytest.raises(
        UsageError, match=r"on GPUs \(H100\).*they measured: .*recognise 3,000x on NVIDIA H200"
    ):
        speeds(gpu_type="H100")
    with pytest.raises(UsageError, match="on CPUs"):
        speeds()
    with pytest.raises(UsageError, match="there is no run"):
        speeds(run=str(tmp_path / "nothing"))


@pytest.mark.usefixtures("no_gpus_here")
def test_plan_says_what_was_measured_and_what_is_assumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = written(tmp_path, SECOND)
    manifest = tmp_path / "m.jsonl"
    manifest.write_text(json.dumps({"audio": "a.wav", "duration": 3300}) + "\n")
    options = ["plan.trust_durations=true", "asr.model=asr", "aligner.model=aligner", "estimate.gpus=1"]
    command = ["plan", str(manifest), *(part for option in options for part in ("--set", option))]
    assert main([*command, "--like", out]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "measured by run second on NVIDIA H200: asr_rtfx 3,300" in text
    assert "assumed, not measured (section `estimate` of the settings): aligner_rtfx 3,000" in text

    assert main([*command, "--json", "--set", f"estimate.run={out}"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["measured"] == {"asr_rtfx": "run second on NVIDIA H200"}
    assert figures["gpu_hours"] * 3600 == pytest.approx(1 + 1.1)
    assert main([*command, "--like", str(tmp_path / "nothing")]) == 2
