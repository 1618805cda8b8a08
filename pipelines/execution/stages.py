"""The stages of the job as Ray Data sees them: Arrow tables in, Arrow tables out, always one row a shard.

Rows become dictionaries for the actors, which do not know Arrow, and tables again by the schemas of
`pipelines.schema`, so that a block whose values are all null keeps its types.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, cast

import pyarrow as pa

from actors.aligner import AlignerActor, without_words
from actors.answers.codecs import AlignedSegmentCodec, HypothesisCodec
from actors.answers.portions import FIRST_SECONDS, Portions
from actors.asr import ASRActor
from actors.audio.windows import Window
from actors.backends.base import Backend
from actors.backends.devices import device_name
from actors.config import AlignerConfig, ASRConfig, AudioConfig, SegmenterConfig
from actors.config.repair import RepairConfig
from actors.config.trust import GuardsConfig
from actors.decoder import Decoder
from actors.errors import FatalError
from actors.known_text import KnownTextActor
from actors.records import Row
from actors.redaction import redacted_address
from actors.repair import second_model
from actors.repair.earlier import unpack
from pipelines.commits.answers import AnswerFolder
from pipelines.execution.arrow_rows import decoded_table, to_rows, to_table
from pipelines.execution.ray_data import BYTES_PER_SECOND
from pipelines.schema import RECOGNISED, SHARD
from pipelines.storage import parquet_cells
from pipelines.supervision import model_costs
from pipelines.supervision.guarded_actor import GuardedActor, Heartbeat
from pipelines.supervision.repair_budget import SupervisedBudget

MIN_YIELD_BYTES = 8 << 20  # of samples that decoding yields at once, four minutes, unless the table ends


@functools.cache
def _decoder(audio: AudioConfig, segmenter: SegmenterConfig) -> Decoder:
    # One decoder, with its child process, for the life of a Ray worker: many tasks run in the same process.
    return Decoder(audio, segmenter, (parquet_cells.__name__,))


def decode(
    table: pa.Table, audio: AudioConfig, segmenter: SegmenterConfig, supervisor: Any
) -> Iterator[pa.Table]:
    """Turn PLAN rows into DECODED rows.

    Rows are yielded as they are done, so that a task never holds much more than Ray's block size in memory.
    Short recordings are yielded some at a time: Ray and Arrow have work for each piece of a block, at every
    stage.

    Raises:
        FatalError: nothing can be decoded here; the run has been told to stop.
    """
    decoder = _decoder(audio, segmenter)
    heartbeat = Heartbeat(supervisor)
    done: list[Row] = []
    first = size = 0
    audio_seconds = busy_seconds = 0.0
    rows = table.to_pylist()
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        began = time.monotonic()
        try:
            done += decoder([row], following)
        except (FatalError, ImportError) as error:  # no input is to blame: every one would end like this
            reason = f"decoding cannot run: {error}"
            supervisor.stop_run.remote(reason)
            raise FatalError(reason) from error
        busy_seconds += time.monotonic() - began
        audio_seconds += _decoded_seconds(done[-1])
        for name in ("audio", "location"):  # what fetching the audio needed is stored in the plan only
            done[-1][name] = redacted_address(done[-1].get(name) or "") or None
        size += sum(len(segment["samples"]) for segment in done[-1]["segments"])
        heartbeat()
        if size >= MIN_YIELD_BYTES:
            yield decoded_table(done, table.slice(first, len(done)))
            first, done, size = first + len(done), [], 0
    if done:
        yield decoded_table(done, table.slice(first, len(done)))
    costs = {"calls": 1, "audio_seconds": audio_seconds, "busy_seconds": busy_seconds}
    supervisor.record_costs.remote(model_costs.DECODE, model_costs.CPU, {**costs, "num_cpus": audio.num_cpus})


class SerializedStage:
    """Overlaps reading and writing of tables with inference.

    At most `max_concurrent_calls` threads use the model. Ray gives a replica a second table while it
    works on the first. That table is read, and the one before it written, beside the model. With only one
    call at a time a GPU of 3,000 times real time waited for a fifth of its time.
    """

    def __init__(self, max_concurrent_calls: int = 1) -> None:
        self._threads = ThreadPoolExecutor(max_concurrent_calls, thread_name_prefix="model")
        self._timer = model_costs.BusyTimer()

    def run_model(self, work: Callable[[list[Row]], list[Row]], rows: list[Row]) -> list[Row]:
        """Return `work(rows)` as soon as the model is free; raises what `work` raises."""
        return self._threads.submit(self._run_timed, work, rows).result()

    def _run_timed(self, work: Callable[[list[Row]], list[Row]], rows: list[Row]) -> list[Row]:
        with self._timer.running():
            return work(rows)

    def _report_costs(
        self, stage: str, actor: ASRActor | AlignerActor, seconds: float, supervisor: Any
    ) -> None:
        """Report a call with so many seconds of audio; calls without audio are not counted."""
        busy = self._timer.take()
        if seconds:
            record = {"calls": 1, "audio_seconds": seconds, "busy_seconds": busy}
            self._report(stage, actor, record, supervisor)

    def _report(
        self, stage: str, actor: ASRActor | AlignerActor, record: dict[str, Any], supervisor: Any
    ) -> None:
        """Report calls, or none and only what the model measured when it was loaded."""
        backend = actor.config.backend
        device = model_costs.SERVER if backend == "openai" else device_name(cast(Any, actor.backend.device))
        record = {**record, "model": actor.model}
        if device == model_costs.CPU:
            record["threads"] = actor.config.threads
        if actor.cost_model is not None:
            record["fitted"] = actor.cost_model.as_record()
        supervisor.record_costs.remote(stage, device, record)


class Recognise(SerializedStage):
    """DECODED to RECOGNISED rows on one replica of the model."""

    cost_stage = model_costs.RECOGNISE

    def __init__(
        self,
        make_actor: Callable[[ASRConfig], ASRActor | KnownTextActor],
        config: ASRConfig,
        supervisor: Any,
        answers: AnswerFolder | None = None,
    ) -> None:
        self.guarded = GuardedActor(
            "recognise", functools.partial(make_actor, config), supervisor, config.pool.max_task_retries + 1
        )
        self.actor = self.guarded.actor
        self.guarded.before_end = self._report_usage
        super().__init__(self.actor.max_concurrent_calls)
        if answers is not None:
            first = _first_seconds(self.actor.backend) if isinstance(self.actor, ASRActor) else FIRST_SECONDS
            self.actor.portions = Portions(answers.open("recognise"), HypothesisCodec(), first)
        if isinstance(self.actor, ASRActor):
            self.actor.ladder.budget = SupervisedBudget(supervisor)
        if isinstance(self.actor, ASRActor) and self.actor.cost_model is not None:
            self._report(self.cost_stage, self.actor, {}, supervisor)

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = to_rows(table)
        seconds = _segment_seconds(rows)
        rows = self.run_model(self.guarded, rows)
        if isinstance(self.actor, ASRActor):
            seconds -= _found_seconds(self.actor)
            self._report_costs(self.cost_stage, self.actor, seconds, self.guarded.supervisor)
            if costs := self.actor.ladder.take_costs():
                self.guarded.supervisor.record_repair.remote(costs)
        for row in rows:
            row["asr_model"], row["asr_revision"] = self.actor.model, self.actor.revision
        self._report_usage()
        return to_table(rows, RECOGNISED, table)

    def _report_usage(self) -> None:
        if isinstance(self.actor, ASRActor) and (usage := self.actor.usage()):
            self.guarded.supervisor.record_usage.remote(self.guarded.process, usage)


class RecogniseAgain(Recognise):
    """DECODED rows of an earlier pass to RECOGNISED rows, by a second model."""

    cost_stage = model_costs.RECOGNISE_AGAIN


class Align(SerializedStage):
    """RECOGNISED to SHARD rows: adds word times where the aligner has the language, and drops the samples."""

    def __init__(
        self,
        config: AlignerConfig,
        run_id: str,
        supervisor: Any,
        guards: GuardsConfig | None = None,
        repair: RepairConfig | None = None,
        answers: AnswerFolder | None = None,
    ) -> None:
        tries = config.pool.max_task_retries + 1
        self.guarded = (
            GuardedActor("align", functools.partial(AlignerActor, config, guards, repair), supervisor, tries)
            if config.backend != "none"
            else None
        )
        self.actor = self.guarded.actor if self.guarded else None
        if self.actor is not None and answers is not None:
            first = _first_seconds(self.actor.backend)
            self.actor.portions = Portions(answers.open("align"), AlignedSegmentCodec(), first)
        super().__init__(self.actor.max_concurrent_calls if self.actor else 1)
        self.run_id = run_id
        self.supervisor = supervisor
        self.repair = repair or RepairConfig(enabled=False)

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = to_rows(table)
        seconds = _segment_seconds(rows)
        rows = self.run_model(self.guarded or _without_words, rows)
        if self.actor is not None:
            seconds -= _found_seconds(self.actor)
            self._report_costs(model_costs.ALIGN, self.actor, seconds, self.supervisor)
        created_at = datetime.now(UTC)
        for row in rows:
            row["aligner_model"] = self.actor.model if self.actor else None
            row["aligner_revision"] = self.actor.revision if self.actor else None
            row["run_id"], row["created_at"] = self.run_id, created_at
        rows = [self._finished(row) for row in rows]
        self.supervisor.add.remote([_finished_shard(row) for row in rows])
        return pa.Table.from_pylist(rows, schema=SHARD)

    def _finished(self, row: Row) -> Row:
        """The row with what a second model is to hear; in its own pass, with what it did not hear."""
        if row.get("earlier"):
            own = not second_model.has_model(self.repair)
            return {**second_model.merged_row(row, *unpack(row["earlier"]), own=own), "earlier": None}
        wanted = second_model.is_wanted_by(self.repair)
        segments, languages = row["segments"] or [], self.repair.languages
        doubtful, of_languages = second_model.seconds_again(segments, languages, wanted)
        return {**row, "doubtful_seconds": doubtful or None, "language_seconds": of_languages or None}


def _without_words(rows: list[Row]) -> list[Row]:
    return [{**row, "segments": [without_words(part) for part in row["segments"] or []]} for row in rows]


def _first_seconds(backend: Backend) -> float | None:
    # On a GPU the first table fills it from the beginning, and takes half a minute at 300 times real time.
    return None if backend.on_gpu else FIRST_SECONDS


def _found_seconds(actor: ASRActor | AlignerActor) -> float:
    return actor.portions.take_found_seconds() if actor.portions else 0.0


def _segment_seconds(rows: list[Row]) -> float:
    """Seconds of audio that a model gets."""
    segments = [segment for row in rows for segment in row["segments"] or []]
    return sum(len(segment["samples"]) for segment in segments) / BYTES_PER_SECOND


def _decoded_seconds(row: Row) -> float:
    return max(0.0, (row["decoded_end"] or 0.0) - (row["decoded_start"] or 0.0))


def _finished_shard(row: Row) -> tuple[str, int, float, bool]:
    """`(recording_id, shard_count, seconds, failed)` of a shard, for the progress counter."""
    seconds = _decoded_seconds(row)
    if row["status"] == "error" and row["duration"]:
        end = Window.of(row).end_in_file(row["duration"]) if row["end"] is None else row["end"]
        seconds = end - row["start"]
    return row["recording_id"], row["shard_count"], seconds, row["status"] == "error"
