"""The lease in object stores: conditional writes on S3, write and read back elsewhere."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from actors.errors import StorageError
from pipelines.output import lease as leases
from pipelines.output import lease_holder
from pipelines.storage import conditional_writes, files
from tests.faults.harness.proxy import Proxy, Rule


@pytest.fixture
def proxy(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy between this process and S3; it passes everything until it gets rules."""
    import s3fs

    with Proxy(os.environ["AWS_ENDPOINT_URL"], 20261123, stall=60.0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        s3fs.S3FileSystem.clear_instance_cache()
        yield proxy
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.usefixtures("short_lives")
def test_on_s3_a_living_holder_keeps_its_lease_and_a_dead_one_loses_it(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = f"{s3_bucket}/leased"
    with leases.hold(out, "transcribe", lambda: None) as first:
        before = first.facts["beat"]
        with pytest.raises(leases.LeaseError, match="at work on"):
            leases.acquire(out, "transcribe")
        # The second process is refused at once, which may be before the holder's next beat.
        deadline = time.monotonic() + 20
        while first.facts["beat"] == before and time.monotonic() < deadline:
            time.sleep(0.02)
        assert first.facts["beat"] > before
    assert leases.read(out) is None
    # Another machine that stopped without releasing its lease: the lease is watched, then replaced.
    # Its processes are not visible here; its host name may be the same as here.
    monkeypatch.setattr(lease_holder, "pid_namespace", lambda: "elsewhere")
    dead = leases.acquire(out, "transcribe")
    monkeypatch.undo()
    monkeypatch.setattr(leases, "LIFE_SECONDS", 1.0)
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.2)
    taken = leases.acquire(out, "transcribe")
    with pytest.raises(leases.LeaseError, match="has taken over"):
        dead.renew()
    dead.lost = "taken over"
    dead.release()
    assert (leases.read(out) or {})["holder"] == taken.facts["holder"]
    taken.release()


@pytest.mark.usefixtures("short_lives")
def test_on_s3_a_hanging_request_does_not_hide_that_the_lease_expires(s3_bucket: str, proxy: Proxy) -> None:
    lost = threading.Event()
    with (
        pytest.raises(leases.LeaseError, match=r"stopped, because .*lease\.json could not be renewed for"),
        leases.hold(f"{s3_bucket}/stalled", "transcribe", lost.set) as lease,
    ):
        proxy.rules = {"PUT .*lease": Rule(1.0, ("stall",))}
        assert lost.wait(20), "the lease was not lost while the store did not answer"
        assert lease.facts["beat"] == 0
        raise KeyboardInterrupt


def test_on_s3_a_renewal_whose_responses_were_all_lost_is_not_a_takeover(
    s3_bucket: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conditional_writes, "MORE_ATTEMPTS", 1)
    seconds = itertools.count()
    # No two renewals happen in the same second.
    monkeypatch.setattr(lease_holder, "now", lambda: f"2026-01-01T00:{next(seconds):02}:00+00:00")
    out = f"{s3_bucket}/lost-responses"
    lease = leases.acquire(out, "transcribe")
    proxy.rules = {"PUT .*lease": Rule(1.0, ("lost",))}
    with pytest.raises(StorageError, match="cannot write"):
        lease.renew()
    proxy.rules = {}
    assert (leases.read(out) or {})["beat"] == 1, "the first attempt should have succeeded"
    lease.renew()
    lease.renew()
    found = leases.read(out) or {}
    assert (found["holder"], found["beat"]) == (lease.facts["holder"], 3)
    files.write_atomic(lease.uri, json.dumps({**found, "holder": "x", "host": "elsewhere"}).encode())
    with pytest.raises(leases.LeaseError, match=r"on elsewhere, .* has taken over"):
        lease.renew()


def test_on_s3_the_lease_of_a_dead_local_process_is_taken_at_once(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = f"{s3_bucket}/local-death"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = leases.acquire(out, "transcribe")
    facts = {**left.facts, "pid": gone.pid}
    files.write_atomic(f"{out}/lease.json", json.dumps(facts).encode())
    monkeypatch.setattr(leases, "LIFE_SECONDS", 1e6)  # waiting until it expires would time out
    leases.acquire(out, "transcribe").release()


@pytest.mark.usefixtures("short_lives")
def test_on_s3_a_process_in_another_container_with_the_same_host_name_is_not_taken_for_dead(
    s3_bucket: str,
) -> None:
    """Containers with the same host name number their own processes: 7 of one is unknown in the other."""
    out = f"{s3_bucket}/containers"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with pytest.MonkeyPatch.context() as there:
        there.setattr(lease_holder, "pid_namespace", lambda: "another container")
        there.setattr("os.getpid", lambda: gone.pid)
        other = leases.hold(out, "transcribe", lambda: None)
        other.__enter__()
    with contextlib.ExitStack() as stack:
        stack.push(other)
        with pytest.raises(leases.LeaseError, match=f"process {gone.pid} on {socket.gethostname()}"):
            leases.acquire(out, "transcribe")


def test_on_s3_one_of_many_writers_wins(s3_bucket: str) -> None:
    uri, answers = f"{s3_bucket}/contended.json", []
    threads = [
        threading.Thread(target=lambda n=n: answers.append(conditional_writes.create(uri, b"%d" % n)))
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(answer is not None for answer in answers) == 1
    found = conditional_writes.read(uri)
    assert found is not None
    assert conditional_writes.replace(uri, b"new", *found)
    assert conditional_writes.replace(uri, b"late", *found) is None
    assert files.read_bytes(uri) == b"new"


@pytest.mark.parametrize("store", ["memory://conditional"])
def test_a_write_to_a_store_without_conditional_writes_is_read_back(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conditional_writes, "SETTLE_SECONDS", 0.01)
    uri = f"{store}/lease.json"
    assert conditional_writes.create(uri, b"a") is not None
    assert conditional_writes.create(uri, b"b") is None
    assert conditional_writes.replace(uri, b"c", b"a", None) is not None
    assert conditional_writes.replace(uri, b"d", b"a", None) is None
    assert files.read_bytes(uri) == b"c"


def test_one_of_two_takeovers_at_once_wins_in_a_store_without_conditional_writes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conditional_writes, "SETTLE_SECONDS", 0.5)
    uri = "memory://contended/lease.json"
    files.write_atomic(uri, b"dead")
    both_ready, write, answers = threading.Barrier(2), files.write_atomic, []

    def both_then_write(uri: str, data: bytes) -> None:
        both_ready.wait(10)  # both have read the old content
        time.sleep(0.1 * int(data))
        write(uri, data)

    monkeypatch.setattr(files, "write_atomic", both_then_write)
    threads = [
        threading.Thread(
            target=lambda n=n: answers.append(
                conditional_writes.replace(uri, b"%d" % n, b"dead", None, settle=True)
            )
        )
        for n in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(answer is not None for answer in answers) == 1
