"""OUT/lease.json: who is at work on an output directory. A second driver is refused; a lease whose holder died is taken over.

Ray Data would not notice a second driver: at its start it deletes what the first has in flight. So whoever writes to OUT holds its lease.

On a file system the lease is also locked (`flock`): the kernel gives the lock back when the holder dies, however it dies, so the next command goes
on at once. Where a file system has no locks, of two that write one finds the other's name when it looks again. Object stores have no locks, but
conditional writes (`If-None-Match`, `If-Match` in S3), of which one of two wins; a holder renews its lease every few seconds, and one that has not
been renewed for `LIFE_SECONDS` is stale. Clocks of two machines differ, so nobody is taken for dead by a time stamp alone: the lease must also stay
as it is while it is being watched.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from actors.errors import ScriptoriumError, StorageError
from pipelines.output import lease_holder
from pipelines.storage import conditional_writes, files
from pipelines.storage.filesystems import call_store

RENEW_SECONDS = 10.0
LIFE_SECONDS = 40.0
SETTLE_SECONDS = 1.0  # between writing and looking again, where there are no locks
ADOPTIONS = 3  # renewals of our own, with lost answers, that one renewal may come upon


class LeaseError(ScriptoriumError):
    """Another driver is at work on this output directory, or has taken it over."""


@dataclass
class Lease:
    """The lease that this process holds on `out`."""

    out: str
    facts: dict[str, Any]
    handle: int | None = None  # the locked file, on a file system
    etag: str | None = None  # of the object as we wrote it, in a store
    lost: str | None = None  # why it is not ours any more
    shown: float = (
        0.0  # the latest sign of life: when the last writing that went through began, by `time.monotonic`
    )
    trouble: str = "no answer"  # why it could not be renewed since
    _ended: threading.Event = field(default_factory=threading.Event)
    _handling: threading.Lock = field(
        default_factory=threading.Lock
    )  # a closed handle's number may be that of another file

    @property
    def uri(self) -> str:
        """Where the lease stands."""
        return _uri(self.out)

    def renew(self) -> None:
        """Write it once more.

        Raises:
            LeaseError: somebody else holds it.
        """
        began = time.monotonic()
        if self.handle is not None:
            with self._handling:
                self._renew_file()
        else:
            self._renew_object()
        self.shown = began

    def release(self) -> None:
        """Give it back; a lease that somebody else holds by now stays."""
        self._ended.set()
        if self.handle is None:
            if self.lost is None and self._is_ours(read(self.out)):
                files.remove(self.uri)
            return
        with self._handling:
            if self.lost is None and _same_file(self.handle, self.uri) and self._is_ours(read(self.out)):
                files.remove(self.uri)
            os.close(self.handle)
            self.handle = None

    def keep(self, on_lost: Callable[[], None]) -> None:
        """Renew until released; `on_lost` is called once somebody else has it, or it could not be renewed for so long that they may take it."""
        # Renewed elsewhere, watched here: a request may hang for longer than a lease lives.
        threading.Thread(target=self._renew_always, name="lease-renewal", daemon=True).start()
        while not self._ended.wait(min(1.0, RENEW_SECONDS / 5)):
            if self.lost is None and time.monotonic() - self.shown > LIFE_SECONDS - RENEW_SECONDS:
                self.lost = (
                    f"{self.uri} could not be renewed for {LIFE_SECONDS - RENEW_SECONDS:g} s: {self.trouble}"
                )
            if self.lost:
                on_lost()
                return

    def _renew_always(self) -> None:
        while not self._ended.wait(RENEW_SECONDS) and self.lost is None:
            try:
                self.renew()
                self.trouble = "no answer"
            except LeaseError as error:
                self.lost = error.message
            except Exception as error:
                self.trouble = str(error)

    def _renew_file(self) -> None:
        if self.handle is None:  # released by now
            return
        if not _same_file(self.handle, self.uri):
            raise LeaseError(f"{self.uri} was removed or replaced by somebody else")
        # A file system without locks let both of us write it.
        there = read(self.out)
        if there is not None and not self._is_ours(there):
            raise LeaseError(f"{lease_holder.described(there)} has taken over {self.out}")
        facts = self._next()
        _write_handle(self.handle, facts)
        self.facts = facts

    def _renew_object(self) -> None:
        for _ in range(ADOPTIONS + 1):
            facts = self._next()
            etag = conditional_writes.replace(
                self.uri, lease_holder.written(facts), lease_holder.written(self.facts), self.etag
            )
            if etag is not None:
                self.facts, self.etag = facts, etag
                return
            found = conditional_writes.read(self.uri)
            there = lease_holder.read(found[0]) if found else None
            if found is None or there is None or not self._is_ours(there):
                raise LeaseError(f"{lease_holder.described(there)} has taken over {self.out}")
            # An earlier renewal of ours that went through, though all its answers got lost.
            self.facts, self.etag = there, found[1]
        raise StorageError(f"{self.uri} changes all the time, and only this process writes it")

    def _is_ours(self, facts: dict[str, Any] | None) -> bool:
        return facts is not None and facts["holder"] == self.facts["holder"]

    def _next(self) -> dict[str, Any]:
        return {**self.facts, "beat": self.facts["beat"] + 1, "renewed_at": lease_holder.now()}


@contextmanager
def held(out: str, command: str, on_lost: Callable[[], None]) -> Iterator[Lease]:
    """Hold the lease on `out` while a `with` block runs.

    Args:
        out: the output directory.
        command: what is done there, for others to read.
        on_lost: raises KeyboardInterrupt in the block's thread; called from another thread when the lease is lost.

    Raises:
        LeaseError: another driver holds it, or took it over meanwhile.
    """
    lease = acquire(out, command)
    threading.Thread(target=lease.keep, args=(on_lost,), name="lease", daemon=True).start()
    try:
        yield lease
    except KeyboardInterrupt:
        if lease.lost:
            raise LeaseError(f"stopped, because {lease.lost}") from None
        raise
    finally:
        lease.release()


def acquire(out: str, command: str) -> Lease:
    """Take the lease on `out`, from a dead holder if need be.

    Raises:
        LeaseError: a living driver holds it; the message says who and since when.
    """
    lease = Lease(out, lease_holder.ours(command))
    if files.is_remote(out):
        _acquire_object(lease)
    else:
        call_store("write", lease.uri, lambda: _acquire_file(lease))
    return lease


def read(out: str) -> dict[str, Any] | None:
    """What the lease on `out` says; None where there is none, or none that can be read."""
    try:
        return lease_holder.read(files.read_bytes(_uri(out)))
    except FileNotFoundError:
        return None


def seems_alive(facts: dict[str, Any] | None) -> bool:
    """Whether the holder of a lease has shown a sign of life of late. For people: clocks may differ."""
    return facts is not None and lease_holder.age(facts) < LIFE_SECONDS


def _acquire_file(lease: Lease) -> None:
    path = lease.uri
    os.makedirs(os.path.dirname(path), exist_ok=True)
    while lease.handle is None:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            locked = _lock(handle, lease.out)
            if not _same_file(handle, path):  # removed by its holder between the two calls
                continue
            before = read(lease.out)
            # Without locks, or where they end at the machine as on some network file systems, only the sign of life tells.
            decided = locked and (before is None or lease_holder.locks_here(before, lease.facts))
            if before is not None and not decided and not lease_holder.died_here(before, lease.facts):
                _watch(lease.out, before)
            lease.shown = time.monotonic()
            _write_handle(handle, lease.facts)
            if not decided:
                time.sleep(SETTLE_SECONDS)
                if not lease._is_ours(read(lease.out)):  # somebody else wrote it at the same time
                    continue
            lease.handle = handle
        finally:
            if lease.handle is None:
                os.close(handle)


def _lock(handle: int, out: str) -> bool:
    """Lock a lease's file; False where the file system has no locks.

    Raises:
        LeaseError: another process has it locked.
    """
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _refusal(out, read(out)) from None
    except OSError:
        return False
    return True


def _acquire_object(lease: Lease) -> None:
    while lease.etag is None:
        found = conditional_writes.read(lease.uri)
        lease.shown = time.monotonic()
        if found is None:
            lease.etag = conditional_writes.create(lease.uri, lease_holder.written(lease.facts))
            continue
        before = lease_holder.read(found[0])
        if before is not None and not lease_holder.died_here(before, lease.facts):
            _watch(lease.out, before)
        lease.shown = time.monotonic()
        lease.etag = conditional_writes.replace(
            lease.uri, lease_holder.written(lease.facts), *found, settle=True
        )


def _watch(out: str, before: dict[str, Any]) -> None:
    """Wait until a lease may be called stale.

    Raises:
        LeaseError: its holder is alive.
    """
    # However old it says it is: a holder whose clock is behind goes on writing until it could not renew for nearly a life, by its own count.
    deadline = time.monotonic() + LIFE_SECONDS
    while time.monotonic() < deadline:
        time.sleep(min(1.0, RENEW_SECONDS / 5))
        now = read(out)
        if now is None:
            return
        if (now["holder"], now["beat"]) != (before["holder"], before["beat"]):
            raise _refusal(out, now)


def _write_handle(handle: int, facts: dict[str, Any]) -> None:
    data = lease_holder.written(facts)
    os.pwrite(handle, data, 0)
    os.ftruncate(handle, len(data))
    os.fsync(handle)  # on a network file system, others see it from here on


def _same_file(handle: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _refusal(out: str, facts: dict[str, Any] | None) -> LeaseError:
    return LeaseError(
        f"{lease_holder.described(facts)} is at work on {out}. Wait for it or end it, then give the same command again; `status` shows how far it is"
    )


def _uri(out: str) -> str:
    return files.join(out, "lease.json")
