"""What one pass over shards works on, and everything that watches over it while it runs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.cluster import session
from pipelines.cluster.placement import Placement
from pipelines.commits.counter import CommitCounter
from pipelines.config import RunConfig
from pipelines.execution import ray_data
from pipelines.execution.expected_time import expected_rtfx
from pipelines.execution.progress import ProgressDisplay, Snapshot, Totals
from pipelines.output import run_record, shards
from pipelines.planning import planner
from pipelines.storage import files
from pipelines.supervision import model_costs, stall, storage_failures
from pipelines.supervision.losses import ANSWER_TIMEOUT, PassLosses, losses_of
from pipelines.supervision.supervisor import running_supervisor
from pipelines.supervision.throughput import ThroughputRecorder


@dataclass(frozen=True)
class ShardPass:
    """One pass over shards.

    Attributes:
        out: the output directory.
        config: the settings.
        run_id: written into every row.
        command: `transcribe`, or `align`, which takes the text from the manifest instead of the model.
        plan: all planned shards.
        todo: those of them without a committed row; only their plan files are read.
        again: whether it is the second pass of the repair; `config.asr` has the settings of its model.
        isolated: one shard a task, so that a shard that crashes its process takes no other shard with it.
    """

    out: str
    config: RunConfig
    run_id: str
    command: str
    plan: pa.Table
    todo: pa.Table
    isolated: bool = False
    again: bool = False

    @cached_property
    def plan_files(self) -> list[str]:
        """URIs of the plan files with shards to do."""
        return planner.files_of(self.todo)

    @property
    def repairs(self) -> bool:
        """Whether doubtful segments are decoded again; given texts are not."""
        repair = self.config.repair
        return repair.enabled and self.command != "align" and not (self.again and repair.model)

    def max_failed_tasks(self, tasks: int) -> int:
        """How many of so many tasks may fail before the pass stops with the cause; -1: any number.

        A few processes may crash, and their rows are done again in the isolated pass. If many do, something
        is wrong for all.
        """
        return -1 if self.isolated else max(10, tasks // 20)

    def blocks(self, placement: Placement) -> ray_data.Blocks:
        """How the pass is divided where it runs."""
        seconds = planner.seconds_of(self.todo)
        return ray_data.blocks_for(placement, seconds, len(self.plan_files), self.todo.num_rows)

    @property
    def totals(self) -> Totals:
        """What there is to do, and what was done before this pass."""
        recordings = pc.count_distinct(self.plan["recording_id"]).as_py()
        left = pc.count_distinct(self.todo["recording_id"]).as_py()
        seconds, seconds_left = planner.seconds_of(self.plan), planner.seconds_of(self.todo)
        return Totals(recordings, seconds, recordings - left, seconds - seconds_left)


@contextlib.contextmanager
def supervised_pass(
    work: ShardPass, placement: Placement, blocks: ray_data.Blocks, losses: list[PassLosses]
) -> Iterator[Any]:
    """Run the pass inside a `with` block under supervision; yields the supervisor's Ray handle.

    Resumes by shard id, isolates shards that crash processes, ends a pass that stalls, drains when a stop is
    requested, raises storage errors that Ray would tolerate, and shows progress.

    Args:
        work: the pass.
        placement: where its replicas run.
        blocks: how it is divided.
        losses: what the pass lost and used is appended, also if an error ends it.

    Raises:
        FatalError: no process of a stage can do its work, or the pass stalled; the message says why.
        StorageError: the output directory cannot be read or written.
    """
    import ray

    from pipelines.commits.backlog import BacklogPolicy
    from pipelines.supervision import draining, ray_internals

    replicas = placement.asr.size + placement.aligner.size
    replicas += placement.speakers.size if placement.speakers else 0
    recorder = _throughput_recorder(placement)

    def sample(last: bool = False) -> None:
        progress, costs = ray.get([supervisor.read.remote(), supervisor.model_costs.remote()], timeout=5)
        recorder.add(progress[2], costs, last)

    with (
        running_supervisor(replicas, planner.begun(work.todo), **session.driver_node_options()) as supervisor,
        stall.stall_guard(
            lambda: tuple(ray.get(supervisor.liveness.remote(), timeout=60)),
            stall.stall_timeout(work.config, placement.on_gpu),
        ),
        ray_data.checkpointing(
            shards.checkpoint_folder(work.out),
            shards.ID,
            work.max_failed_tasks(blocks.tasks),
            blocks.size,
        ),
        draining.drain_on_stop(),
        storage_failures.raise_storage_failures(work.out, final=work.isolated) as tolerated,
        ProgressDisplay(
            work.totals,
            lambda: tuple(ray.get(supervisor.read.remote(), timeout=5)),
            CommitCounter(work.out, work.todo).read,
            _progress_writer(work.out, lambda: sample()),
            expected=_expectation(work, placement, supervisor),
        ),
    ):
        ray_internals.add_backpressure_policy(BacklogPolicy)
        if work.repairs:
            planned, used = planner.seconds_of(work.plan), shards.repair_seconds(work.out)
            supervisor.open_repair.remote(work.config.repair.max_share, planned, used)
        try:
            yield supervisor
        except BaseException:
            with contextlib.suppress(Exception):  # the first error is raised, whatever happens here
                lost = _losses(supervisor, placement, timeout=1.0)
                losses.append(replace(lost, throughput=(recorder.as_record(),)))
            raise
        with contextlib.suppress(Exception):  # a point of a chart is no reason to end a run
            sample(last=True)
        losses.append(
            replace(
                _losses(supervisor, placement),
                failed_tasks=len(tolerated),
                last_failure=storage_failures.last_error_line(tolerated),
                throughput=(recorder.as_record(),),
            )
        )


def _losses(supervisor: Any, placement: Placement, timeout: float = ANSWER_TIMEOUT) -> PassLosses:
    losses = losses_of(supervisor, timeout)
    return replace(losses, costs=model_costs.with_replicas(losses.costs, _replicas_per_gpu(placement)))


def _replicas_per_gpu(placement: Placement) -> dict[str, float]:
    """How many replicas of each model there are for each of the GPUs that hold some, by stage."""
    pools = {
        model_costs.RECOGNISE: ("recogniser", placement.asr.size),
        model_costs.ALIGN: ("aligner", placement.aligner.size),
    }
    return {stage: size / cards for stage, (pool, size) in pools.items() if (cards := placement.cards(pool))}


def _throughput_recorder(placement: Placement) -> ThroughputRecorder:
    slots = {
        model_costs.DECODE: sum(placement.decode_tasks),
        model_costs.RECOGNISE: placement.asr.size,
        model_costs.RECOGNISE_AGAIN: placement.asr.size,
        model_costs.ALIGN: placement.aligner.size,
    }
    if placement.speakers:
        slots["speakers"] = placement.speakers.size
    gpus = placement.cards("recogniser", "aligner", "speakers")
    return ThroughputRecorder(
        run_record.now(), slots, gpus, round(sum(node.cpus for node in placement.nodes))
    )


def _expectation(work: ShardPass, placement: Placement, supervisor: Any) -> Callable[[], float | None]:
    """What returns the expected speed of the pass: by earlier runs, else by what its models measured."""
    import ray

    earlier = files.absolute(work.config.estimate.run) if work.config.estimate.run else work.out
    with contextlib.suppress(Exception):  # an ETA is no reason to end a run
        record = run_record.read(earlier)
        expected = expected_rtfx(record, work.config, placement, work.command)
        if expected is not None:
            return lambda: expected

    def ask() -> float | None:
        if not placement.on_gpu:  # only models on GPUs measure themselves
            return None
        costs = ray.get(supervisor.model_costs.remote(), timeout=5)
        return expected_rtfx(None, work.config, placement, work.command, costs)

    return ask


def _progress_writer(out: str, sample: Callable[[], None]) -> Callable[[Snapshot], None]:
    """What writes snapshots to OUT/progress.json, and then notes a point of the throughput."""

    def write(snapshot: Snapshot) -> None:
        state = {
            "updated_at": run_record.now(),
            "line": snapshot.line(),
            "rtfx": snapshot.rtfx,
            "eta_seconds": snapshot.eta,
            "under_way": snapshot.under_way._asdict(),
        }
        files.write_atomic(files.join(out, "progress.json"), json.dumps(state).encode())
        sample()

    return write
