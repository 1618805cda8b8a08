"""The lease admits one driver at a time to an output directory, on a file system and on S3."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from pipelines.output import lease as leases
from pipelines.output import lease_holder
from pipelines.storage import files


def test_a_second_driver_is_refused_with_the_name_of_the_first(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    first = leases.acquire(out, "transcribe")
    with pytest.raises(
        leases.LeaseError,
        match=rf"`scriptorium transcribe` \(process {os.getpid()} on .*, since 20.*at work on {out}",
    ):
        leases.acquire(out, "retry")
    first.release()
    assert not (tmp_path / "out/lease.json").exists()
    leases.acquire(out, "retry").release()


def test_a_killed_process_leaves_a_lease_that_is_taken_over_at_once(tmp_path: Path) -> None:
    out = str(tmp_path)
    program = (
        "from pipelines.output import lease as leases; import time; "
        f"leases.acquire({out!r}, 'transcribe'); print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    with pytest.raises(leases.LeaseError, match=f"process {holder.pid} "):
        leases.acquire(out, "transcribe")
    holder.kill()
    holder.wait()
    holder.stdout.close()
    leases.acquire(out, "transcribe").release()


@pytest.mark.usefixtures("short_lives")
def test_a_holder_on_another_machine_is_alive_as_long_as_it_renews(tmp_path: Path) -> None:
    # A lock that only holds within one machine: the file is free here, but a holder elsewhere keeps renewing
    # it.
    path = tmp_path / "lease.json"
    facts = {
        "holder": "x",
        "host": "elsewhere",
        "pid": 1,
        "since": "s",
        "renewed_at": "1970-01-01T00:00:00+00:00",
        "beat": 0,
        "command": "c",
    }
    path.write_text(json.dumps(facts))
    over = threading.Event()

    def renew() -> None:
        while not over.wait(0.2):
            facts["beat"] = int(str(facts["beat"])) + 1
            files.write_atomic(str(path), json.dumps(facts).encode())

    holder = threading.Thread(target=renew)
    holder.start()
    with pytest.raises(leases.LeaseError, match="process 1 on elsewhere"):
        leases.acquire(str(tmp_path), "transcribe")
    over.set()
    holder.join()
    leases.acquire(str(tmp_path), "transcribe").release()


@pytest.mark.usefixtures("short_lives")
def test_a_lost_lease_stops_its_driver_and_stays_with_the_new_one(tmp_path: Path) -> None:
    out, lost = str(tmp_path), threading.Event()
    with (
        pytest.raises(leases.LeaseError, match=r"stopped, because .* was removed or replaced"),
        leases.hold(out, "transcribe", lost.set),
    ):
        (tmp_path / "lease.json").unlink()
        theirs = leases.acquire(out, "transcribe")
        assert lost.wait(10)
        raise KeyboardInterrupt
    assert (leases.read(out) or {})["holder"] == theirs.facts["holder"]
    theirs.release()


@pytest.mark.usefixtures("short_lives")
def test_without_locks_one_of_two_drivers_that_start_at_once_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    # A disk may be slow; a living holder renews long before.
    monkeypatch.setattr(leases, "LIFE_SECONDS", 60.0)
    out, both_ready, write = str(tmp_path), threading.Barrier(2), leases._write_handle
    at_work, refused, over = [], [], threading.Event()
    first = threading.local()

    def both_then_write(handle: int, facts: dict[str, Any]) -> None:
        if facts["beat"] == 0 and not hasattr(first, "done"):
            first.done = both_ready.wait(60)  # both have seen that there is no lease
        write(handle, facts)

    def drive(name: str) -> None:
        try:
            with leases.hold(out, name, lambda: None):
                at_work.append(name)
                over.wait(60)
        except leases.LeaseError as error:
            refused.append(error.message)
            over.set()

    monkeypatch.setattr(leases, "_write_handle", both_then_write)
    drivers = [threading.Thread(target=drive, args=(name,)) for name in ("one", "other")]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
    assert len(at_work) == len(refused) == 1 and f"`scriptorium {at_work[0]}`" in refused[0]
    assert list(tmp_path.iterdir()) == []


def test_a_lease_that_another_driver_wrote_into_belongs_to_it(tmp_path: Path) -> None:
    lease = leases.acquire(str(tmp_path), "transcribe")
    theirs = json.dumps({**lease.facts, "holder": "x", "host": "elsewhere"})
    (tmp_path / "lease.json").write_text(theirs)
    with pytest.raises(leases.LeaseError, match=r"on elsewhere, .* has taken over"):
        lease.renew()
    lease.release()
    assert (tmp_path / "lease.json").read_text() == theirs


def test_a_restarted_container_does_not_wait_for_the_lease_of_its_predecessor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its host name is different, but the kernel, which released the lock, is the same."""
    monkeypatch.setattr(leases, "LIFE_SECONDS", 1e6)
    facts = {
        "holder": "x",
        "host": "3f2a",
        "pid": 1,
        "since": "s",
        "renewed_at": "2026-01-01T00:00:00+00:00",
        "beat": 0,
        "command": "c",
    }
    (tmp_path / "lease.json").write_text(
        json.dumps({**facts, "kernel": lease_holder.boot_id(), "pids": "another container"})
    )
    leases.acquire(str(tmp_path), "transcribe").release()


@pytest.mark.usefixtures("short_lives")
@pytest.mark.parametrize(
    "kernel",
    [{}, {"kernel": "another machine's", "pids": "there"}],
    ids=["older version", "this version"],
)
def test_a_holder_on_another_machine_with_the_same_host_name_is_watched(
    tmp_path: Path, kernel: dict[str, str]
) -> None:
    """A restarted pod has the name of its predecessor on another node, which may be alive with its lock."""
    left = leases.acquire(str(tmp_path), "transcribe")
    facts = {name: value for name, value in left.facts.items() if name not in ("kernel", "pids")} | kernel
    left.release()
    path, over = tmp_path / "lease.json", threading.Event()
    path.write_text(json.dumps(facts))

    def renew() -> None:
        while not over.wait(0.2):
            facts["beat"] += 1
            files.write_atomic(str(path), json.dumps(facts).encode())

    holder = threading.Thread(target=renew)
    holder.start()
    try:
        with pytest.raises(leases.LeaseError, match=f"on {socket.gethostname()}, .*at work on"):
            leases.acquire(str(tmp_path), "transcribe")
    finally:
        over.set()
        holder.join()
    # A rebooted machine also gets here: it waits until its own earlier lease is stale.
    leases.acquire(str(tmp_path), "transcribe").release()
