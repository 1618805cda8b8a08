"""THE job: a manifest goes in, transcripts and dead letters come out, and the same command again takes up whatever is left.

    manifest ─► plan ─► decode ─► recognise ─► align ─► OUT/shards ─► stitch ─► OUT/transcripts + OUT/dead_letters

`run_shards` is the whole flow on Ray; everything around it decides what is left to do and proves that nothing got lost.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from actors import backends, retries
from actors.asr import ASRActor
from actors.errors import FatalError, UsageError
from actors.known_text import GivenTextActor
from pipelines import __version__
from pipelines.cluster import session
from pipelines.cluster.placement import placed
from pipelines.config import RunConfig
from pipelines.execution.passes import noted
from pipelines.execution.progress import Progress, Snapshot, Totals
from pipelines.execution.stages import Align, Recognise, decode
from pipelines.manifests.manifest import Recording, read_manifest
from pipelines.output import lease, run_record, shards, transcripts
from pipelines.planning import planner
from pipelines.reporting import report
from pipelines.storage import files as locations
from pipelines.supervision import shutdown, stall, storage_failures
from pipelines.supervision.supervisor import PassLosses, kept, losses_of


@dataclass(frozen=True)
class Outcome:
    """How a command ended, in recordings."""

    recordings: int
    transcripts: int
    dead_letters: int
    shards_done: int  # by this command
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
    manifest: str, out: str, config: RunConfig, *, command: str = "transcribe", accept_changes: bool = False
) -> Outcome:
    """Transcribe (or, with `command="align"`, give word times to the texts of) everything in a manifest that OUT does not have yet.

    Args:
        manifest: any manifest that `pipelines.manifests.manifest` reads.
        out: the output directory, on any fsspec URI.
        config: the settings; those of an earlier run on `out` must be the same.
        command: transcribe or align.
        accept_changes: go on although the settings changed.

    Raises:
        UsageError: manifest, settings or directory are wrong. Nothing has been started then.
    """

    check_models(config)
    retries.apply(config.storage)
    # All of the manifest before anything is written: a wrong line 900,000 is told now.
    table = planner.collect(recordings_of(manifest, command), config)
    with lease.held(out, command, shutdown.abort):
        run_id, record = run_record.open_run(out, config, command, manifest, accept_changes=accept_changes)
        shards.settle(out)
        planned = planner.extend_plan(out, table, config, run_id, whole=command == "align")
        return finish(out, config, run_id, record, new_recordings=planned)


def retry(out: str, config: RunConfig, codes: Sequence[str] = ()) -> Outcome:
    """Run the dead letters of `out` again, all or those with one of `codes`.

    A dead letter that succeeds becomes a transcript; one that fails again stays, with one more attempt.
    """
    retries.apply(config.storage)
    command = run_record.require(out)["command"]
    with lease.held(out, "retry", shutdown.abort):
        letters = [row for row in transcripts.dead_letters(out) if not codes or row["error_code"] in codes]
        run_id, record = run_record.open_run(out, config, command, "retry")
        shards.settle(out)
        planner.plan_again(
            out,
            {row["recording_id"]: row["attempts"] for row in letters},
            run_id,
            config,
            whole=command == "align",
        )
        return finish(out, config, run_id, record)


def finish(
    out: str, config: RunConfig, run_id: str, record: dict[str, Any], new_recordings: int = 0
) -> Outcome:
    """Do what is planned and not done, stitch what is done and not stitched, and write the report."""
    plan = planner.read_plan(out)
    todo = left_to_do(plan, out)
    if todo.num_rows:
        with session.started(config.cluster):
            try:
                with noted(out, record, run_id) as passes:
                    run_passes(out, config, run_id, plan, todo, passes, command=record["command"])
            except FatalError:  # what is finished is not to wait until the cause is mended
                shards.settle(out)
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


def run_passes(
    out: str,
    config: RunConfig,
    run_id: str,
    plan: pa.Table,
    todo: pa.Table,
    passes: list[PassLosses],
    *,
    command: str,
) -> None:
    """`run_shards` over all that is to do, then over what was lost with a process that died, each shard alone; what is lost again is given up."""
    run_shards(out, config, run_id, plan, todo, passes, command=command)
    shards.settle(out)  # a commit may have failed half-way
    left = left_to_do(plan, out)
    if left.num_rows:
        run_shards(out, config, run_id, plan, left, passes, command=command, alone=True)
        first, last = passes
        shards.settle(out)
        lost = left_to_do(plan, out)
        if not last.explain(lost[shards.ID].to_pylist()):
            raise FatalError(
                f"{lost.num_rows:,} of {left.num_rows:,} shards were not done, but only {last.processes} processes died and {last.tasks} tasks "
                f"failed{': ' * bool(last.failure)}{last.failure}; the shards are not to blame and stay to be done; look at Ray's logs"
            )
        shards.bury(out, lost.to_pylist(), run_id, first.and_then(last).reasons, last.failure)


def run_shards(
    out: str,
    config: RunConfig,
    run_id: str,
    plan: pa.Table,
    todo: pa.Table,
    passes: list[PassLosses],
    *,
    command: str = "transcribe",
    alone: bool = False,
) -> None:
    """The flow on Ray: from planned shards to rows in OUT/shards, streamed and committed task by task.

    Args:
        out: the output directory.
        config: the settings.
        run_id: written into every row.
        plan: all planned shards.
        todo: those of them without a committed row; only their plan files are read.
        passes: what died on the way, and what was asked of servers, is put there, also where an error ends the pass.
        command: `align` takes the text from the manifest instead of the model.
        alone: one shard a task, so that a row that kills its process takes no neighbour with it.

    Raises:
        FatalError: no process of a stage can do its work; the message says why.
    """
    import ray.data

    from pipelines.supervision import draining

    place = placed(config, session.nodes(), fewer=alone)
    models = ("recogniser", "aligner")[: 1 + (config.aligner.backend != "none")]
    cores = place.cores_each(models, os.cpu_count() if config.cluster.address == "local" else None)
    asr = session.with_share(config.asr, place.asr["num_gpus"], cores)
    aligner = session.with_share(config.aligner, place.aligner["num_gpus"], cores)
    recogniser = (
        functools.partial(GivenTextActor, max_duration=config.segmenter.max_duration)
        if command == "align"
        else ASRActor
    )
    files = planner.files_of(todo)
    store, _ = locations.arrow_filesystem(out)

    # A few processes may die and their rows are done again, alone; if many do, something is wrong for all: Ray stops with the cause.
    bearable = -1 if alone else max(10, len(files) // 20)
    block = session.block_bytes(place.nodes, planner.seconds_of(todo), len(files))
    with (
        kept(
            place.asr["size"] + place.aligner["size"], planner.begun(todo), **session.beside_driver()
        ) as supervisor,
        stall.ended(
            lambda: tuple(ray.get(supervisor.alive.remote(), timeout=60)),
            stall.patience(config, place.on_gpu),
        ),
        session.checkpointed(shards.checkpoint_folder(out), shards.ID, bearable, block),
        draining.enabled(),
        storage_failures.told(out, final=alone) as failed,
        Progress(
            _totals(plan, todo), lambda: tuple(ray.get(supervisor.read.remote(), timeout=5)), _storing(out)
        ),
    ):
        # All of them, by whatever name: what Ray takes for an extension ends at a question mark of the folder.
        rows = ray.data.read_parquet(
            _paths(files), filesystem=store, override_num_blocks=len(files), file_extensions=None
        )
        if alone:
            rows = rows.repartition(target_num_rows_per_block=1)
        decoded = rows.map_batches(
            decode,  # type: ignore[arg-type]  # Ray's stubs do not know functions with keyword arguments
            fn_kwargs={"audio": config.audio, "segmenter": config.segmenter, "supervisor": supervisor},
            num_cpus=config.audio.num_cpus,
            max_retries=2,
            **session.selecting(place.decode_labels),
            **_TABLES,
        )
        # Ray's check in front of this one wants a batch size where there are GPUs; an actor of ours packs its own batches of a whole block.
        recognised = decoded.map_batches_internal(
            Recognise,
            fn_constructor_args=(recogniser, asr, supervisor),
            **session.pool_arguments(place.asr, alone),
            **_TABLES,
        )
        aligned = recognised.map_batches_internal(
            Align,
            fn_constructor_args=(aligner, run_id, supervisor),
            **session.pool_arguments(place.aligner, alone),
            **_TABLES,
        )
        try:
            aligned.write_parquet(
                _path(shards.folder(out)), filesystem=store, compression=config.output.compression
            )
        except BaseException:
            with contextlib.suppress(Exception):  # the error is told, whatever Ray says now
                passes.append(losses_of(supervisor, patience=1.0))
            raise
        passes.append(
            replace(losses_of(supervisor), tasks=len(failed), failure=storage_failures.last_line(failed))
        )


def stitch(out: str, config: RunConfig, run_id: str, *, on_ray: bool) -> tuple[int, int]:
    """Turn finished shards into transcripts and dead letters; on Ray where it runs already, here where it does not."""
    batches = transcripts.unstitched(out, config.output.recordings_per_file)
    arguments = (config.hash(), __version__, run_id, config.output.compression)

    def here(batches: Sequence[transcripts.Batch]) -> Iterator[transcripts.Stitched]:
        for batch in batches:
            yield transcripts.stitch_batch(out, batch, *arguments)

    def there(batches: Sequence[transcripts.Batch]) -> Iterable[transcripts.Stitched]:
        import ray

        task = ray.remote(transcripts.stitch_batch)
        waiting = [task.remote(out, batch, *arguments) for batch in batches]
        return [ray.get(reference) for reference in waiting]

    return transcripts.stitch_all(out, batches, there if on_ray and len(batches) > 1 else here)


# Whole blocks as Arrow tables: the plan decides how large a block is, and an actor packs its own batches inside it.
_TABLES: dict[str, Any] = {"batch_format": "pyarrow", "batch_size": None}


def check_models(config: RunConfig) -> None:
    """Raise a UsageError where a model's folder, or its engine, is not there; hubs are not asked."""
    try:
        backends.check(config.asr, config.aligner, here=config.cluster.address == "local")
    except FatalError as error:
        raise UsageError(error.message) from None


