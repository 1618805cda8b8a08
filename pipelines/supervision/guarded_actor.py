"""Work on rows by a process that may die of them: it says what it takes in hand to the ledger, which outlives it. See `pipelines.supervisor`."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from actors.errors import FatalError, as_row_error
from actors.process.exit import before_exit, exit_process
from actors.process.watchdog import before_call
from actors.records import Row
from pipelines.supervision.shared_lock import SharedLock
from pipelines.supervision.supervisor import Verdict

ID = "shard_id"

log = logging.getLogger(__name__)

BEAT_SECONDS = 5.0
_PATIENCE = 60.0  # seconds that the ledger may take to answer
_LOAD_PAUSE = 10.0  # seconds before a model is loaded once more: a device gives back the memory of a dead process in its own time


class Heartbeat:
    """Tells the ledger that this process is alive, at most once in `BEAT_SECONDS`."""

    def __init__(self, supervisor: Any) -> None:
        self._supervisor, self._last = supervisor, -BEAT_SECONDS

    def __call__(self) -> None:
        if time.monotonic() - self._last >= BEAT_SECONDS:
            self._last = time.monotonic()
            self._supervisor.beat.remote()


Actor = TypeVar("Actor", bound=Callable[[list[Row]], list[Row]])


class GuardedActor(Generic[Actor]):
    """Rows through an actor whose process may die of one of them: the ledger knows what it has in hand. See `pipelines.supervisor`.

    Args:
        stage: its name, as in `error_stage`.
        make: loads the actor: rows in, rows out, one for one and in order.
        ledger: handle of the Ray actor.
        tries: how often a shard may kill a process before it is given up.

    Raises:
        FatalError: it cannot be loaded.
    """

    def __init__(self, stage: str, make: Callable[[], Actor], supervisor: Any, tries: int) -> None:
        self.stage, self.supervisor, self.tries = stage, supervisor, tries
        self.process = uuid.uuid4().hex
        self._lock = SharedLock()
        self.before_end: Callable[[], None] = lambda: None  # what else is to be told when the process ends
        before_exit(self._leave_words)
        before_call(Heartbeat(supervisor))
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
        with self._lock.shared():
            if self._begin(rows).clear:
                return self._work(rows)
        with self._lock.exclusive():
            return self._one_by_one(rows)

    def _one_by_one(self, rows: list[Row]) -> list[Row]:
        verdict = self._begin(rows)
        if verdict.clear:
            return self._work(rows)
        done: dict[int, Row] = {}
        living = [i for i, row in enumerate(rows) if row[ID] not in verdict.dead]
        # What is known to be harmless together and first: the next death must not cost it again.
        together = [
            i
            for i in living
            if not verdict.isolated or rows[i][ID] in verdict.proven or not rows[i]["segments"]
        ]
        for group in [together, *([i] for i in living if i not in together)]:
            done |= zip(group, self._one_by_one([rows[i] for i in group]) if group else [], strict=True)
        for i in set(range(len(rows))) - done.keys():
            code, message = verdict.dead[rows[i][ID]]
            done[i] = self._failed(rows[i], code, message)
        return [done[i] for i in range(len(rows))]

    def _failed(self, row: Row, code: str, message: str) -> Row:
        return {
            **row,
            "status": "error",
            "error_stage": self.stage,
            "error_code": code,
            "error_message": message,
            "segments": [],
        }

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
            self.supervisor.end.remote(self.stage, ids)
        return done

    def _begin(self, rows: list[Row]) -> Verdict:
        ids = _busy(rows)
        verdict = (self._ask("begin", self.stage, ids, self.process, self.tries) if ids else None) or Verdict(
            None, {}, False, set()
        )
        if verdict.stop:
            raise FatalError(verdict.stop)
        return verdict

    def _leave_words(self, error: FatalError) -> None:
        self.before_end()
        self._ask(
            "leave_words",
            self.process,
            "model_timeout" if error.code == "model_timeout" else "worker_lost",
            error.message,
        )

    def _ask(self, method: str, *arguments: Any) -> Any:
        import ray

        try:
            return ray.get(getattr(self.supervisor, method).remote(*arguments), timeout=_PATIENCE)
        except (
            ray.exceptions.RayError
        ):  # no ledger, no suspicion: the bounded retries and the second pass still hold
            log.warning("the ledger does not answer", exc_info=True)
            return None


def _busy(rows: list[Row]) -> list[str]:
    """The shards that the model will see something of."""
    return [row[ID] for row in rows if row["segments"]]
