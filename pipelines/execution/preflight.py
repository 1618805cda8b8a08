"""`--dry-run`: where a run would go on the nodes of its cluster, or on nodes that are only described.

Nothing is written and no model is loaded. What does not fit is refused with the same messages as by the run
itself. `scriptorium plan` reports what audio there is and what it costs; here only the time that is left of
OUT's plan on these nodes is estimated.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.compute as pc
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from actors import backends, retries
from actors.errors import FatalError, UsageError
from actors.speakers import check_speakers
from pipelines.cluster import nodes, session
from pipelines.cluster.placement import Placement, place
from pipelines.cluster.pools import PoolResources
from pipelines.config import RunConfig
from pipelines.execution import ray_data
from pipelines.execution.expected_time import recognises, recorded_speeds, wall_hours
from pipelines.manifests.manifest import recordings_of
from pipelines.output import calibrations, run_record, saved_settings, shards
from pipelines.planning import estimate, planner
from pipelines.planning.measured_speeds import MeasuredSpeeds
from pipelines.speakers.enrolled import check_table
from pipelines.storage.files import absolute


def check_models(config: RunConfig) -> None:
    """Check that the models' folders and engines exist, without asking hubs, and that a calibration fits.

    Raises:
        UsageError: one of them does not exist, or a model cannot be downloaded because there is no folder for
            it, or the calibration is none of this model.
    """
    calibrations.check(config.asr)
    if config.speakers.backend != "none" and config.speakers.enrolled:
        list(check_table(config.speakers))
    second = config.repair.second_model(config.asr)
    try:
        here = config.cluster.address == "local"
        backends.check(config.asr, config.aligner, here=here)
        if second is not None:
            backends.check(second, config.aligner, here=here)
        check_speakers(config.speakers, here=here)
    except FatalError as error:
        raise UsageError(error.message) from None
    if config.cluster.address == "local":
        for section, model in (("asr", config.asr), ("aligner", config.aligner), ("repair", second)):
            local = model is not None and model.backend in ("transformers", "vllm")
            if model is not None and local and not os.path.isdir(model.model):
                _require_hub_cache(section, model.model)


def _require_hub_cache(section: str, model: str) -> None:
    """Check that a model of the hub is in the local cache or can be stored there.

    Raises:
        UsageError: neither.
    """
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    home = os.environ.get("HF_HOME") or os.path.join(caches, "huggingface")
    cache = os.path.expanduser(os.environ.get("HF_HUB_CACHE") or os.path.join(home, "hub"))
    if os.path.isdir(os.path.join(cache, f"models--{model.replace('/', '--')}")):
        return
    existing = cache
    while not os.path.exists(existing) and os.path.dirname(existing) != existing:
        existing = os.path.dirname(existing)
    # Without a home directory the path begins with `~` and is relative.
    if not os.path.isabs(cache) or not os.access(existing, os.W_OK):
        raise UsageError(
            f"{section}.model {model!r} is not in the hub's cache on this machine, and it cannot be "
            f"downloaded into {cache}, which cannot be written: set HF_HOME to a folder that can, or "
            f"{section}.model to a folder with the model"
        )


def dry_run(
    manifest: str | None,
    out: str | None,
    config: RunConfig,
    *,
    command: str,
    described: str | None = None,
    accept_changes: bool = False,
    columns: Mapping[str, str] | None = None,
) -> RenderableType:
    """What `transcribe` or `align` would do with these arguments, for a terminal.

    Args:
        manifest: read and checked if given, without the headers of its audio.
        out: the output directory, whose plan is read if it has one.
        config: the settings.
        command: transcribe or align.
        described: nodes for `pipelines.cluster.nodes.parse`; None: this machine, or the nodes of the cluster
            at `cluster.address`.
        accept_changes: accept an OUT that was made with other settings.
        columns: for columns of a manifest the names that this one has for them.

    Raises:
        UsageError: as the run itself would: settings, models, manifest or OUT are wrong, or the run would
            never start on these nodes.
    """
    retries.apply(config.storage)
    check_models(config)
    if out and not accept_changes:
        config = saved_settings.with_former_defaults(config, run_record.read(out))
    placement = place(config, _nodes(config, described))
    parts: list[RenderableType] = [
        _node_table(placement),
        Text(),
        *map(Text, _placement_lines(placement, config)),
    ]
    if manifest:
        table = planner.collect(recordings_of(manifest, command, columns), config)
        recordings = "1 recording" if table.num_rows == 1 else f"{table.num_rows:,} recordings"
        parts.append(
            Text(f"manifest: {recordings}; `scriptorium plan` reads their headers and reports hours and cost")
        )
    if out and (record := run_record.checked(out, config, command, accept_changes=accept_changes)):
        if config.estimate.run:
            record = run_record.require(absolute(config.estimate.run))
        parts += map(Text, _remaining_lines(out, placement, config, command, record))
    parts.append(Text("dry run: nothing was started or written", style="dim"))
    return Group(*parts)


def _nodes(config: RunConfig, described: str | None) -> Sequence[nodes.Node]:
    if described is not None:
        return nodes.parse(described)
    if config.cluster.address == "local":
        return [session.this_machine(config.cluster)]
    with session.running_ray(config.cluster):
        return session.living_nodes()


_COLUMNS = {
    "nodes": "right",
    "what": "left",
    "CPUs": "right",
    "GPUs": "right",
    "recognisers": "left",
    "aligners": "left",
    "CPUs left": "right",
    "decoding at a time": "right",
    "memory": "right",
    "object store": "right",
}


def _node_table(placement: Placement) -> Table:
    """One row for all nodes that are alike and hold the same replicas."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title, justify in _COLUMNS.items():
        table.add_column(title, justify=justify)  # type: ignore[arg-type]
    rows = Counter(_node_row(placement, number) for number in range(len(placement.nodes)))
    for row, count in rows.items():
        table.add_row(f"{count} x" if count > 1 else "", *row)
    return table


