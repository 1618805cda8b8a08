"""What a command and everything that it starts cost; what it leaves behind is found and ended."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmarks.peers import accounting
from tests.benchmarks.peers.accounting import Descendants, Processes, measure, processes

BURN = "import time\nwhile time.process_time() < 0.4: pass\n"
# A child whose parent does not wait for it.
ORPHAN = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {BURN!r}])\n"
STAYS = "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"


@pytest.fixture(params=[processes, Descendants], ids=["best", "descendants"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Processes]:
    """Both ways to follow a command, with little patience for what stays."""
    monkeypatch.setattr(accounting, "processes", request.param)
    monkeypatch.setattr(accounting, "LINGER", 3.0)
    return request.param


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.mark.usefixtures("way")
def test_the_cpu_of_an_orphan_counts(tmp_path: Path) -> None:
    usage = measure(python(ORPHAN), tmp_path / "log")
    assert (usage.code, usage.left, usage.killed) == (0, [], False)
    assert 0.4 <= usage.cpu < 3


@pytest.mark.usefixtures("way")
def test_what_stays_is_named_and_killed(tmp_path: Path) -> None:
    before = time.monotonic()
    usage = measure(python(STAYS), tmp_path / "log")
    assert len(usage.left) == 1
    assert time.monotonic() - before < 30


def test_a_command_is_killed_at_its_moment_and_its_output_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounting, "LINGER", 0.5)
    code = "import time; print('working', flush=True); time.sleep(60)"
    usage = measure(python(code), tmp_path / "log", kill_after=1.0)
    assert (usage.killed, usage.timed_out, usage.code) == (True, False, -9)
    assert 1.0 <= usage.wall < 20
    assert (tmp_path / "log").read_text() == "working\n"
    assert measure(python(code), tmp_path / "log", timeout=0.5).timed_out


def test_memory_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounting, "POLL", 0.05)
    code = "import time; held = b'x' * (64 << 20); time.sleep(1)"
    assert 64 <= measure(python(code), tmp_path / "log").peak_mib < 400
    assert accounting._pss_kib(os.getpid()) > 1024
