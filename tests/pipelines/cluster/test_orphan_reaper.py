"""Processes that a driver started do not outlive it for long."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.cluster import orphan_reaper

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")

# A driver with a child that only the reaper ends.
DRIVER = (
    "import os, subprocess, sys, time; from pipelines.cluster import orphan_reaper as reaper\n"
    "with reaper.reap_orphans():\n"
    "    sleep = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
    "    child = subprocess.Popen(sleep, start_new_session=True)\n"
    "    print(child.pid, os.environ[reaper.MARK], flush=True)\n"
    "    {end}\n"
)


def drive(end: str) -> tuple[subprocess.Popen[str], int, str]:
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER.format(end=end)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    child, mark = process.stdout.readline().split()
    return process, int(child), mark


def test_a_killed_drivers_children_are_ended() -> None:
    process, child, mark = drive("time.sleep(600)")
    while child not in orphan_reaper.marked(mark):  # its environment appears a moment after the process
        time.sleep(0.05)
    process.kill()
    process.wait()
    while orphan_reaper.marked(mark):  # the test's timeout is the limit
        time.sleep(0.1)


def test_a_process_that_a_killed_driver_was_starting_is_ended() -> None:
    """It has the driver's environment until it runs its own program, here a second after all others ended."""
    driver = (
        "import os, sys, time; from pipelines.cluster import orphan_reaper as reaper\n"
        "with reaper.reap_orphans():\n"
        "    mark = os.environ[reaper.MARK]\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        time.sleep(reaper.GRACE_SECONDS + 1)\n"
        "        os.execvpe('sleep', ['sleep', '600'], os.environ)\n"
        "    print(child, mark, flush=True)\n"
        "    time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", driver], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child, mark = process.stdout.readline().split()
    assert int(child) not in orphan_reaper.marked(mark)
    process.kill()
    process.wait()
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
        time.sleep(0.1)  # the test's timeout is the limit


def test_children_that_outlive_a_regular_end_are_ended() -> None:
    process, child, mark = drive("pass")
    assert process.wait(60) == 0
    assert child not in orphan_reaper.marked("another mark")
    while orphan_reaper.marked(mark):
        time.sleep(0.1)