def _node_row(placement: Placement, number: int) -> tuple[str, ...]:
    node = placement.nodes[number]
    labels = [
        value if key == nodes.ACCELERATOR else f"{key}={value}"
        for key, value in node.labels.items()
        if key != nodes.NODE_ID
    ]
    return (
        " ".join(sorted(labels)) or ("GPU node" if node.gpus else "CPU node"),
        f"{node.cpus:g}",
        f"{node.gpus}",
        _replicas(placement, number, "recogniser", placement.asr),
        _replicas(placement, number, "aligner", placement.aligner),
        f"{placement.free_cpus[number]:g}",
        f"{placement.decode_tasks[number]}",
        _gib(node.resources.get("memory")),
        _gib(node.resources.get("object_store_memory")),
    )


def _replicas(placement: Placement, number: int, stage: str, pool: PoolResources) -> str:
    """Number of replicas of a stage on a node, and the cards that they have."""
    slots = [slot for slot in placement.slots if (slot.stage, slot.node) == (stage, number)]
    if not slots:
        return "-"
    if not pool.num_gpus:
        return f"{len(slots)} on CPUs"
    if pool.num_gpus > 1:
        return f"{len(slots)}: cards {'; '.join(', '.join(map(str, slot.cards)) for slot in slots)}"
    cards = Counter(card for slot in slots for card in slot.cards)
    each = ", ".join(
        f"{card}" + (f" ({count} of them)" if count > 1 else "") for card, count in sorted(cards.items())
    )
    return f"{len(slots)}: {pool.num_gpus:g} of card{'s' * (len(cards) > 1)} {each}"


