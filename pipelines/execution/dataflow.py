"""The flow on Ray Data: planned shards in, rows in OUT/shards out, streamed and committed task by task."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

from actors.asr import ASRActor
from actors.config import AlignerConfig, ASRConfig
from actors.known_text import KnownTextActor
from pipelines.cluster import session
from pipelines.cluster.placement import Placement, place
from pipelines.config import RunConfig
from pipelines.execution import ray_data
from pipelines.execution.stages import Align, Recognise, decode
from pipelines.execution.supervised_pass import ShardPass, supervised_pass
from pipelines.output import shards
from pipelines.supervision.losses import PassLosses


def run_shards(work: ShardPass, losses: list[PassLosses]) -> None:
    """Run one pass: read the plan, decode, recognise, align, write the rows.

    Args:
        work: the pass.
        losses: what the pass lost and used is appended, also if an error ends it.

    Raises:
        FatalError: no process of a stage can do its work; the message says why.
        StorageError: the output directory cannot be read or written.
    """
    config, isolated = work.config, work.isolated
    placement = place(config, session.living_nodes(), fewer=isolated)
    asr, aligner = _model_settings(config, placement)
    blocks = work.blocks(placement)

    with supervised_pass(work, placement, blocks, losses) as supervisor:
        rows = ray_data.read_plan_files(work.plan_files, blocks.tasks, one_row_per_block=isolated)
        rows = ray_data.map_in_tasks(
            rows,
            decode,
            {"audio": config.audio, "segmenter": config.segmenter, "supervisor": supervisor},
            num_cpus=config.audio.num_cpus,
            labels=placement.decode_labels,
        )
        rows = ray_data.map_in_pool(
            rows, Recognise, (_make_recogniser(work), asr, supervisor), placement.asr, isolated=isolated
        )
        rows = ray_data.map_in_pool(
            rows, Align, (aligner, work.run_id, supervisor), placement.aligner, isolated=isolated
        )
        ray_data.write_rows(rows, shards.folder(work.out), config.output.compression)


def _model_settings(config: RunConfig, placement: Placement) -> tuple[ASRConfig, AlignerConfig]:
    """The settings of both models, with a replica's share of its node."""
    stages = ("recogniser", "aligner") if config.aligner.backend != "none" else ("recogniser",)
    # A local Ray may have been told another number of cores than the machine has.
    cores = placement.cores_each(stages, os.cpu_count() if config.cluster.address == "local" else None)
    return (
        session.with_share(config.asr, placement.asr.num_gpus, cores),
        session.with_share(config.aligner, placement.aligner.num_gpus, cores),
    )


def _make_recogniser(work: ShardPass) -> Callable[[ASRConfig], ASRActor | KnownTextActor]:
    """What makes the recogniser from its settings: a model, or for `align` the manifest's own text."""
    if work.command == "align":
        return functools.partial(
            KnownTextActor,
            max_duration=work.config.segmenter.max_duration,
            given_text=work.config.given_text,
        )
    return ASRActor
