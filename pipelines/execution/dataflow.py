"""The flow on Ray Data: planned shards in, rows in OUT/shards out, streamed and committed task by task."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

from actors.asr import ASRActor
from actors.config import AlignerConfig, ASRConfig
from actors.config.speakers import SpeakersConfig
from actors.known_text import KnownTextActor
from actors.repair import second_model
from actors.second_asr import SecondASRActor, SecondLookActor
from pipelines.cluster import session
from pipelines.cluster.placement import Placement, place
from pipelines.commits.answers import AnswerFolder
from pipelines.config import RunConfig
from pipelines.execution import ray_data
from pipelines.execution.speaker_stage import FindSpeakers
from pipelines.execution.stages import Align, Recognise, RecogniseAgain, decode
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
    answers = AnswerFolder.of(work.out, config)
    answers.prune(work.todo[shards.ID].to_pylist())

    with supervised_pass(work, placement, blocks, losses) as supervisor:
        rows = ray_data.read_plan_files(work.plan_files, blocks.tasks, one_row_per_block=isolated)
        rows = ray_data.map_in_tasks(
            rows,
            decode,
            {"audio": config.audio, "segmenter": config.segmenter, "supervisor": supervisor},
            num_cpus=config.audio.num_cpus,
            labels=placement.decode_labels,
        )
        if placement.speakers:
            speakers = _speaker_settings(config, placement)
            rows = ray_data.map_in_pool(
                rows,
                FindSpeakers,
                (speakers, config.audio.channel, supervisor),
                placement.speakers,
                isolated=isolated,
            )
        rows = ray_data.map_in_pool(
            rows,
            RecogniseAgain if work.again else Recognise,
            (_make_recogniser(work), asr, supervisor, answers),
            placement.asr,
            isolated=isolated,
        )
        rows = ray_data.map_in_pool(
            rows,
            Align,
            (aligner, work.run_id, supervisor, config.guards, config.repair, answers),
            placement.aligner,
            isolated=isolated,
        )
        ray_data.write_rows(rows, shards.folder(work.out), config.output.compression)


def _model_settings(config: RunConfig, placement: Placement) -> tuple[ASRConfig, AlignerConfig]:
    """The settings of both models, with a replica's share of its node."""
    stages = ("recogniser", "aligner") if config.aligner.backend != "none" else ("recogniser",)
    cores = placement.cores_each(stages, _machine_cores(config))
    return (
        session.with_share(config.asr, placement.asr.num_gpus, cores),
        session.with_share(config.aligner, placement.aligner.num_gpus, cores),
    )


def _speaker_settings(config: RunConfig, placement: Placement) -> SpeakersConfig:
    """The settings of the speaker model, with a replica's share of its node."""
    if placement.speakers is None or placement.speakers.num_gpus:
        return config.speakers
    cores = placement.cores_each(("speakers",), _machine_cores(config))
    update: dict[str, Any] = {"device": "cpu"} if config.speakers.device == "auto" else {}
    # Half of its node: decoding and the other models want the rest.
    update |= {"threads": max(1, cores // 2)} if config.speakers.threads is None else {}
    return config.speakers.model_copy(update=update)


def _machine_cores(config: RunConfig) -> int | None:
    # A local Ray may have been told another number of cores than the machine has.
    return os.cpu_count() if config.cluster.address == "local" else None


def _make_recogniser(work: ShardPass) -> Callable[[ASRConfig], ASRActor | KnownTextActor]:
    """What makes the recogniser from its settings: a model, or for `align` the manifest's own text."""
    if work.command == "align":
        return functools.partial(
            KnownTextActor,
            max_duration=work.config.segmenter.max_duration,
            given_text=work.config.given_text,
        )
    if work.again and not second_model.has_model(work.config.repair):
        return functools.partial(SecondLookActor, guards=work.config.guards, repair=work.config.repair)
    if work.again:
        languages = work.config.repair.languages
        return functools.partial(SecondASRActor, guards=work.config.guards, languages=languages)
    return functools.partial(ASRActor, guards=work.config.guards, repair=work.config.repair)
