"""The whole job: a manifest in, transcripts and dead letters out; the same command again does the rest.

    manifest ─► plan ─► decode ─► recognise ─► align ─► OUT/shards ─► stitch ─► OUT/transcripts +
    OUT/dead_letters

`pipelines.execution.dataflow` has the five stages on Ray; this module decides what is left to do and checks
that nothing is lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from actors import retries
from actors.errors import FatalError
from pipelines.cluster import session
from pipelines.config import RunConfig
from pipelines.execution.passes import record_losses, run_passes, stitch
from pipelines.execution.preflight import check_models
from pipelines.execution.supervised_pass import ShardPass
from pipelines.manifests.manifest import recordings_of
from pipelines.output import lease, run_record, saved_settings, shards, transcripts
from pipelines.planning import planner
from pipelines.reporting import report
from pipelines.second_pass.running import check_pool, is_needed, run_second_pass
from pipelines.supervision import shutdown


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        recordings: in the plan.
        transcripts: recordings that have one.
        dead_letters: recordings that have one.
        shards_done: by this command.
        new_recordings: planned by this command.
    """

    recordings: int
    transcripts: int
    dead_letters: int
    shards_done: int
    new_recordings: int = 0

    @property
    def complete(self) -> bool:
        """Whether every recording is in exactly one of the two tables."""
        return self.recordings == self.transcripts + self.dead_letters

    @property
    def exit_code(self) -> int:
        """0 all transcribed, 3 finished with dead letters, 1 not finished."""
        if not self.complete:
            return 1
        return 3 if self.dead_letters else 0


def transcribe(
    manifest: str,
    out: str,
    config: RunConfig,
    *,
    command: str = "transcribe",
    accept_changes: bool = False,
    columns: Mapping[str, str] | None = None,
) -> Outcome:
    """Transcribe everything in a manifest that OUT does not have yet.

    With `command="align"` the manifest's own texts get word times instead.

    Args:
        manifest: any manifest that `pipelines.manifests.manifest` reads.
        out: the output directory, on any fsspec URI.
        config: the settings; those of an earlier run on `out` must be the same, but for defaults that have
            changed since, which stay what they were.
        command: transcribe or align.
        accept_changes: continue although the settings have changed.
        columns: for columns of a manifest the names that this one has for them.

    Raises:
        UsageError: manifest, settings or directory are wrong. Nothing has been started then.
    """
    check_models(config)
    retries.apply(config.storage)
    if not accept_changes:
        config = saved_settings.with_former_defaults(config, run_record.read(out))
    # Read all of the manifest before anything is written: an error in line 900,000 is raised now.
    table = planner.collect(recordings_of(manifest, command, columns), config)
    with lease.hold(out, command, shutdown.abort):
        run_id, record = run_record.open_run(out, config, command, manifest, accept_changes=accept_changes)
        shards.recover(out)
        planned = planner.extend_plan(out, table, config, run_id, whole=command == "align")
        return finish(out, config, run_id, record, new_recordings=planned)


def retry(out: str, config: RunConfig, codes: Sequence[str] = ()) -> Outcome:
    """Run the dead letters of `out` again: all of them, or those with one of `codes`.

    A dead letter that succeeds becomes a transcript; one that fails again stays, with one more attempt.
    """
    retries.apply(config.storage)
    command = run_record.require(out)["command"]
    with lease.hold(out, "retry", shutdown.abort):
        letters = [row for row in transcripts.dead_letters(out) if not codes or row["error_code"] in codes]
        attempts = {row["recording_id"]: row["attempts"] for row in letters}
        run_id, record = run_record.open_run(out, config, command, "retry")
        shards.recover(out)
        planner.plan_again(out, attempts, run_id, config, whole=command == "align")
        return finish(out, config, run_id, record)


def finish(
    out: str, config: RunConfig, run_id: str, record: dict[str, Any], new_recordings: int = 0
) -> Outcome:
    """Do the planned shards that are left, stitch the recordings that are left, and write the report."""
    plan = planner.read_plan(out)
    todo = shards.left_to_do(plan, out)
    if todo.num_rows or is_needed(out, config, record["command"], plan):
        work = ShardPass(out, config, run_id, record["command"], plan, todo)
        with session.running_ray(config.cluster):
            try:
                with record_losses(out, record, run_id) as losses:
                    check_pool(config, record["command"])
                    if todo.num_rows:
                        run_passes(work, losses)
                    run_second_pass(work, losses)
            except FatalError:  # finished shards need not wait until the cause is fixed
                shards.recover(out)
                stitch(out, config, run_id, on_ray=False)
                raise
            stitch(out, config, run_id, on_ray=True)
    else:
        stitch(out, config, run_id, on_ray=False)
    outcome = Outcome(
        recordings=pc.count_distinct(plan["recording_id"]).as_py(),
        transcripts=len(transcripts.transcript_ids(out)),
        dead_letters=len(transcripts.dead_letters(out)),
        shards_done=todo.num_rows,
        new_recordings=new_recordings,
    )
    facts = {
        "recordings": outcome.recordings,
        "transcripts": outcome.transcripts,
        "dead_letters": outcome.dead_letters,
    }
    run_record.close_run(out, record, run_id, **facts)
    report.write(out)
    return outcome
