"""How long the work of a pass will take, from the speeds of its stages and where they are placed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pipelines.cluster.nodes import ACCELERATOR
from pipelines.cluster.placement import Placement
from pipelines.config import RunConfig
from pipelines.config_sections import EstimateConfig
from pipelines.planning.estimate import stage_hours
from pipelines.planning.measured_speeds import MeasuredSpeeds, measured_speeds
from pipelines.supervision.model_costs import RECOGNISE, Costs, is_gpu


def recognises(config: RunConfig, command: str) -> bool:
    """Whether a model of ours recognises, rather than a server or the manifest providing the text."""
    return command != "align" and config.asr.backend != "openai"


def recorded_speeds(record: Mapping[str, Any], config: RunConfig, placement: Placement) -> MeasuredSpeeds:
    """The speeds in a run.json that were measured on the kind of hardware where the models are placed.

    Args:
        record: the content of run.json.
        config: the settings.
        placement: where the replicas run.
    """
    types = {node.labels[ACCELERATOR] for node in placement.nodes if node.gpus and ACCELERATOR in node.labels}
    found = MeasuredSpeeds()
    for on_gpu in {bool(placement.cards(stage)) for stage in ("recogniser", "aligner")}:
        part = measured_speeds(record, config, types, on_gpu)
        found = MeasuredSpeeds(found.speeds | part.speeds, found.origins | part.origins)
    return found


def wall_hours(
    hours: float, placement: Placement, config: RunConfig, settings: EstimateConfig, command: str
) -> tuple[float, str]:
    """The time for an amount of audio: each stage on its own cards, and all on those that they share.

    Args:
        hours: audio hours.
        placement: where the replicas run.
        config: the settings of the run.
        settings: the speeds.
        command: transcribe or align.

    Returns:
        Hours, and what they are bound by: GPUs, CPUs or decoding.
    """
    recognise, words = recognises(config, command), config.aligner.backend != "none"
    recognising, aligning, decoding = stage_hours(hours, settings, recognise=recognise, words=words)
    on_cpus = 0.0
    if recognise and not placement.cards("recogniser"):
        recognising, on_cpus = 0.0, on_cpus + hours / settings.asr_rtfx_per_core
    if words and not placement.cards("aligner"):
        aligning, on_cpus = 0.0, on_cpus + hours / settings.aligner_rtfx_per_core
    # A local Ray is told of more CPUs than there are cores.
    is_local = config.cluster.address == "local"
    cores = (os.cpu_count() if is_local else None) or sum(node.cpus for node in placement.nodes)
    bounds = {
        "GPUs": max(
            recognising / max(1, placement.cards("recogniser")),
            aligning / max(1, placement.cards("aligner")),
            (recognising + aligning) / max(1, placement.cards("recogniser", "aligner")),
        ),
        "decoding": decoding / max(1, sum(placement.decode_tasks)),
        # Decoding shares the cores with models on CPUs.
        "CPUs": (on_cpus + decoding) / max(1.0, cores) if on_cpus else 0.0,
    }
    bound = max(bounds, key=lambda name: bounds[name])
    return bounds[bound], bound


def expected_rtfx(
    record: Mapping[str, Any] | None,
    config: RunConfig,
    placement: Placement,
    command: str,
    costs: Costs | None = None,
) -> float | None:
    """Audio seconds per wall second that a pass should reach; None where no speed of its model is known.

    Assumed speeds alone are no expectation: they may be off by a factor of ten. Beside a measured recogniser
    the other stages may have assumed ones.

    Args:
        record: run.json of an output directory with earlier runs; None: there is none.
        config: the settings.
        placement: where the replicas run.
        command: transcribe or align.
        costs: what the stages of this pass have reported, perhaps only what a model measured when it was
            loaded.
    """
    if command != "align" and not recognises(config, command):
        return None  # the server's speed is not known
    found = recorded_speeds(record or {}, config, placement)
    stage, name = ("aligner", "aligner_rtfx") if command == "align" else ("recogniser", "asr_rtfx")
    name = name if placement.cards(stage) else f"{name}_per_core"
    if name not in found.speeds and name == "asr_rtfx" and (fitted := _fitted_rtfx(costs or {})):
        found.speeds[name] = fitted * placement.asr.size / max(1, placement.cards("recogniser"))
    if name not in found.speeds:
        return None
    hours, _ = wall_hours(1.0, placement, config, found.apply(config.estimate), command)
    return 1 / hours if hours > 0 else None


def _fitted_rtfx(costs: Costs) -> float | None:
    """Audio seconds per second of one replica in full batches, by the cost model fitted at loading."""
    for device, record in costs.get(RECOGNISE, {}).items():
        fitted = record.get("fitted")
        if is_gpu(device) and fitted:
            second = fitted["call_seconds"] / max(1, fitted["rows"]) + fitted["padded_second"]
            return 1 / second if second > 0 else None
    return None
