"""A run can be ended from another thread, whatever signals its process ignores."""

from __future__ import annotations

import signal
import subprocess
import sys

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
