"""A call that takes too long ends its process, even where Python cannot run."""

from __future__ import annotations

import subprocess
import sys

import pytest

from actors.process import watchdog
from actors.process.watchdog import call_limit, heartbeat, limited

HANGING = {"asleep": "time.sleep(600)", "holding Python's lock": "ctypes.PyDLL(None).sleep(600)"}
PROGRAM = """
import ctypes, time
from actors.process import watchdog
from actors.process.exit import before_exit
watchdog._GRACE = 1.0
before_exit(lambda error: print(error.code, error.message, flush=True))
with watchdog.limited(0.5, "a call"):
    {call}
"""


@pytest.mark.parametrize("how", HANGING)
def test_a_call_that_hangs_ends_its_process(how: str) -> None:
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(call=HANGING[how])],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 1
    if how == "asleep":
        assert finished.stdout == "model_timeout a call was not finished within its limit of 0.5 s\n"
    else:
        assert "Timeout" in finished.stderr
        assert 'File "<string>"' in finished.stderr, "the stack shows where it hung"


def test_a_process_outlives_a_call_that_is_finished_in_time() -> None:
    program = PROGRAM.format(call="pass") + "\ntime.sleep(2.5); print('alive')"
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert finished.stdout == "alive\n"


def test_an_error_passes_through_and_lifts_the_limit() -> None:
    with pytest.raises(ValueError, match="its own"), limited(600, "a call"):
        raise ValueError("its own")


def test_the_limit_grows_with_the_audio() -> None:
    assert call_limit(30, False, 960) == 30
    assert call_limit(None, True, 960) == 600 + 96
    assert call_limit(None, False, 960) == 600 + 9600


def test_limited_calls_send_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    heartbeats: list[str] = []
    monkeypatch.setattr(watchdog, "_callbacks", [])
    watchdog.before_call(lambda: heartbeats.append("heartbeat"))
    with limited(60, "a call"):
        assert heartbeats == ["heartbeat"]
        heartbeat()
    assert heartbeats == ["heartbeat", "heartbeat"]
