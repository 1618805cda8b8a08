"""Tracks which process holds which shard, so that a shard that crashes its worker can be isolated.

A process that crashes loses its state, so it registers its shards with the supervisor before it works on
them. The supervisor is a Ray actor on the driver's node and outlives the process. Ray gives the crashed
process's table to the next process, which asks the supervisor first and then works on the suspect shards one
at a time. A shard that has crashed its process too often is not tried again: it becomes an error row. The
other shards of its table are done, and no other table is affected.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from actors.errors import FatalError
from pipelines.supervision.losses import ANSWER_TIMEOUT, sum_by_name
from pipelines.supervision.model_costs import CostRecorder
from pipelines.supervision.repair_budget import RepairLedger

# Crashes in a row without one finished shard, plus two for each replica: after that the shards are not the
# cause. A node that goes takes all of its replicas with it, and a table may begin with some shards that
# crash.
MAX_CRASHES_IN_A_ROW = 20
# Attempts to load a model without one success in between, plus one for each replica.
MAX_LOADS = 6

Key = tuple[str, str]  # stage, shard id


@dataclass
class Counter:
    """Counts shards as they leave the last stage. Runs as a Ray actor, because stages run in many processes.

    Attributes:
        recordings: recordings that are finished.
        failed: those of them with a failed shard.
        seconds: audio seconds that are finished.
        unfinished: by recording with shards still to come: [shards done, whether any failed].
    """

    recordings: int = 0
    failed: int = 0
    seconds: float = 0.0
    unfinished: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, shards: Sequence[tuple[str, int, float, bool]]) -> None:
        """Count `(recording_id, shard_count, seconds, failed)` of finished shards."""
        for recording_id, shard_count, seconds, failed in shards:
            self.seconds += seconds
            state = self.unfinished.setdefault(recording_id, [0, False])
            state[0], state[1] = state[0] + 1, state[1] or failed
            if state[0] >= shard_count:
                del self.unfinished[recording_id]
                self.recordings += 1
                self.failed += state[1]

    def read(self) -> tuple[int, int, float]:
        """Finished recordings, those of them with a failed shard, finished audio seconds."""
        return self.recordings, self.failed, self.seconds


@dataclass
class SuspectShard:
    """A shard that was in flight when its process crashed."""

    crashes: int = 0
    isolated: int = 0  # crashes with no other shard in flight in that process
    cleared: bool = False  # has been finished since
    code: str = "worker_lost"
    last_words: str = ""  # of the last crashed process, if it could still say something


class Verdict(NamedTuple):
    """What a process may do with the shards that it was given."""

    stop: str | None  # why the run must end; None: go on
    given_up: dict[str, tuple[str, str]]  # shards not to be tried again: code and message of each
    isolated: bool  # whether the other shards must be worked on one at a time ...
    cleared: set[str]  # ... except for these, which may be worked on in one batch

    @property
    def clear(self) -> bool:
        """Whether all shards may be worked on in one batch; only then are they registered as in flight."""
        return not (self.stop or self.given_up or self.isolated)


@dataclass
class Supervisor(Counter, CostRecorder, RepairLedger):
    """Progress and crashes of one pass. Runs as a Ray actor that all replicas of the models call.

    Attributes:
        in_flight: by stage and shard: the process that holds it, and whether it holds no other shard.
        suspects: shards that were in flight when a process crashed.
        exit_reasons: by process: the code and message that it sent before it ended.
        crashed: processes that crashed with shards in flight.
        crashes_in_a_row: by stage: crashes since it last finished a shard.
        loaded_stages: stages whose model has been loaded at least once.
        loads: by stage: attempts to load the model since the last success.
        repeated_shards: shards that were registered again after a crash.
        usage_by_process: what each process has asked of a server.
        heartbeats: signs of life so far.
        stop: why the run must end, if it must.
        replicas: of all stages.
    """

    in_flight: dict[Key, tuple[str, bool]] = field(default_factory=dict)
    suspects: dict[Key, SuspectShard] = field(default_factory=dict)
    exit_reasons: dict[str, tuple[str, str]] = field(default_factory=dict)
    crashed: set[str] = field(default_factory=set)
    crashes_in_a_row: dict[str, int] = field(default_factory=dict)
    loaded_stages: set[str] = field(default_factory=set)
    loads: dict[str, int] = field(default_factory=dict)
    repeated_shards: int = 0
    usage_by_process: dict[str, dict[str, float]] = field(default_factory=dict)
    heartbeats: int = 0
    stop: str | None = None
    replicas: int = 1

    def begin(self, stage: str, ids: Sequence[str], process: str, tries: int) -> Verdict:
        """Ask what to do with shards, and register them as in flight if the verdict is clear.

        Args:
            stage: of the process.
            ids: the shards that it was given.
            process: its unique name.
            tries: how often a shard may crash a process.
        """
        self.heartbeats += 1
        self._blame(stage, ids, process)
        known = {shard: self.suspects[stage, shard] for shard in ids if (stage, shard) in self.suspects}
        given_up = {
            shard: (suspect.code, _crash_message(stage, suspect))
            for shard, suspect in known.items()
            if suspect.crashes >= tries and suspect.isolated
        }
        cleared = {shard for shard, suspect in known.items() if suspect.cleared}
        verdict = Verdict(self.stop, given_up, len(ids) > 1 and len(known) > len(cleared), cleared)
        if verdict.clear:
            self.repeated_shards += len(known)
            self._register(stage, ids, process)
        return verdict

    def finish(self, stage: str, ids: Sequence[str]) -> None:
        """Shards in flight are finished."""
        self.heartbeats += 1
        self.crashes_in_a_row[stage] = 0
        for shard in ids:
            self.in_flight.pop((stage, shard), None)
            if suspect := self.suspects.get((stage, shard)):
                suspect.cleared = True

    def record_exit_reason(self, process: str, code: str, message: str) -> None:
        """A process says why it is about to end."""
        self.exit_reasons[process] = (code, message)

    def begin_load(self, stage: str) -> str | None:
        """A process begins to load its model; returns why the run must end, if it must."""
        self.heartbeats += 1
        self.loads[stage] = self.loads.get(stage, 0) + 1
        if self.loads[stage] > MAX_LOADS + self.replicas:
            self.stop_run(
                f"the model of the stage `{stage}` could not be loaded: all of {MAX_LOADS + self.replicas} "
                "processes that tried crashed"
            )
        return self.stop

    def finish_load(self, stage: str) -> None:
        """A process of a stage has loaded its model."""
        self.heartbeats += 1
        self.loaded_stages.add(stage)
        self.loads[stage] = 0

    def fail_load(self, stage: str, code: str, message: str) -> str | None:
        """A process cannot load its model; returns why the run must end, if it must.

        The run ends at once, unless other processes of the stage have loaded the model or the error may be
        transient: a device without room (device_out_of_memory), or a hub that does not answer
        (storage_unavailable).
        """
        attempts = self.loads.get(stage, 0)
        transient = code in ("device_out_of_memory", "storage_unavailable")
        if attempts >= MAX_LOADS + self.replicas or not (transient or stage in self.loaded_stages):
            self.stop_run(message)
        return self.stop

    def add(self, shards: Sequence[tuple[str, int, float, bool]]) -> None:
        """See `Counter.add`."""
        self.heartbeats += 1
        super().add(shards)

    def beat(self) -> None:
        """A process is alive: it begins a model call, or has decoded a shard."""
        self.heartbeats += 1

    def liveness(self) -> tuple[int, str | None]:
        """Signs of life so far, and why the run must end, if it must."""
        return self.heartbeats, self.stop

    def stop_run(self, reason: str) -> None:
        """The run must end; the first reason counts."""
        self.stop = self.stop or reason

    def stop_reason(self) -> str | None:
        """Why the run must end."""
        return self.stop

    def record_usage(self, process: str, usage: dict[str, float]) -> None:
        """What a process has asked of a server since it began, by name."""
        self.usage_by_process[process] = usage

    def usage(self) -> dict[str, float]:
        """What all processes have asked of servers, by name."""
        return sum_by_name(self.usage_by_process.values())

    def losses(self) -> tuple[int, int]:
        """Processes that crashed with shards in flight, and shards registered again because of it."""
        return len(self.crashed), self.repeated_shards

    def failure_reasons(self) -> dict[str, tuple[str, str, str]]:
        """Stage, code and message of each shard that is a suspect or still in flight, by shard id."""
        in_flight = {
            shard: (stage, "worker_lost", _crash_message(stage, SuspectShard(crashes=1)))
            for stage, shard in self.in_flight
        }
        suspects = {
            shard: (stage, suspect.code, _crash_message(stage, suspect))
            for (stage, shard), suspect in self.suspects.items()
            if not suspect.cleared
        }
        return {**in_flight, **suspects}

    def _register(self, stage: str, ids: Sequence[str], process: str) -> None:
        """Shards are in flight; those of other calls of the same process are no longer isolated."""
        others = [key for key, (owner, _) in self.in_flight.items() if owner == process and key[1] not in ids]
        for key in others:
            self.in_flight[key] = (process, False)
        for shard in ids:
            self.in_flight[stage, shard] = (process, len(ids) == 1 and not others)

    def _blame(self, stage: str, ids: Sequence[str], process: str) -> None:
        """Make suspects of shards that another process, which must have crashed, had in flight."""
        for shard in ids:
            owner, isolated = self.in_flight.get((stage, shard), (process, False))
            if owner == process:
                continue
            del self.in_flight[stage, shard]
            suspect = self.suspects.setdefault((stage, shard), SuspectShard())
            suspect.crashes += 1
            suspect.isolated += isolated
            suspect.cleared = False
            suspect.code, suspect.last_words = self.exit_reasons.get(owner, ("worker_lost", ""))
            if owner not in self.crashed:
                self.crashed.add(owner)
                self._count_crash(stage, shard, suspect.last_words)

    def _count_crash(self, stage: str, shard: str, last_words: str) -> None:
        # A retried dead letter has a dot in its id. It may well crash again, and is tried no more often than
        # others.
        if "." in shard:
            return
        self.crashes_in_a_row[stage] = self.crashes_in_a_row.get(stage, 0) + 1
        if self.crashes_in_a_row[stage] >= (limit := MAX_CRASHES_IN_A_ROW + 2 * self.replicas):
            cause = f"; the last one said: {last_words}" if last_words else ", and none of them could say why"
            self.stop_run(
                f"{limit} processes of the stage `{stage}` crashed in a row, without one finished shard in "
                f"between{cause}"
            )


@contextmanager
def running_supervisor(replicas: int, begun: dict[str, int], **options: Any) -> Iterator[Any]:
    """Run a supervisor for the pass inside a `with` block; yields its Ray handle.

    Args:
        replicas: of all models.
        begun: by recording with shards still to do: how many of its shards were done before.
        options: of the Ray actor.

    Raises:
        FatalError: the supervisor has stopped the run, whatever error Ray raised.
    """
    import ray

    unfinished = {recording: [done, False] for recording, done in begun.items()}
    supervisor: Any = (
        ray.remote(Supervisor).options(**options).remote(replicas=replicas, unfinished=unfinished)
    )
    try:
        yield supervisor
    except Exception as error:
        if reason := _stop_reason(supervisor):
            raise FatalError(reason) from error
        raise
    if reason := _stop_reason(supervisor):
        raise FatalError(reason)


def _stop_reason(supervisor: Any) -> str | None:
    import ray

    try:
        reason: str | None = ray.get(supervisor.stop_reason.remote(), timeout=ANSWER_TIMEOUT)
        return reason
    except ray.exceptions.RayError:
        return None


def _crash_message(stage: str, suspect: SuspectShard) -> str:
    cause = (
        suspect.last_words
        or "it left no message, as after a segmentation fault or a kill -9 (by the kernel if memory ran out)"
    )
    times = "once" if suspect.crashes == 1 else f"{suspect.crashes} times"
    return (
        f"the process of the stage `{stage}` crashed {times} while it held this shard, "
        f"{suspect.isolated} of them with no other shard: {cause}"
    )
