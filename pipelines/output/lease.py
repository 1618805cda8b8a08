"""OUT/lease.json: which driver is at work on an output directory.

A second driver is refused. A lease whose holder has died is taken over. Ray Data would not notice a second
driver: at its start it deletes the uncommitted work of the first. So every process that writes to OUT holds
its lease.

On a file system the lease file is also locked (`flock`). The kernel releases the lock when the holder dies in
whatever way, so the next command goes on at once. On a file system without locks, two drivers that start at
once both write the file and read it back, and one of them finds the other's name. Object stores have no
locks, but conditional writes (`If-None-Match`, `If-Match` in S3), of which only one succeeds. A holder renews
its lease every few seconds; a lease that has not been renewed for `LIFE_SECONDS` is stale. The clocks of two
machines differ, so a time stamp alone proves nothing: the lease must also stay unchanged while it is watched.
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
# Seconds between the write and the read back, on file systems without locks.
SETTLE_SECONDS = 1.0
# How many earlier renewals of this process, whose responses were lost, one renewal may find in the store.
ADOPTIONS = 3


class LeaseError(ScriptoriumError):
    """Another driver is at work on the output directory, or has taken it over."""


@dataclass
class Lease:
    """The lease that this process holds on `out`."""

    out: str
    facts: dict[str, Any]
    handle: int | None = None  # on a file system: the locked file
    etag: str | None = None  # in an object store: the etag of the lease as this process wrote it
    lost: str | None = None  # why this process does not hold the lease any more
    last_renewed: float = 0.0  # when the last successful write began, by `time.monotonic`
    last_error: str = "no answer"  # why later renewals failed
    _released: threading.Event = field(default_factory=threading.Event)
    # Guards `handle`: once it is closed, its number may be that of another file.
    _handle_lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def uri(self) -> str:
        """Address of the lease file."""
        return _uri(self.out)

    def renew(self) -> None:
        """Write the lease again, with the current time.

        Raises:
            LeaseError: another driver holds it.
        """
        started = time.monotonic()
        if self.handle is not None:
            with self._handle_lock:
                self._renew_file()
        else:
            self._renew_object()
        self.last_renewed = started

    def release(self) -> None:
        """Delete the lease, unless another driver holds it by now."""
        self._released.set()
        if self.handle is None:
            if self.lost is None and self._is_ours(read(self.out)):
                files.remove(self.uri)
            return
        with self._handle_lock:
            if self.lost is None and _same_file(self.handle, self.uri) and self._is_ours(read(self.out)):
                files.remove(self.uri)
            os.close(self.handle)
            self.handle = None

    def renew_until_released(self, on_lost: Callable[[], None]) -> None:
        """Renew the lease until it is released or lost.

        Args:
            on_lost: called once if another driver holds the lease, or if it could not be renewed for so long
                that another driver may take it.
        """
        # Renewed in another thread than this one, which watches: a request may hang for longer than a lease
        # lives.
        threading.Thread(target=self._renew_periodically, name="lease-renewal", daemon=True).start()
        while not self._released.wait(min(1.0, RENEW_SECONDS / 5)):
            limit = LIFE_SECONDS - RENEW_SECONDS
            if self.lost is None and time.monotonic() - self.last_renewed > limit:
                self.lost = f"{self.uri} could not be renewed for {limit:g} s: {self.last_error}"
            if self.lost:
                on_lost()
                return

    def _renew_periodically(self) -> None:
        while not self._released.wait(RENEW_SECONDS) and self.lost is None:
            try:
                self.renew()
                self.last_error = "no answer"
            except LeaseError as error:
                self.lost = error.message
            except Exception as error:
                self.last_error = str(error)

    def _renew_file(self) -> None:
        if self.handle is None:  # already released
            return
        if not _same_file(self.handle, self.uri):
            raise LeaseError(f"{self.uri} was removed or replaced by another process")
        # On a file system without locks, two drivers may have written it.
        found = read(self.out)
        if found is not None and not self._is_ours(found):
            raise LeaseError(f"{lease_holder.describe(found)} has taken over {self.out}")
        facts = self._next()
        _write_handle(self.handle, facts)
        self.facts = facts

    def _renew_object(self) -> None:
        for _ in range(ADOPTIONS + 1):
            facts = self._next()
            etag = conditional_writes.replace(
                self.uri, lease_holder.encode(facts), lease_holder.encode(self.facts), self.etag
            )
            if etag is not None:
                self.facts, self.etag = facts, etag
                return
            found = conditional_writes.read(self.uri)
            current = lease_holder.decode(found[0]) if found else None
            if found is None or current is None or not self._is_ours(current):
                raise LeaseError(f"{lease_holder.describe(current)} has taken over {self.out}")
            # An earlier renewal by this process succeeded, but all its responses were lost.
            self.facts, self.etag = current, found[1]
        raise StorageError(f"{self.uri} keeps changing, although only this process writes it")

    def _is_ours(self, facts: dict[str, Any] | None) -> bool:
        return facts is not None and facts["holder"] == self.facts["holder"]

    def _next(self) -> dict[str, Any]:
        return {**self.facts, "beat": self.facts["beat"] + 1, "renewed_at": lease_holder.now()}


@contextmanager
def hold(out: str, command: str, on_lost: Callable[[], None]) -> Iterator[Lease]:
    """Hold the lease on `out` while a `with` block runs.

    Args:
        out: the output directory.
        command: the command that runs, shown to other drivers.
        on_lost: called from another thread when the lease is lost; it raises KeyboardInterrupt in the thread
            of the block.

    Raises:
        LeaseError: another driver holds the lease, or has taken it over in the meantime.
    """
    lease = acquire(out, command)
    threading.Thread(target=lease.renew_until_released, args=(on_lost,), name="lease", daemon=True).start()
    try:
        yield lease
    except KeyboardInterrupt:
        if lease.lost:
            raise LeaseError(f"stopped, because {lease.lost}") from None
        raise
    finally:
        lease.release()


def acquire(out: str, command: str) -> Lease:
    """Take the lease on `out`, if necessary from a dead holder.

    Raises:
        LeaseError: a living driver holds it; the message names it and its start.
    """
    lease = Lease(out, lease_holder.own_facts(command))
    if files.is_remote(out):
        _acquire_object(lease)
    else:
        call_store("write", lease.uri, lambda: _acquire_file(lease))
    return lease


def read(out: str) -> dict[str, Any] | None:
    """Read the facts of the lease on `out`; None if there is no lease, or none that can be parsed."""
    try:
        return lease_holder.decode(files.read_bytes(_uri(out)))
    except FileNotFoundError:
        return None


def seems_alive(facts: dict[str, Any] | None) -> bool:
    """Whether a lease was renewed recently. Only for display, because clocks may differ."""
    return facts is not None and lease_holder.age(facts) < LIFE_SECONDS


def _acquire_file(lease: Lease) -> None:
    path = lease.uri
    os.makedirs(os.path.dirname(path), exist_ok=True)
    while lease.handle is None:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            locked = _lock(handle, lease.out)
            # The holder may have removed the file between the two calls.
            if not _same_file(handle, path):
                continue
            before = read(lease.out)
            # Without locks, or where they only hold within one machine as on some network file systems, only
            # renewals show whether the holder is alive.
            decided = locked and (before is None or lease_holder.locks_here(before, lease.facts))
            if before is not None and not decided and not lease_holder.died_here(before, lease.facts):
                _wait_until_stale(lease.out, before)
            lease.last_renewed = time.monotonic()
            _write_handle(handle, lease.facts)
            if not decided:
                time.sleep(SETTLE_SECONDS)
                # Another driver may have written it at the same time.
                if not lease._is_ours(read(lease.out)):
                    continue
            lease.handle = handle
        finally:
            if lease.handle is None:
                os.close(handle)


def _lock(handle: int, out: str) -> bool:
    """Lock a lease file; False if the file system has no locks.

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
        lease.last_renewed = time.monotonic()
        if found is None:
            lease.etag = conditional_writes.create(lease.uri, lease_holder.encode(lease.facts))
            continue
        before = lease_holder.decode(found[0])
        if before is not None and not lease_holder.died_here(before, lease.facts):
            _wait_until_stale(lease.out, before)
        lease.last_renewed = time.monotonic()
        lease.etag = conditional_writes.replace(
            lease.uri, lease_holder.encode(lease.facts), *found, settle=True
        )


