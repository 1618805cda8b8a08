"""The passes of a run over its shards, the stitching after them, and what they cost in OUT/run.json."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from actors.errors import FatalError
from pipelines import __version__
from pipelines.config import RunConfig
from pipelines.execution.dataflow import run_shards
from pipelines.execution.supervised_pass import ShardPass
from pipelines.output import calibrations, run_record, shards, transcripts
from pipelines.speakers.enrolled import speaker_settings
from pipelines.supervision import model_costs, shutdown
from pipelines.supervision.losses import PassLosses


def run_passes(work: ShardPass, losses: list[PassLosses]) -> None:
    """Run one pass over all shards to do, then an isolated pass over those lost with crashed processes.

    Shards that the second pass loses as well are given up.

    Args:
        work: the first pass.
        losses: what each pass lost and used is appended, also if an error ends it.

    Raises:
        FatalError: more shards were not done than crashes and failures can account for.
    """
    run_shards(work, losses)
    shards.recover(work.out)  # a commit may have failed half-way
    left = shards.left_to_do(work.plan, work.out)
    if left.num_rows:
        run_shards(replace(work, todo=left, isolated=True), losses)
        first, last = losses
        shards.recover(work.out)
        lost = shards.left_to_do(work.plan, work.out)
        if not last.explain(lost[shards.ID].to_pylist()):
            cause = f": {last.last_failure}" if last.last_failure else ""
            raise FatalError(
                f"{lost.num_rows:,} of {left.num_rows:,} shards were not done, but processes crashed only "
                f"{last.crashed_processes} times and tasks failed {last.failed_tasks} times{cause}; the "
                "shards are not to blame and will be done by the next run; look at Ray's logs"
            )
        shards.commit_lost(
            work.out, lost.to_pylist(), work.run_id, first.and_then(last).reasons, last.last_failure
        )


def stitch(out: str, config: RunConfig, run_id: str, *, on_ray: bool) -> tuple[int, int]:
    """Turn finished shards into transcripts and dead letters, on Ray (`on_ray`) or in this process."""
    batches = transcripts.unstitched(out, config.output.recordings_per_file)
    calibration = calibrations.read(config.asr)
    # Known voices may need the speaker model: they are listened to only where there is something to stitch.
    settings = speaker_settings(config) if batches else None
    arguments = (config.hash(), __version__, run_id, config.output.compression, calibration, settings)

    def stitch_here(batches: Sequence[transcripts.Batch]) -> Iterator[transcripts.Stitched]:
        for batch in batches:
            yield transcripts.stitch_batch(out, batch, *arguments)

    def stitch_on_ray(batches: Sequence[transcripts.Batch]) -> Iterable[transcripts.Stitched]:
        import ray

        task: Any = ray.remote(transcripts.stitch_batch)
        results = [task.remote(out, batch, *arguments) for batch in batches]
        return [ray.get(result) for result in results]

    return transcripts.stitch_all(out, batches, stitch_on_ray if on_ray and len(batches) > 1 else stitch_here)


@contextlib.contextmanager
def record_losses(out: str, record: dict[str, Any], run_id: str) -> Iterator[list[PassLosses]]:
    """Write what the passes inside a `with` block lost and used to run.json; yields the list they append to.

    It is written however the block ends, because servers that are paid were asked all the same. Nothing is
    written if the lease was lost: run.json belongs to another run then.
    """
    losses: list[PassLosses] = []
    try:
        yield losses
    except BaseException as error:
        if losses and (isinstance(error, Exception) or shutdown.may_store()):
            with contextlib.suppress(
                Exception
            ):  # the error that ended the run counts, not one of writing this
                _write_losses(out, record, run_id, losses)
        raise
    _write_losses(out, record, run_id, losses)


def _write_losses(out: str, record: dict[str, Any], run_id: str, losses: list[PassLosses]) -> None:
    total = functools.reduce(PassLosses.and_then, losses, PassLosses())
    run_record.note(
        out,
        record,
        run_id,
        processes_died=total.crashed_processes,
        shards_again=total.repeated_shards,
        asked_of_servers=total.usage,
        model_costs=model_costs.as_record(total.costs),
        repairs=total.repairs,
        throughput=[*total.throughput],
    )
