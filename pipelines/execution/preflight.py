"""`--dry-run`: where a run would go on the nodes that it would find, or on nodes that are only described; nothing is written, no model loaded.

What does not fit is refused with the same words as by the run itself. What audio there is and what it costs is for `scriptorium plan` to say;
here it is only told how long what is left of OUT's plan would take on these nodes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow.compute as pc
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from actors import retries
from pipelines import transcribe
from pipelines.cluster import nodes, session
from pipelines.cluster.placement import Placement, placed
from pipelines.config import RunConfig
from pipelines.output import run_record
from pipelines.planning import estimate, planner


def dry_run(
    manifest: str | None,
    out: str | None,
    config: RunConfig,
    *,
    command: str,
    described: str | None = None,
    accept_changes: bool = False,
) -> RenderableType:
    """What `transcribe` or `align` would do with these arguments, for a terminal.

    Args:
        manifest: read and checked where it is given, headers left alone.
        out: the output directory, whose plan is looked at where there is one.
        config: the settings.
        command: transcribe or align.
        accept_changes: let OUT have been made with other settings.
        described: nodes as `pipelines.cluster.nodes.parse` reads them; without, this machine, or those of the cluster at `cluster.address`.

    Raises:
        UsageError: as the run itself would: settings, models, manifest, OUT, or nodes that the run would never start on.
    """
    retries.apply(config.storage)
    transcribe.check_models(config)
    place = placed(config, _nodes(config, described))
    parts: list[RenderableType] = [_table(place), Text(), *map(Text, _facts(place, config))]
    if manifest:
        table = planner.collect(transcribe.recordings_of(manifest, command), config)
        parts.append(
            Text(
                f"manifest: {table.num_rows:,} recordings; `scriptorium plan` reads their headers and tells hours and cost"
            )
        )
    if out and run_record.checked(out, config, command, accept_changes=accept_changes):
        parts += map(Text, _left(out, place, config, command))
    parts.append(Text("a dry run: nothing was started or written", style="dim"))
    return Group(*parts)


def _nodes(config: RunConfig, described: str | None) -> Sequence[nodes.Node]:
    if described is not None:
        return nodes.parse(described)
    if config.cluster.address == "local":
        return [session.this_machine(config.cluster)]
    with session.started(config.cluster):
        return session.nodes()


def _table(place: Placement) -> Table:
    """Nodes that are alike, and hold alike, in one row."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title, justify in _COLUMNS.items():
        table.add_column(title, justify=justify)  # type: ignore[arg-type]
    rows = Counter(_row(place, number) for number in range(len(place.nodes)))
    for row, count in rows.items():
        table.add_row(f"{count} x" if count > 1 else "", *row)
    return table


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


def _row(place: Placement, number: int) -> tuple[str, ...]:
    node = place.nodes[number]
    labels = [
        value if key == nodes.ACCELERATOR else f"{key}={value}"
        for key, value in node.labels.items()
        if key != nodes.NODE_ID
    ]
    return (
        " ".join(sorted(labels)) or ("GPU node" if node.gpus else "CPU node"),
        f"{node.cpus:g}",
        f"{node.gpus}",
        _replicas(place, number, "recogniser", place.asr),
        _replicas(place, number, "aligner", place.aligner),
        f"{place.cpus_left[number]:g}",
        f"{place.decoding[number]}",
        _gib(node.resources.get("memory")),
        _gib(node.resources.get("object_store_memory")),
    )


def _replicas(place: Placement, number: int, stage: str, pool: dict[str, Any]) -> str:
    seats = [seat for seat in place.seats if (seat.stage, seat.node) == (stage, number)]
    if not seats:
        return "-"
    if not pool["num_gpus"]:
        return f"{len(seats)} on CPUs"
    if pool["num_gpus"] > 1:
        return f"{len(seats)}: cards {'; '.join(', '.join(map(str, seat.cards)) for seat in seats)}"
    cards = Counter(card for seat in seats for card in seat.cards)
    each = ", ".join(
        f"{card}" + (f" ({count} of them)" if count > 1 else "") for card, count in sorted(cards.items())
    )
    return f"{len(seats)}: {pool['num_gpus']:g} of card{'s' * (len(cards) > 1)} {each}"