def _wait_until_stale(out: str, before: dict[str, Any]) -> None:
    """Wait until a lease is certainly stale.

    Raises:
        LeaseError: the lease was renewed, so its holder is alive.
    """
    # The age in the lease is not enough: a holder whose clock is slow goes on writing until it could not
    # renew for nearly LIFE_SECONDS by its own clock.
    deadline = time.monotonic() + LIFE_SECONDS
    while time.monotonic() < deadline:
        time.sleep(min(1.0, RENEW_SECONDS / 5))
        now = read(out)
        if now is None:
            return
        if (now["holder"], now["beat"]) != (before["holder"], before["beat"]):
            raise _refusal(out, now)


def _write_handle(handle: int, facts: dict[str, Any]) -> None:
    data = lease_holder.encode(facts)
    os.pwrite(handle, data, 0)
    os.ftruncate(handle, len(data))
    os.fsync(handle)  # makes it visible to others on a network file system


def _same_file(handle: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _refusal(out: str, facts: dict[str, Any] | None) -> LeaseError:
    return LeaseError(
        f"{lease_holder.describe(facts)} is at work on {out}. Wait for it or stop it, then run the same "
        f"command again; `scriptorium status {out}` shows its progress"
    )


def _uri(out: str) -> str:
    return files.join(out, "lease.json")
