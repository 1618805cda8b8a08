"""Runs an actor whose process may crash on a row.

The supervisor, which outlives the process, knows which shards it holds.
"""

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
from pipelines.supervision.losses import ANSWER_TIMEOUT
from pipelines.supervision.shared_lock import SharedLock
from pipelines.supervision.supervisor import Verdict

ID = "shard_id"

log = logging.getLogger(__name__)

HEARTBEAT_INTERVAL = 5.0  # seconds
# Seconds before a model is loaded once more: a device frees the memory of a dead process with some delay.
_LOAD_PAUSE = 10.0


class Heartbeat:
    """Tells the supervisor that this process is alive, at most once in `HEARTBEAT_INTERVAL`."""

    def __init__(self, supervisor: Any) -> None:
        self._supervisor, self._last = supervisor, -HEARTBEAT_INTERVAL

    def __call__(self) -> None:
        if time.monotonic() - self._last >= HEARTBEAT_INTERVAL:
            self._last = time.monotonic()
            self._supervisor.beat.remote()


Actor = TypeVar("Actor", bound=Callable[[list[Row]], list[Row]])


class GuardedActor(Generic[Actor]):
    """Passes rows through an actor and registers their shards with the supervisor.

    Args:
        stage: its name, as in `error_stage`.
        make: loads the actor, which takes rows and returns as many rows in the same order.
        supervisor: its Ray handle.
        tries: how often a shard may crash a process before it is given up.

    Raises:
        FatalError: the actor cannot be loaded.
    """

    def __init__(self, stage: str, make: Callable[[], Actor], supervisor: Any, tries: int) -> None:
        self.stage, self.supervisor, self.tries = stage, supervisor, tries
        self.process = uuid.uuid4().hex
        self._lock = SharedLock()
        self.before_end: Callable[[], None] = lambda: None  # what else to report when the process ends
        before_exit(self._report_exit)
        before_call(Heartbeat(supervisor))
        # Ray makes several attempts. Once one of them has reported the cause, the others need not load
        # anything.
        if reason := self._ask("begin_load", stage):
            raise FatalError(reason)
        try:
            self.actor = _load(make)
        except FatalError as error:
            if self._ask("fail_load", stage, error.code, error.message):
                raise
            # Ray does not replace an actor whose constructor raises, but it does replace one whose process
            # ends.
            time.sleep(_LOAD_PAUSE)
            exit_process(error)
        self._ask("finish_load", stage)

    def __call__(self, rows: list[Row]) -> list[Row]:
        """Return every row done, or failed because it crashes its process.

        Calls overlap, except those with suspect shards.

        Raises:
            FatalError: the run must end.
        """
        with self._lock.shared():
            if self._begin(rows).clear:
                return self._work(rows)
        with self._lock.exclusive():
            return self._work_one_by_one(rows)

    def _work_one_by_one(self, rows: list[Row]) -> list[Row]:
        verdict = self._begin(rows)
        if verdict.clear:
            return self._work(rows)
        done: dict[int, Row] = {}
        remaining = [i for i, row in enumerate(rows) if row[ID] not in verdict.given_up]
        # Rows that are known to be harmless go first, in one batch, so that the next crash does not repeat
        # them.
        harmless = [
            i
            for i in remaining
            if not verdict.isolated or rows[i][ID] in verdict.cleared or not rows[i]["segments"]
        ]
        for group in [harmless, *([i] for i in remaining if i not in harmless)]:
            done |= zip(group, self._work_one_by_one([rows[i] for i in group]) if group else [], strict=True)
        for i in set(range(len(rows))) - done.keys():
            code, message = verdict.given_up[rows[i][ID]]
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
        except FatalError as error:
            # A fatal error of a model call ends the process. This one is a model that is loaded late and
            # cannot be.
            self._ask("stop_run", error.message)
            raise
        except ImportError as error:  # so would every call
            reason = f"{type(error).__name__}: {error}"
            self._ask("stop_run", reason)
            raise FatalError(reason) from error
        except Exception as error:  # a defect of this program: it costs only the row that shows it
            log.exception("the stage %s failed with %d rows", self.stage, len(rows))
            if len(rows) > 1:
                return [done for row in rows for done in self._work([row])]
            code, message = as_row_error(error)
            done = [self._failed(rows[0], code, message)]
        if ids := _shards_with_speech(rows):
            self.supervisor.finish.remote(self.stage, ids)
        return done

    def _begin(self, rows: list[Row]) -> Verdict:
        ids = _shards_with_speech(rows)
        verdict = self._ask("begin", self.stage, ids, self.process, self.tries) if ids else None
        verdict = verdict or Verdict(None, {}, False, set())
        if verdict.stop:
            raise FatalError(verdict.stop)
        return verdict

    def _report_exit(self, error: FatalError) -> None:
        self.before_end()
        code = "model_timeout" if error.code == "model_timeout" else "worker_lost"
        self._ask("record_exit_reason", self.process, code, error.message)

    def _ask(self, method: str, *arguments: Any) -> Any:
        import ray

        try:
            return ray.get(getattr(self.supervisor, method).remote(*arguments), timeout=ANSWER_TIMEOUT)
        except ray.exceptions.RayError:
            # Without a supervisor there are no suspects. The bounded retries and the second pass still hold.
            log.warning("the supervisor does not answer", exc_info=True)
            return None


def _load(make: Callable[[], Actor]) -> Actor:
    """`make()`; a module that cannot be imported is a FatalError, like a model that cannot be loaded."""
    try:
        return make()
    except ImportError as error:
        raise FatalError(f"{type(error).__name__}: {error}") from error


def _shards_with_speech(rows: list[Row]) -> list[str]:
    """Ids of the shards that the model will get segments of."""
    return [row[ID] for row in rows if row["segments"]]
