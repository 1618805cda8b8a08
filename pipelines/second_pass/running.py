"""The second pass of a run: a model of its own hears what the repair by the first one did not settle."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa

from actors.config.speakers import SpeakersConfig
from pipelines.config import RunConfig
from pipelines.execution.dataflow import run_shards
from pipelines.execution.supervised_pass import ShardPass
from pipelines.output import shards
from pipelines.second_pass import planning
from pipelines.supervision.losses import PassLosses


def is_needed(out: str, config: RunConfig, command: str, plan: pa.Table) -> bool:
    """Whether finished shards are waiting for the second model."""
    return _has_second_model(config, command) and bool(
        planning.find(out, plan, config.repair.max_share).shards.num_rows
    )


def run_second_pass(work: ShardPass, losses: list[PassLosses]) -> None:
    """Let the second model hear what it should of the shards of a first pass; its pool only starts for that.

    Args:
        work: the first pass, which is finished.
        losses: what the passes lost and used is appended.

    Raises:
        FatalError: the model cannot be loaded; the first rows stand, and the next run tries again.
    """
    config = work.config
    if not _has_second_model(config, work.command):
        return
    wanted = planning.find(work.out, work.plan, config.repair.max_share)
    if not wanted.shards.num_rows:
        return
    todo = planning.write_plan(work.out, work.plan, wanted, config.repair.languages, work.run_id)
    # The first pass has found the speakers.
    settings: dict[str, Any] = {"asr": config.repair.second_model(config.asr), "speakers": SpeakersConfig()}
    own = replace(work, config=config.model_copy(update=settings), plan=todo, todo=todo, again=True)
    for isolated in (False, True):
        left = shards.left_to_do(todo, work.out)
        if left.num_rows:
            run_shards(replace(own, todo=left, isolated=isolated), losses)
            shards.recover(work.out)
    left = shards.left_to_do(todo, work.out)
    if left.num_rows:
        planning.give_up(work.out, left, work.run_id)


def _has_second_model(config: RunConfig, command: str) -> bool:
    return config.repair.second_model(config.asr) is not None and command != "align"
