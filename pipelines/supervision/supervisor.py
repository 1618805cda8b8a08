"""Which shard was in whose hands when a process died: what isolates a shard that kills every process it is given to.

A process that dies takes what it knew with it, so it says what it takes in hand where that outlives it: here, in a Ray actor beside the
driver. Ray gives the dead process's table to the next one, which asks here first, and then works on the shards that are under suspicion
one at a time. One that has killed its process too often is not tried again: it becomes a row that says so. Its neighbours are done,
and no other table is touched.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from actors.errors import FatalError
from pipelines.execution.progress import Counter

# Processes that died in a row without one shard finished between them, beside two of each replica: then it is not the shards. A node takes
# all of its replicas with it, and a table may begin with some shards that kill.
HOPELESS = 20
LOADS = 6  # times that a model may have been begun to be loaded, beside once for each replica, without one success since
_PATIENCE = 60.0  # seconds that it may take to answer

Key = tuple[str, str]  # stage, shard id


@dataclass
class SuspectShard:
    """A shard that a dying process had in hand."""

    crashes: int = 0
    isolated: int = 0  # those of them with no other shard in hand
    proven: bool = False  # has been finished since
    code: str = "worker_lost"
    words: str = ""  # last ones of a process that could still say something


class Verdict(NamedTuple):
    """What a process may do with the shards that it was given."""

    stop: str | None  # nothing: the run is to end, for this reason
    dead: dict[str, tuple[str, str]]  # not these: code and message of each
    isolated: bool  # the others one at a time ...
    proven: set[str]  # ... but for these, which may be done together

    @property
    def clear(self) -> bool:
        """Whether all may be done together; then, and only then, they are noted as in hand."""
        return not (self.stop or self.dead or self.isolated)


@dataclass
class Supervisor(Counter):
    """Progress and suspicions of one pass. Runs as a Ray actor, called by all replicas of the models."""

    in_flight: dict[Key, tuple[str, bool]] = field(
        default_factory=dict
    )  # what is in hand: whose, and whether alone
    suspects: dict[Key, SuspectShard] = field(default_factory=dict)
    words: dict[str, tuple[str, str]] = field(default_factory=dict)  # code and message that a process left
    dead: set[str] = field(default_factory=set)  # processes
    in_a_row: dict[str, int] = field(
        default_factory=dict
    )  # deaths of a stage since it last finished something
    able: set[str] = field(default_factory=set)  # stages whose model could be loaded
    loads: dict[str, int] = field(default_factory=dict)  # begun by a stage since its last success
    again: int = 0  # shards taken in hand once more after a death
    spending: dict[str, dict[str, float]] = field(
        default_factory=dict
    )  # what each process has asked of a server
    signs: int = 0  # of life
    stop: str | None = None
    replicas: int = 1  # of all stages

    def begin(self, stage: str, ids: Sequence[str], process: str, tries: int) -> Verdict:
        """Ask for shards, and take them in hand if the verdict is clear.

        Args:
            stage: of the process.
            ids: the shards that it was given.
            process: a name of its own.
            tries: how often a shard may kill a process.
        """
        self.signs += 1
        self._charge(stage, ids, process)
        known = {shard: self.suspects[stage, shard] for shard in ids if (stage, shard) in self.suspects}
        dead = {
            shard: (one.code, _obituary(stage, one))
            for shard, one in known.items()
            if one.crashes >= tries and one.isolated
        }
        proven = {shard for shard, one in known.items() if one.proven}
        verdict = Verdict(self.stop, dead, len(ids) > 1 and len(known) > len(proven), proven)
        if verdict.clear:
            self.again += len(known)
            others = [
                key for key, (owner, _) in self.in_flight.items() if owner == process and key[1] not in ids
            ]
            for key in others:  # of another call of this process
                self.in_flight[key] = (process, False)
            for shard in ids:
                self.in_flight[stage, shard] = (process, len(ids) == 1 and not others)
        return verdict

    def end(self, stage: str, ids: Sequence[str]) -> None:
        """Shards in hand are finished."""
        self.signs += 1
        self.in_a_row[stage] = 0
        for shard in ids:
            self.in_flight.pop((stage, shard), None)
            if suspect := self.suspects.get((stage, shard)):
                suspect.proven = True

    def leave_words(self, process: str, code: str, message: str) -> None:
        """A process says why it is about to end."""
        self.words[process] = (code, message)

    def load(self, stage: str) -> str | None:
        """A process begins to load its model; why the run is to end, if it is."""
        self.signs += 1
        self.loads[stage] = self.loads.get(stage, 0) + 1
        if self.loads[stage] > LOADS + self.replicas:
            self.give_up(
                f"the model of the stage `{stage}` was begun to be loaded {LOADS + self.replicas} times, and no process lived to tell"
            )
        return self.stop

    def loaded(self, stage: str) -> None:
        """A process of a stage has its model."""
        self.signs += 1
        self.able.add(stage)
        self.loads[stage] = 0

    def cannot_load(self, stage: str, code: str, message: str) -> str | None:
        """A process cannot load its model; why the run is to end: at once, unless others could, or it may be better a moment later.

        That is so of a device without room (device_out_of_memory), and of a hub that does not answer (storage_unavailable).
        """
        begun, may_pass = self.loads.get(stage, 0), code in ("device_out_of_memory", "storage_unavailable")
        if begun >= LOADS + self.replicas or not (may_pass or stage in self.able):
            self.give_up(message)
        return self.stop

    def add(self, shards: Sequence[tuple[str, int, float, bool]]) -> None:
        """See `Counter.add`."""
        self.signs += 1
        super().add(shards)

    def beat(self) -> None:
        """Somebody is alive: begins a model call, or has decoded a shard."""
        self.signs += 1

    def alive(self) -> tuple[int, str | None]:
        """How many signs of life there were so far, and why the run is to end, if it is."""
        return self.signs, self.stop

    def give_up(self, reason: str) -> None:
        """The run is to end: the first reason counts."""
        self.stop = self.stop or reason

    def reason(self) -> str | None:
        """Why the run is to end."""
        return self.stop

    def spend(self, process: str, spent: dict[str, float]) -> None:
        """What a process has asked of a server since it began, by name."""
        self.spending[process] = spent

    def spent(self) -> dict[str, float]:
        """What all processes have asked of servers, by name."""
        return _sum(self.spending.values())

    def losses(self) -> tuple[int, int]:
        """Processes that died with shards in hand, and shards that were taken in hand again for it."""
        return len(self.dead), self.again

    def suspicions(self) -> dict[str, tuple[str, str, str]]:
        """Stage, code and message of each shard that a process died with, or that is still in hand, by shard id."""
        open_hands = {
            shard: (stage, "worker_lost", _obituary(stage, SuspectShard(crashes=1)))
            for stage, shard in self.in_flight
        }
        charged = {
            shard: (stage, one.code, _obituary(stage, one))
            for (stage, shard), one in self.suspects.items()
            if not one.proven
        }
        return {**open_hands, **charged}

    def _charge(self, stage: str, ids: Sequence[str], process: str) -> None:
        """Hold the deaths of other processes against the shards that they had in hand."""
        for shard in ids:
            owner, isolated = self.in_flight.get((stage, shard), (process, False))
            if owner == process:
                continue
            del self.in_flight[stage, shard]
            suspect = self.suspects.setdefault((stage, shard), SuspectShard())
            suspect.crashes, suspect.isolated, suspect.proven = (
                suspect.crashes + 1,
                suspect.isolated + isolated,
                False,
            )
            suspect.code, suspect.words = self.words.get(owner, ("worker_lost", ""))
            if owner not in self.dead:
                self.dead.add(owner)
                self._count_death(stage, shard, suspect.words)

    def _count_death(self, stage: str, shard: str, words: str) -> None:
        if (
            "." in shard
        ):  # a dead letter that is tried again: it may well do that, and is tried no more often than others
            return
        self.in_a_row[stage] = self.in_a_row.get(stage, 0) + 1
        if self.in_a_row[stage] >= (limit := HOPELESS + 2 * self.replicas):
            last = f"; the last one said: {words}" if words else " and none of them could say why"
            self.give_up(
                f"{limit} processes of the stage `{stage}` died in a row, without one shard finished in between{last}"
            )


@dataclass(frozen=True)
class PassLosses:
    """What a pass, or two one after the other, cost beside time: what died, and what was asked of servers."""

    processes: int = 0  # of the models, with shards in hand
    again: int = 0  # shards that a model was given once more for it
    reasons: dict[str, tuple[str, str, str]] = field(
        default_factory=dict
    )  # stage, code and message of shards that were not finished, by id
    spent: dict[str, float] = field(default_factory=dict)  # asked of recognition servers, by name
    tasks: int = 0  # that failed, and Ray let pass
    failure: str = ""  # of the last of them

    def explain(self, lost: Collection[str]) -> bool:
        """Whether so many shards, each alone in its task, can have been lost to what is known of."""
        return sum(shard not in self.reasons for shard in lost) <= self.tasks + self.processes

    def and_then(self, later: PassLosses) -> PassLosses:
        """Both passes together; what the later one knows of a shard counts."""
        spent = _sum((self.spent, later.spent))
        reasons = {**self.reasons, **later.reasons}
        tasks, failure = self.tasks + later.tasks, later.failure or self.failure
        return PassLosses(
            self.processes + later.processes, self.again + later.again, reasons, spent, tasks, failure
        )


@contextmanager
def kept(replicas: int, begun: dict[str, int], **options: Any) -> Iterator[Any]:
    """A ledger for the pass inside a `with` block: its handle.

    Args:
        replicas: of all models together.
        begun: shards that were done before, of recordings that have further ones to do.
        options: of the Ray actor.

    Raises:
        FatalError: some stage gave up, whatever Ray said about it.
    """
    import ray

    supervisor: Any = (
        ray.remote(Supervisor)
        .options(**options)
        .remote(replicas=replicas, open={recording: [done, False] for recording, done in begun.items()})
    )
    try:
        yield supervisor
    except Exception as error:
        if reason := _reason(supervisor):
            raise FatalError(reason) from error
        raise
    if reason := _reason(supervisor):
        raise FatalError(reason)


def losses_of(supervisor: Any, patience: float = _PATIENCE) -> PassLosses:
    """What a ledger knows, by its handle; nothing where it does not answer within so many seconds."""
    import ray

    try:
        asked = [supervisor.losses.remote(), supervisor.suspicions.remote(), supervisor.spent.remote()]
        (processes, again), reasons, spent = ray.get(asked, timeout=patience)
        return PassLosses(processes, again, reasons, spent)
    except ray.exceptions.RayError:
        return PassLosses()


def _sum(parts: Iterable[dict[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for part in parts:
        total |= {name: round(total.get(name, 0) + value, 3) for name, value in part.items()}
    return total


def _reason(supervisor: Any) -> str | None:
    import ray

    try:
        reason: str | None = ray.get(supervisor.reason.remote(), timeout=_PATIENCE)
        return reason
    except ray.exceptions.RayError:
        return None


def _obituary(stage: str, suspect: SuspectShard) -> str:
    words = (
        suspect.words
        or "no last words, as after a segmentation fault or a kill -9 (by the kernel, where memory ran out)"
    )
    times = "once" if suspect.crashes == 1 else f"{suspect.crashes} times"
    return f"the process of the stage `{stage}` died {times} with this shard in hand, {suspect.isolated} of them with no other: {words}"