def _placement_lines(placement: Placement, config: RunConfig) -> list[str]:
    lines = []
    pools = [("recognisers", placement.asr)]
    pools += [("aligners", placement.aligner)] if config.aligner.backend != "none" else []
    pools += [("speaker models", placement.speakers)] if placement.speakers else []
    for name, pool in pools:
        lines.append(
            f"{name}: {pool.size} with {pool.num_gpus:g} GPUs and {pool.num_cpus:g} CPUs each"
            f"{nodes.on_nodes_with(pool.label_selector)}"
        )
    hosts = sum(tasks > 0 for tasks in placement.decode_tasks)
    lines.append(
        f"decoding: up to {sum(placement.decode_tasks)} tasks at a time with {config.audio.num_cpus:g} CPUs "
        f"each, on {hosts} of {len(placement.nodes)} nodes{nodes.on_nodes_with(placement.decode_labels)}; "
        "writing and, on a resume, the filter of finished shards take a CPU of these"
    )
    kinds = {
        (node.resources.get("memory", math.inf), tasks)
        for node, tasks in zip(placement.nodes, placement.decode_tasks, strict=True)
    }
    for memory, tasks in sorted(kinds):
        if tasks * config.audio.max_memory * nodes.GIB > memory:
            lines.append(
                f"memory: {tasks} decoding tasks may take {tasks * config.audio.max_memory:g} GiB "
                f"(audio.max_memory) on a node that has {_gib(memory)}; "
                "if they ever do, Ray ends some, and they are done again"
            )
    store = sum(node.resources.get("object_store_memory", 0.0) for node in placement.nodes)
    shard = config.plan.shard_duration * ray_data.BYTES_PER_SECOND
    if store:
        lines.append(
            f"object store: {_gib(store)} for decoded audio, {store / shard:,.0f} shards of "
            f"{config.plan.shard_duration:g} s"
        )
    return lines


def _remaining_lines(
    out: str, placement: Placement, config: RunConfig, command: str, measured: dict[str, Any]
) -> list[str]:
    """What is left to do in `out`, and how long it may take.

    Args:
        out: the output directory.
        placement: where the run would go.
        config: the settings.
        command: transcribe or align.
        measured: the record of the run whose measured speeds are used.
    """
    plan = planner.read_plan(out)
    todo = shards.left_to_do(plan, out)
    hours = planner.seconds_of(todo) / 3600
    recordings = pc.count_distinct(todo["recording_id"]).as_py()
    shards_left = "1 shard" if todo.num_rows == 1 else f"{todo.num_rows:,} shards"
    of_recordings = "1 recording" if recordings == 1 else f"{recordings:,} recordings"
    lines = [f"planned and not done in {out}: {shards_left} of {of_recordings}, {hours:,.2f} h"]
    if todo.num_rows:
        speeds = recorded_speeds(measured, config, placement)
        lines.append(_time_line(hours, placement, config, command, speeds))
    return lines


def _time_line(
    hours: float, placement: Placement, config: RunConfig, command: str, speeds: MeasuredSpeeds
) -> str:
    """How long the work may take."""
    recognise, words = recognises(config, command), config.aligner.backend != "none"
    unknown = [
        name
        for name, stage, needed, speed in (
            ("recognisers", "recogniser", recognise, "asr_rtfx_per_core"),
            ("aligners", "aligner", words, "aligner_rtfx_per_core"),
        )
        if needed and not placement.cards(stage) and speed not in speeds.speeds
    ]
    if unknown:
        return (
            f"no time is estimated: the {' and '.join(unknown)} run on CPUs, and no earlier run has measured "
            "them there"
        )
    time, bound = wall_hours(hours, placement, config, speeds.apply(config.estimate), command)
    remote = config.asr.backend == "openai" and command != "align"
    note = "; the recognition server's own speed is not known" if remote else ""
    origins = " and ".join(dict.fromkeys(speeds.origins.values()))
    source = f"speeds measured by {origins}" if origins else "assumed speeds (section `estimate`)"
    return f"at the {source}: {estimate.in_words(time)}, bound by {bound}{note}"


def _gib(size: float | None) -> str:
    return "?" if size is None else f"{size / nodes.GIB:,.1f} GiB"
