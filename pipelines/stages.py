"""The stages of the job as Ray Data sees them: Arrow tables in, Arrow tables out, one row a shard throughout.

Rows become dictionaries for the actors, which know nothing of Arrow, and tables again by the schemas of `pipelines.schema`, so that a
block of nothing but nulls keeps its types.
"""

from __future__ import annotations

import functools
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import pyarrow as pa

from actors.aligner import AlignerActor
from actors.asr import ASRActor
from actors.config import AlignerConfig, ASRConfig, AudioConfig, SegmenterConfig
from actors.decoder import Decoder
from actors.errors import FatalError, as_row_error, before_exit, exit_process
from actors.given_text import GivenTextActor
from actors.watchdog import before_call
from pipelines.ledger import Verdict
from pipelines.room import Room
from pipelines.rows import to_rows, to_table
from pipelines.schema import DECODED, RECOGNISED, SHARD

ID = "shard_id"
Row = dict[str, Any]

log = logging.getLogger(__name__)

BEAT_SECONDS = 5.0
PIECE_BYTES = 8 << 20  # of samples that decoding yields at once, at least: four minutes
_PATIENCE = 60.0  # seconds that the ledger may take to answer
_LOAD_PAUSE = 10.0  # seconds before a model is loaded once more: a device gives back the memory of a dead process in its own time


@functools.cache
def _decoder(audio: AudioConfig, segmenter: SegmenterConfig) -> Decoder:
    # One decoder, with its child process, for the life of a Ray worker: tasks come and go in the same process.
    return Decoder(audio, segmenter)


def decode(table: pa.Table, audio: AudioConfig, segmenter: SegmenterConfig, ledger: Any) -> Iterator[pa.Table]:
    """PLAN rows to DECODED rows, yielded as they are done, so that a block never holds much more than Ray's block size in memory.

    Short recordings are yielded some at a time: Ray and Arrow have work for each piece of a block, at every stage.
    """
    decoder = _decoder(audio, segmenter)
    beat = Beat(ledger)
    done: list[Row] = []
    size = 0
    for row in table.to_pylist():
        done += decoder([row])
        size += sum(len(segment["samples"]) for segment in done[-1]["segments"])
        beat()
        if size >= PIECE_BYTES:
            yield pa.Table.from_pylist(done, schema=DECODED)
            done, size = [], 0
    if done:
        yield pa.Table.from_pylist(done, schema=DECODED)


class Beat:
    """Tells the ledger that this process is alive, at most once in `BEAT_SECONDS`."""

    def __init__(self, ledger: Any) -> None:
        self._ledger, self._last = ledger, -BEAT_SECONDS

    def __call__(self) -> None:
        if time.monotonic() - self._last >= BEAT_SECONDS:
            self._last = time.monotonic()
            self._ledger.beat.remote()


Actor = TypeVar("Actor", bound=Callable[[list[Row]], list[Row]])


class Careful(Generic[Actor]):
    """Rows through an actor whose process may die of one of them: the ledger knows what it has in hand. See `pipelines.ledger`.

    Args:
        stage: its name, as in `error_stage`.
        make: loads the actor: rows in, rows out, one for one and in order.
        ledger: handle of the Ray actor.
        tries: how often a shard may kill a process before it is given up.

    Raises:
        FatalError: it cannot be loaded.
    """

    def __init__(self, stage: str, make: Callable[[], Actor], ledger: Any, tries: int) -> None:
        self.stage, self.ledger, self.tries = stage, ledger, tries
        self.process = uuid.uuid4().hex
        self._room = Room()
        before_exit(self._leave_words)
        before_call(Beat(ledger))
        if reason := self._ask(
            "load", stage
        ):  # Ray makes several attempts; after the first one told why, the others need not load anything
            raise FatalError(reason)
        try:
            self.actor = make()
        except FatalError as error:
            if self._ask("cannot_load", stage, error.code, error.message):
                raise
            # Ray would not replace an actor that cannot be made, but one whose process ends.
            time.sleep(_LOAD_PAUSE)
            exit_process(error)
        self._ask("loaded", stage)

    def __call__(self, rows: list[Row]) -> list[Row]:
        """Every row done, or failed because it kills its process. Calls may overlap, but for those that have suspects in hand.

        Raises:
            FatalError: the run is to end.
        """
        with self._room.together():
            if self._begin(rows).clear:
                return self._work(rows)
        with self._room.alone():
            return self._one_by_one(rows)

    def _one_by_one(self, rows: list[Row]) -> list[Row]:
        verdict = self._begin(rows)
        if verdict.clear:
            return self._work(rows)
        done: dict[int, Row] = {}
        living = [i for i, row in enumerate(rows) if row[ID] not in verdict.dead]
        # What is known to be harmless together and first: the next death must not cost it again.
        together = [i for i in living if not verdict.alone or rows[i][ID] in verdict.proven or not rows[i]["segments"]]
        for group in [together, *([i] for i in living if i not in together)]:
            done |= zip(group, self._one_by_one([rows[i] for i in group]) if group else [], strict=True)
        for i in set(range(len(rows))) - done.keys():
            code, message = verdict.dead[rows[i][ID]]
            done[i] = self._failed(rows[i], code, message)
        return [done[i] for i in range(len(rows))]

    def _failed(self, row: Row, code: str, message: str) -> Row:
        return {**row, "status": "error", "error_stage": self.stage, "error_code": code, "error_message": message, "segments": []}

    def _work(self, rows: list[Row]) -> list[Row]:
        try:
            done = self.actor(rows)
        except FatalError as error:  # not of a call, which would have ended the process: a model that is loaded late cannot be loaded
            self._ask("give_up", error.message)
            raise
        except Exception as error:  # a defect of ours: it costs the row that shows it
            log.exception("the stage %s failed with %d rows", self.stage, len(rows))
            if len(rows) > 1:
                return [done for row in rows for done in self._work([row])]
            code, message = as_row_error(error)
            done = [self._failed(rows[0], code, message)]
        if ids := _busy(rows):
            self.ledger.end.remote(self.stage, ids)
        return done

    def _begin(self, rows: list[Row]) -> Verdict:
        ids = _busy(rows)
        verdict = (self._ask("begin", self.stage, ids, self.process, self.tries) if ids else None) or Verdict(None, {}, False, set())
        if verdict.stop:
            raise FatalError(verdict.stop)
        return verdict

    def _leave_words(self, error: FatalError) -> None:
        self._ask("leave_words", self.process, "model_timeout" if error.code == "model_timeout" else "worker_lost", error.message)

    def _ask(self, method: str, *arguments: Any) -> Any:
        import ray

        try:
            return ray.get(getattr(self.ledger, method).remote(*arguments), timeout=_PATIENCE)
        except ray.exceptions.RayError:  # no ledger, no suspicion: the bounded retries and the second pass still hold
            log.warning("the ledger does not answer", exc_info=True)
            return None