def _facts(place: Placement, config: RunConfig) -> list[str]:
    lines = []
    words = config.aligner.backend != "none"
    for name, pool in (("recognisers", place.asr), ("aligners", place.aligner))[: 1 + words]:
        lines.append(
            f"{name}: {pool['size']} with {pool['num_gpus']:g} GPUs and {pool['num_cpus']:g} CPUs each{nodes.where(pool['label_selector'])}"
        )
    hosts = sum(tasks > 0 for tasks in place.decoding)
    lines.append(
        f"decoding: up to {sum(place.decoding)} tasks at a time with {config.audio.num_cpus:g} CPUs each, on {hosts} of {len(place.nodes)} nodes"
        f"{nodes.where(place.decode_labels)}; writing and, on a resume, the filter of what is done take a CPU of these"
    )
    for memory, tasks in sorted(
        {
            (node.resources.get("memory", math.inf), tasks)
            for node, tasks in zip(place.nodes, place.decoding, strict=True)
        }
    ):
        if tasks * config.audio.max_memory * nodes.GIB > memory:
            lines.append(
                f"memory: {tasks} decoding tasks may take {tasks * config.audio.max_memory:g} GiB (audio.max_memory) on a node that has "
                f"{_gib(memory)}; if they ever do, Ray ends some, and they are done again"
            )
    store = sum(node.resources.get("object_store_memory", 0.0) for node in place.nodes)
    shard = config.plan.shard_duration * session.BYTES_PER_SECOND
    if store:
        lines.append(
            f"object store: {_gib(store)} for decoded audio, {store / shard:,.0f} shards of {config.plan.shard_duration:g} s"
        )
    return lines


def _left(out: str, place: Placement, config: RunConfig, command: str) -> list[str]:
    plan = planner.read_plan(out)
    todo = transcribe.left_to_do(plan, out)
    hours = planner.seconds_of(todo) / 3600
    recordings = pc.count_distinct(todo["recording_id"]).as_py()
    lines = [
        f"planned and not done in {out}: {todo.num_rows:,} shards of {recordings:,} recordings, {hours:,.2f} h"
    ]
    if todo.num_rows:
        lines.append(_time(hours, place, config, command))
    return lines


def _time(hours: float, place: Placement, config: RunConfig, command: str) -> str:
    """How long the work may take: each stage on the cards that it has, and both together on all of them."""
    recognise = command != "align" and config.asr.backend != "openai"
    words = config.aligner.backend != "none"
    recognising, aligning, decoding = estimate.stage_hours(
        hours, config.estimate, recognise=recognise, words=words
    )
    unknown = [
        name
        for name, stage, wanted in (("recognisers", "recogniser", recognise), ("aligners", "aligner", words))
        if wanted and not place.cards(stage)
    ]
    if unknown:
        return f"no time is estimated: the {' and '.join(unknown)} run on CPUs, and the speeds of section `estimate` are those of GPUs"
    by_gpu = max(
        recognising / max(1, place.cards("recogniser")),
        aligning / max(1, place.cards("aligner")),
        (recognising + aligning) / max(1, place.cards("recogniser", "aligner")),
    )
    by_decode = decoding / max(1, sum(place.decoding))
    bound = "GPUs" if by_gpu >= by_decode else "decoding"
    beside = (
        "; the recognition server's own speed is not known"
        if config.asr.backend == "openai" and command != "align"
        else ""
    )
    return f"at the assumed speeds (section `estimate`): {estimate.in_words(max(by_gpu, by_decode))}, bound by {bound}{beside}"


def _gib(size: float | None) -> str:
    return "?" if size is None else f"{size / nodes.GIB:,.1f} GiB"
