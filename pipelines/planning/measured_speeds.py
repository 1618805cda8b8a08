"""Speeds that an earlier run measured on the same hardware, in place of assumptions of section `estimate`.

Each run writes the busy seconds and the audio seconds of its stages into run.json
(`pipelines.supervision.model_costs`). The speed of a model is that of the segments it got: silence that was
never given to it is not counted, so an estimate from it is rather too high than too low. The same holds where
recogniser and aligner share a card, because each of them is slower beside the other.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actors.errors import UsageError
from pipelines.config import RunConfig
from pipelines.config_sections import EstimateConfig
from pipelines.output import run_record
from pipelines.storage import files
from pipelines.supervision.model_costs import ALIGN, CPU, DECODE, RECOGNISE, in_words, is_gpu

MIN_BUSY_SECONDS = 10.0  # a stage that was busy for less measured mostly its start
_GPUS = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True)
class MeasuredSpeeds:
    """Speeds by the setting of section `estimate` that they replace, and where each was measured."""

    speeds: dict[str, float] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)

    def apply(self, settings: EstimateConfig) -> EstimateConfig:
        """The settings with the measured speeds."""
        return settings.model_copy(update=self.speeds)


def speeds_for_plan(config: RunConfig) -> MeasuredSpeeds:
    """The speeds of `estimate.run` on the hardware that `plan` plans for; none if the setting is empty.

    Raises:
        UsageError: that run does not exist, or has measured no model of these settings on such hardware.
    """
    if config.estimate.run is None:
        return MeasuredSpeeds()
    out = files.absolute(config.estimate.run)
    record = run_record.require(out)
    here = gpu_names_here()
    wanted = [config.estimate.gpu_type] if config.estimate.gpu_type else here
    on_gpu = bool(wanted or config.estimate.gpus)
    found = measured_speeds(record, config, wanted, on_gpu)
    if not found.speeds.keys() - {"decode_rtfx"}:
        measured = "; ".join(filter(None, (in_words(run.get("model_costs", {})) for run in record["runs"])))
        hardware = f"GPUs ({', '.join(wanted)})" if wanted else "GPUs" if on_gpu else "CPUs"
        raise UsageError(
            f"the runs in {out} measured neither {config.asr.model} nor {config.aligner.model} on {hardware} "
            f"for at least {MIN_BUSY_SECONDS:g} s; they measured: {measured or 'nothing'}. Set "
            "estimate.gpu_type and estimate.gpus to plan for other hardware than that of this machine, or "
            "leave out --like (estimate.run) to use the assumed speeds"
        )
    return found


def measured_speeds(
    record: Mapping[str, Any], config: RunConfig, gpu_types: Collection[str], on_gpu: bool
) -> MeasuredSpeeds:
    """What the runs of an output directory measured; of several runs the latest counts.

    Args:
        record: the content of run.json, perhaps of a version that measured nothing.
        config: the settings to plan for; only the speeds of their models are used.
        gpu_types: names of GPUs, such as `H200`; empty: any.
        on_gpu: whether the models are to run on GPUs.

    Returns:
        The speeds that were measured; none of a stage that was not busy for MIN_BUSY_SECONDS.
    """
    found = MeasuredSpeeds()
    suffix = "" if on_gpu else "_per_core"
    stages = (
        (RECOGNISE, f"asr_rtfx{suffix}", config.asr.model),
        (ALIGN, f"aligner_rtfx{suffix}", config.aligner.model),
    )
    for stage, setting, model in stages:
        for run_id, device, costs in _records(record, stage):
            wanted = is_gpu(device) and matches(device, gpu_types) if on_gpu else device == CPU
            if not wanted or costs.get("model") != model:
                continue
            factor = costs.get("replicas_per_gpu", 1.0) if on_gpu else 1 / (costs.get("threads") or 1)
            found.speeds[setting] = round(costs["rtfx"] * factor, 1)
            found.origins[setting] = f"run {run_id} on {device}"
            break
    for run_id, device, costs in _records(record, DECODE):
        found.speeds["decode_rtfx"] = round(costs["rtfx"] / costs["num_cpus"], 1)
        found.origins["decode_rtfx"] = f"run {run_id} on {device}"
        break
    return found


def matches(device: str, gpu_types: Collection[str]) -> bool:
    """Whether the name of a GPU has all words of one of the types; `L4` does not match `NVIDIA L40S`."""
    return not gpu_types or any(_words(wanted) <= _words(device) for wanted in gpu_types)


def gpu_names_here(folder: Path = _GPUS) -> list[str]:
    """The names of this machine's NVIDIA GPUs, without loading any library."""
    names = set()
    for information in folder.glob("*/information"):
        if match := re.search(
            r"^Model:\s*(\S.*?)\s*$", information.read_text(errors="replace"), re.MULTILINE
        ):
            names.add(match[1])
    return sorted(names)


def _records(record: Mapping[str, Any], stage: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Run id, device and costs of a stage: the latest run first, in a run the device with most audio."""
    for run in reversed(record.get("runs", [])):
        devices = run.get("model_costs", {}).get(stage, {})
        for device, costs in sorted(devices.items(), key=lambda item: -item[1]["audio_seconds"]):
            if costs["busy_seconds"] >= MIN_BUSY_SECONDS and costs["rtfx"] > 0:
                yield run["run_id"], device, costs


def _words(name: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", name.casefold()))
