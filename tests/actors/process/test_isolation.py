"""A child process that crashes, hangs or eats memory costs one call."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from actors.errors import RowError
from actors.process.isolation import Child, ChildClosed
from actors.process.limits import MAX_FILE_BYTES


@pytest.fixture(scope="module")
def child():
    child = Child(max_memory=1)
    yield child
    child.close()


def has_ended(pid):
    """Whether a process has ended; waits for it as long as a busy machine may need."""
    for _ in range(600):
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().split(") ")[1][0] == "Z":
                    return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def test_a_time_limit_may_exceed_what_poll_can_count(child):
    assert child.call("operator:add", 2, 3, timeout=1e12) == 5


def test_a_child_returns_results_and_errors_and_goes_on(child):
    assert child.call("operator:add", 2, 3, timeout=60) == 5
    pid = child.pid
    big = os.urandom(1 << 20) * 20
    assert child.call("operator:concat", big, b"x", timeout=60) == big + b"x"
    with pytest.raises(ZeroDivisionError):
        child.call("operator:truediv", 1, 0, timeout=60)
    assert child.call("os:getpid", timeout=60) == pid
    assert child.pid == pid
    assert pid != os.getpid()


@pytest.mark.parametrize(
    ("function", "arguments"), [("os:abort", ()), ("os:_exit", (3,)), ("ctypes:string_at", (0,))]
)
def test_a_crash_costs_one_call(child, function, arguments):
    with pytest.raises(RowError) as error:
        child.call(function, *arguments, timeout=60)
    assert error.value.code == "decoder_crashed"
    assert "signal" in error.value.message or "exit code 3" in error.value.message
    assert child.call("operator:add", 1, 1, timeout=60) == 2


def test_a_call_that_hangs_ends_in_time_and_its_process_too(child):
    pid = child.call("os:getpid", timeout=60)
    with pytest.raises(RowError) as error:
        child.call("time:sleep", 3600, timeout=0.2)
    assert error.value.code == "decode_timeout"
    assert has_ended(pid)
    assert child.call("operator:add", 1, 1, timeout=60) == 2


def test_close_ends_a_call_that_another_thread_waits_for():
    child, pids_after = Child(max_memory=1), []
    pid = child.call("os:getpid", timeout=60)

    def wait():
        with pytest.raises(ChildClosed):
            child.call("time:sleep", 3600, timeout=3600)
        pids_after.append(child.pid)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    while not child._lock.locked():
        time.sleep(0.01)
    child.close()
    thread.join(60)
    assert pids_after == [None]
    assert has_ended(pid)
    with pytest.raises(ChildClosed):
        child.call("operator:add", 1, 1, timeout=60)


def test_memory_is_limited(child):
    with pytest.raises(RowError) as error:
        child.call("builtins:bytearray", 3 << 30, timeout=60)
    assert error.value.code == "decode_out_of_memory"
    assert child.call("builtins:len", b"abc", timeout=60) == 3


def test_the_size_of_files_is_limited(child, tmp_path):
    (tmp_path / "file").touch()
    assert child.call("os:truncate", str(tmp_path / "file"), MAX_FILE_BYTES, timeout=60) is None
    with pytest.raises(OSError) as error:
        child.call("os:truncate", str(tmp_path / "file"), MAX_FILE_BYTES + 1, timeout=60)
    assert error.value.errno == errno.EFBIG


def test_output_of_libraries_does_not_mix_with_messages(child):
    assert child.call("os:write", 1, b"noise on stdout\n", timeout=60) == 16
    assert child.call("builtins:print", "more", timeout=60) is None
    assert child.call("operator:add", 1, 1, timeout=60) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a child with its parent")
def test_a_child_dies_with_its_parent():
    code = (
        "from actors.process.isolation import Child\n"
        "child = Child(1)\n"
        "print(child.call('os:getpid', timeout=60), flush=True)\n"
        "child.call('time:sleep', 3600, timeout=3600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    pid = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    assert has_ended(pid)
