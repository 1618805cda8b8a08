"""The second pass of a run: what the repair did not settle, or only word times show, is heard again.

A second model hears it, or, without one, the first model again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa

from actors.config.speakers import SpeakersConfig
from actors.errors import UsageError
from actors.repair import second_model
from pipelines.cluster import session
from pipelines.cluster.placement import place
from pipelines.config import RunConfig
from pipelines.execution.dataflow import run_shards
from pipelines.execution.supervised_pass import ShardPass
from pipelines.output import shards
from pipelines.planning import planner
from pipelines.second_pass import planning
from pipelines.supervision.losses import PassLosses


def is_needed(out: str, config: RunConfig, command: str, plan: pa.Table) -> bool:
    """Whether finished shards are waiting for the second pass."""
    return _has_second_pass(config, command) and bool(
        planning.find(out, plan, config.repair.max_share).shards.num_rows
    )


def check_pool(config: RunConfig, command: str) -> None:
    """Check that the second model's pool fits the cluster, before the first pass begins.

    Raises:
        UsageError: it does not; the message says what to change.
    """
    if _has_second_pass(config, command) and second_model.has_model(config.repair):
        try:
            place(_own_settings(config), session.living_nodes())
        except UsageError as error:
            raise UsageError(f"the second model (repair.pool): {error.message}") from None


def run_second_pass(work: ShardPass, losses: list[PassLosses]) -> None:
    """Let a model hear what it should of the shards of a first pass; its pool only starts for that.

    Args:
        work: the first pass, which is finished.
        losses: what the passes lost and used is appended.

    Raises:
        FatalError: the model cannot be loaded; the first rows stand, and the next run tries again.
    """
    config = work.config
    if not _has_second_pass(config, work.command):
        return
    wanted = planning.find(work.out, work.plan, config.repair.max_share)
    if not wanted.shards.num_rows:
        return
    seconds = config.plan.task_seconds or planner.task_seconds(planner.seconds_of(work.plan))
    languages = config.repair.languages
    is_wanted = second_model.is_wanted_by(config.repair)
    todo = planning.write_plan(work.out, work.plan, wanted, languages, work.run_id, seconds, is_wanted)
    own = replace(work, config=_own_settings(config), plan=todo, todo=todo, again=True)
    for isolated in (False, True):
        left = shards.left_to_do(todo, work.out)
        if left.num_rows:
            run_shards(replace(own, todo=left, isolated=isolated), losses)
            shards.recover(work.out)
    left = shards.left_to_do(todo, work.out)
    if left.num_rows:
        planning.give_up(work.out, left, work.run_id, is_wanted)


def _own_settings(config: RunConfig) -> RunConfig:
    # The first pass has found the speakers.
    asr = config.repair.second_model(config.asr) or config.asr
    settings: dict[str, Any] = {"asr": asr, "speakers": SpeakersConfig()}
    return config.model_copy(update=settings)


def _has_second_pass(config: RunConfig, command: str) -> bool:
    looks = config.repair.second_look and config.aligner.backend != "none"
    return config.repair.enabled and command != "align" and (second_model.has_model(config.repair) or looks)