def left_to_do(plan: pa.Table, out: str) -> pa.Table:
    """The rows of a plan without a committed row in `out`."""
    done = shards.committed_ids(out)
    return plan.filter(pc.invert(pc.is_in(plan[shards.ID], done.combine_chunks())))


def _paths(uris: Sequence[str]) -> list[str]:
    return [_path(uri) for uri in uris]


def _path(uri: str) -> str:
    return locations.arrow_filesystem(uri)[1]


def _totals(plan: pa.Table, todo: pa.Table) -> Totals:
    recordings = pc.count_distinct(plan["recording_id"]).as_py()
    left = pc.count_distinct(todo["recording_id"]).as_py()
    seconds, seconds_left = planner.seconds_of(plan), planner.seconds_of(todo)
    return Totals(recordings, seconds, recordings - left, seconds - seconds_left)


def _storing(out: str) -> Any:
    import json

    def store(snapshot: Snapshot) -> None:
        state = {
            "updated_at": run_record.now(),
            "line": snapshot.line(),
            "rtfx": snapshot.rtfx,
            "eta_seconds": snapshot.eta,
        }
        locations.write_atomic(locations.join(out, "progress.json"), json.dumps(state).encode())

    return store


def recordings_of(manifest: str, command: str) -> Iterator[Recording]:
    """The rows of a manifest.

    Raises:
        UsageError: one of them is wrong, or for `align` has no text.
    """
    for recording in read_manifest(manifest):
        if command == "align" and not (recording.text and recording.text.strip()):
            raise UsageError(
                f"{recording.origin}: {recording.id!r} has no `text`: `align` gives times to words that the manifest has"
            )
        yield recording
