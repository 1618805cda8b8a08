"""A run can be ended from another thread, whatever signals its process ignores."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

# Contains both the thread that ends the run and the work that is ended. Child processes inherit ignored
# signals.
PROGRAM = """
import signal, threading, time
from pipelines.supervision import shutdown
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that run in the background ignore it
for number in {ignored}:
    signal.signal(number, signal.SIG_IGN)
try:
    with shutdown.handle_signals():
        threading.Thread(target=shutdown.abort).start()
        time.sleep(50)
        print("went on writing")
except KeyboardInterrupt:
    print("stopped in order")
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("ignored", "code", "stdout", "message"),
    [
        ([], 0, "stopped in order\n", ""),
        ([signal.SIGINT], 0, "stopped in order\n", ""),
        ([signal.SIGINT, signal.SIGHUP], 0, "stopped in order\n", ""),
        (
            [signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
            1,
            "",
            "the lease is lost and no signal can stop this run",
        ),
    ],
    ids=["terminal", "background", "nohup in the background", "all ignored"],
)
def test_a_lost_lease_ends_the_run_even_if_signals_are_ignored(
    ignored: list[signal.Signals], code: int, stdout: str, message: str
) -> None:
    done = run(PROGRAM.format(ignored=[int(number) for number in ignored]))
    assert (done.returncode, done.stdout) == (code, stdout), done.stderr
    assert message in done.stderr


def test_pythons_own_handler_ends_the_run_without_ours() -> None:
    """Another program may call the job without `handle_signals`: Python's own handler of SIGINT ends it."""
    done = run(PROGRAM.format(ignored=[]).replace("with shutdown.handle_signals():", "if True:"))
    assert (done.returncode, done.stdout) == (0, "stopped in order\n"), done.stderr


# Says when a signal may come, and goes on until it was asked to by a line.
STEPS = """
import atexit, os, signal, sys, time
from pipelines.supervision import shutdown
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that run in the background ignore it
def signalled(place):
    print(f"{place}:", flush=True)
    sys.stdin.readline()
    time.sleep(0.01)
"""


def steps(program: str, signals: list[signal.Signals]) -> tuple[int, str, str]:
    """Run a program and send it these signals at each step; returns its exit code and what it said."""
    process = subprocess.Popen(
        [sys.executable, "-c", STEPS + program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin and process.stdout and process.stderr
    said = []
    for line in process.stdout:
        said.append(line.strip())
        if not line.endswith(":\n"):
            continue
        for number in signals:
            process.send_signal(number)
            time.sleep(0.1)
        try:
            process.stdin.write("\n")
            process.stdin.flush()
        except BrokenPipeError:
            break
    return process.wait(60), " ".join(said), process.stderr.read()


@pytest.mark.parametrize("signals", [[signal.SIGINT] * 3, [signal.SIGTERM], [signal.SIGHUP, signal.SIGINT]])
def test_a_signal_does_not_interrupt_the_stop_of_ray(signals: list[signal.Signals]) -> None:
    program = """
with shutdown.handle_signals():
    with shutdown.uninterrupted():
        signalled('stopping')
print('stopped')
"""
    assert steps(program, signals) == (0, "stopping: stopped", "")


def test_a_stop_of_ray_that_hangs_is_ended_by_a_signal() -> None:
    program = "shutdown.UNINTERRUPTED_SECONDS = -1\nwith shutdown.uninterrupted(): signalled('stopping')"
    code, said, errors = steps(program, [signal.SIGINT])
    assert (code, said, errors) == (1, "stopping:", "scriptorium: Ray does not stop; this process ends\n")


def test_after_the_command_a_signal_keeps_its_exit_code() -> None:
    program = "shutdown.leave(3)\nsignalled('over')\nprint('not reached', flush=True)"
    assert steps(program, [signal.SIGINT]) == (3, "over:", "")


def test_a_signal_while_the_interpreter_ends_keeps_the_exit_code() -> None:
    """Python has restored the system's handlers by then; destructors in modules run last."""
    program = """
class Late:
    def __del__(self, signalled=signalled):
        signalled('late')
atexit.register(shutdown.ignore_signals)
shutdown.leave(3)
sys.modules['late'] = Late()
sys.exit(3)
"""
    assert steps(program, [signal.SIGINT, signal.SIGTERM]) == (3, "late:", "")


def test_signals_that_were_ignored_at_the_start_stay_ignored() -> None:
    program = """
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with shutdown.handle_signals():
    signalled('running')
shutdown.leave(3)
signalled('over')
"""
    assert steps(program, [signal.SIGHUP]) == (0, "running: over:", "")
