"""The end of a run that another thread asks for, whatever signals its process ignores."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

# Both the thread that asks and the work that is stopped; what a parent ignores, its children ignore.
PROGRAM = """
import signal, threading, time
from pipelines.supervision import shutdown as stopping
signal.signal(signal.SIGINT, signal.default_int_handler)  # tests that run in the background ignore it
for number in {ignored}:
    signal.signal(number, signal.SIG_IGN)
try:
    with stopping.handled():
        threading.Thread(target=stopping.abort).start()
        time.sleep(50)
        print("went on writing")
except KeyboardInterrupt:
    print("stopped in order")
"""


@pytest.mark.parametrize(
    ("ignored", "code", "said", "told"),
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
def test_a_lost_lease_ends_the_run_also_where_signals_are_ignored(
    ignored: list[signal.Signals], code: int, said: str, told: str
) -> None:
    program = PROGRAM.format(ignored=[int(number) for number in ignored])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (code, said), done.stderr
    assert told in done.stderr


def test_without_handlers_of_ours_pythons_own_does_it() -> None:
    """A program of somebody else calls the job: Python's own handler stands for Ctrl-C."""
    program = PROGRAM.format(ignored=[]).replace("with stopping.handled():", "if True:")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "stopped in order\n"), done.stderr
