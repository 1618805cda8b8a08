"""Models start on a card one after the other, and no engine outlives its process."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from actors.backends import devices

HOLDER = """
import sys, time
from actors.backends import devices
with devices.exclusive_cards(True):
    print("locked", flush=True)
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


def start(code: str, file: Path, **variables: str) -> subprocess.Popen[str]:
    file.write_text(code)
    environment = {**os.environ, **variables, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, file], env=environment, stdout=subprocess.PIPE, text=True)


def test_models_start_on_a_card_one_after_the_other_and_a_dead_process_holds_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    waiters: dict[str, subprocess.Popen[str]] = {}
    holder = start(HOLDER, tmp_path / "holder.py", CUDA_VISIBLE_DEVICES="1,0", TMPDIR=str(tmp_path))
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "locked\n"
        waiters = {
            card: start(HOLDER, tmp_path / "waiter.py", CUDA_VISIBLE_DEVICES=card, TMPDIR=str(tmp_path))
            for card in "02"
        }
        assert waiters["2"].stdout is not None and waiters["2"].stdout.readline() == "locked\n"
        waiting = waiters["0"].stdout
        assert waiting is not None and not select.select([waiting], [], [], 0.5)[0]
        holder.kill()
        assert waiting.readline() == "locked\n"
    finally:
        for process in (holder, *waiters.values()):
            process.kill()
            process.wait()
    with devices.exclusive_cards(False):
        pass


def test_an_engine_that_is_still_starting_does_not_outlive_its_parent(tmp_path: Path) -> None:
    parent = start(PARENT, tmp_path / "parent.py")
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}/stat").exists() and Path(f"/proc/{child}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline, "the child is still alive"
        time.sleep(0.05)


@pytest.mark.parametrize("name", ["PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"])
def test_the_allocator_grows_its_segments_unless_the_user_configured_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"):
        # Set first, so that the monkeypatch restores it.
        monkeypatch.setenv(variable, "")
    devices.set_allocator()
    assert os.environ["PYTORCH_CUDA_ALLOC_CONF"] == "expandable_segments:True"
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "")
    monkeypatch.setenv(name, "max_split_size_mb:128")
    devices.set_allocator()
    assert os.environ[name] == "max_split_size_mb:128"
    assert sum(bool(os.environ[other]) for other in ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")) == 1


def test_there_is_no_gpu_memory_on_a_cpu() -> None:
    assert devices.gpu_memory(None) is None
    assert devices.device_name(None) == "cpu"


@pytest.mark.parametrize(("num_gpus", "memory"), [(None, 70.0), (1, 70.0), (0.5, 40.0)])
def test_gpu_memory_is_what_is_free_or_held_and_at_most_the_share(
    num_gpus: float | None, memory: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (66 * 2**30, 80 * 2**30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 4 * 2**30)
    assert devices.gpu_memory(torch.device("cuda"), num_gpus) == memory
