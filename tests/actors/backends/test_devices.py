"""What processes of one machine do for each other: one begins on a card at a time, and none leaves an engine behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from actors.backends import cards

HOLDER = """
import sys, time
from actors.backends import cards
with cards.to_itself(True):
    print("held", flush=True)
    time.sleep(60)
"""
PARENT = """
import multiprocessing, time, sys
from actors.backends.vllm.child_processes import Reaper

if __name__ == "__main__":
    reaper = Reaper()
    with reaper.watching():
        child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
        child.start()
        time.sleep(0.5)  # the engine is still starting
        print(child.pid, flush=True)
        time.sleep(60)
"""


def started(code: str, file: Path, **variables: str) -> subprocess.Popen[str]:
    file.write_text(code)
    environment = {**os.environ, **variables, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, file], env=environment, stdout=subprocess.PIPE, text=True)


def test_one_model_begins_on_a_card_at_a_time_and_the_dead_hold_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    waiters: dict[str, subprocess.Popen[str]] = {}
    holder = started(HOLDER, tmp_path / "holder.py", CUDA_VISIBLE_DEVICES="1,0", TMPDIR=str(tmp_path))
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        waiters = {
            card: started(HOLDER, tmp_path / "waiter.py", CUDA_VISIBLE_DEVICES=card, TMPDIR=str(tmp_path))
            for card in "02"
        }
        assert waiters["2"].stdout is not None and waiters["2"].stdout.readline() == "held\n"
        waiting = waiters["0"].stdout
        assert waiting is not None and not select.select([waiting], [], [], 0.5)[0]
        holder.kill()
        assert waiting.readline() == "held\n"
    finally:
        for process in (holder, *waiters.values()):
            process.kill()
            process.wait()
    with cards.to_itself(False):
        pass


def test_an_engine_that_is_still_starting_does_not_outlive_its_parent(tmp_path: Path) -> None:
    parent = started(PARENT, tmp_path / "parent.py")
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}/stat").exists() and Path(f"/proc/{child}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline, "it lives"
        time.sleep(0.05)