def _busy(rows: list[Row]) -> list[str]:
    """The shards that the model will see something of."""
    return [row[ID] for row in rows if row["segments"]]


class InTurn:
    """A stage whose calls overlap, but for the model's part of them, which so many threads do as are of use to the model: most often one.

    Ray gives a replica a second table while it works on one: that table is read, and the one before it written, beside the model. With no
    more than one call at a time a GPU of 3,000 times real time waited for a fifth of its time.
    """

    def __init__(self, lanes: int = 1) -> None:
        self._threads = ThreadPoolExecutor(lanes, thread_name_prefix="model")

    def in_turn(self, work: Callable[[list[Row]], list[Row]], rows: list[Row]) -> list[Row]:
        """Rows through the model when it is their turn; what it raises is raised here."""
        return self._threads.submit(work, rows).result()


class Recognise(InTurn):
    """DECODED to RECOGNISED rows on one replica of the model."""

    def __init__(self, make_actor: Callable[[ASRConfig], ASRActor | GivenTextActor], config: ASRConfig, ledger: Any) -> None:
        self.careful = Careful("recognise", functools.partial(make_actor, config), ledger, config.pool.max_task_retries + 1)
        self.actor = self.careful.actor
        super().__init__(self.actor.lanes)

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = self.in_turn(self.careful, to_rows(table))
        for row in rows:
            row["asr_model"], row["asr_revision"] = self.actor.model, self.actor.revision
        if isinstance(self.actor, ASRActor) and (spent := self.actor.spent()):
            self.careful.ledger.spend.remote(self.careful.process, spent)
        return to_table(rows, RECOGNISED, table)


class Align(InTurn):
    """RECOGNISED to SHARD rows: word times where the language has them, and the samples are dropped."""

    def __init__(self, config: AlignerConfig, run_id: str, ledger: Any) -> None:
        tries = config.pool.max_task_retries + 1
        self.careful = Careful("align", functools.partial(AlignerActor, config), ledger, tries) if config.backend != "none" else None
        self.actor = self.careful.actor if self.careful else None
        super().__init__(self.actor.lanes if self.actor else 1)
        self.run_id = run_id
        self.ledger = ledger

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = to_rows(table)
        rows = self.in_turn(self.careful, rows) if self.careful else [_without_words(row) for row in rows]
        created_at = datetime.now(UTC)
        for row in rows:
            row["aligner_model"] = self.actor.model if self.actor else None
            row["aligner_revision"] = self.actor.revision if self.actor else None
            row["run_id"], row["created_at"] = self.run_id, created_at
        self.ledger.add.remote([_done(row) for row in rows])
        return pa.Table.from_pylist(rows, schema=SHARD)


def _without_words(row: dict[str, Any]) -> dict[str, Any]:
    segments = [
        {**{k: v for k, v in segment.items() if k != "samples"}, "words": [], "word_source": "none"} for segment in row["segments"] or []
    ]
    return {**row, "segments": segments}


def _done(row: dict[str, Any]) -> tuple[str, int, float, bool]:
    """(recording, its shards, seconds of this shard, failed?) for the progress counter."""
    seconds = max(0.0, (row["decoded_end"] or 0.0) - (row["decoded_start"] or 0.0))
    if row["status"] == "error" and row["duration"]:
        seconds = (row["end"] if row["end"] is not None else row["duration"]) - row["start"]
    return row["recording_id"], row["shard_count"], seconds, row["status"] == "error"
