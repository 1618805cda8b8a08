"""Random combinations of faults of the environment: each run ends right or with one clear line.

The combinations follow from a seed, so that one that fails can be run again alone.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.environment.commands import FAKE, ROOT, Environment, Result, scriptorium

pytestmark = pytest.mark.faults

AUDIO = ROOT / "configs/demo/audio/hotline-8khz.wav"
COMBINATIONS = 100
SAMPLE = 8  # of them by default, on commands without Ray

HOMES = ("/root", "/nonexistent", "/", "/dev/null", "/proc", "", None)
TEMPORARY = (None, "/tmp", "/nonexistent", "/proc", "/tmp/" + "x" * 90, "/dev/null")
PROXIES = (None, "http://127.0.0.1:9", "http://nowhere.invalid:3128", "nonsense", "")
LOCALES = (
    {},
    {"LC_ALL": "C"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "de_DE.ISO-8859-1"},
    {"LANG": "nonsense", "PYTHONIOENCODING": "ascii"},
)
LIMITS = ("", "ulimit -n 64", "ulimit -n 512", "ulimit -n 4096", "ulimit -v 2500000", "ulimit -v 30000000")
STREAMS = ("", "<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "> /dev/null", "2> /dev/null")


def combination(seed: int) -> Environment:
    """One random environment."""
    chosen = random.Random(seed)
    proxy = chosen.choice(PROXIES)
    variables: dict[str, str | None] = {
        "HOME": chosen.choice(HOMES),
        "TMPDIR": chosen.choice(TEMPORARY),
        "http_proxy": proxy,
        "https_proxy": proxy,
        "ALL_PROXY": chosen.choice((None, proxy)),
        **chosen.choice(LOCALES),
    }
    # Most combinations leave some things as they are, so that more than one fault comes into effect.
    return Environment(variables, chosen.choice(("", *LIMITS)), chosen.choice(("", "", *STREAMS)))


def check(done: Result, environment: Environment, message: str) -> None:
    """Check that a command ended right, or with a message of one line and the exit code of a refusal."""
    said = (environment, done)
    assert "Traceback" not in done.err + done.out, said
    assert done.code in (0, 2), said
    is_silent = "2>" in environment.redirections
    if done.code == 0 and message and ">" not in environment.redirections:
        assert message in done.out, said
    if done.code == 2 and not is_silent:
        refusals = [line for line in done.err.splitlines() if line.startswith("scriptorium: ")]
        assert len(refusals) == 1, said


def run(seed: int, folder: Path, *, with_ray: bool) -> None:
    environment = combination(seed)
    check(scriptorium("plan", AUDIO, environment=environment), environment, "recordings")
    check(scriptorium("transcribe", "--print-config", environment=environment), environment, "asr:")
    if with_ray:
        done = scriptorium("transcribe", AUDIO, folder / "out", *FAKE, environment=environment)
        check(done, environment, "1 recording = 1 transcript + 0 dead letters")


@pytest.mark.parametrize("seed", range(SAMPLE))
def test_a_command_ends_right_or_with_one_clear_line(seed: int, tmp_path: Path) -> None:
    run(seed, tmp_path, with_ray=False)


@pytest.mark.ray
def test_a_run_ends_right_or_with_one_clear_line(tmp_path: Path) -> None:
    """With no home directory, no place for sockets, a proxy, another locale and a closed stream at once."""
    variables: dict[str, str | None] = {
        "HOME": "/dev/null",
        "TMPDIR": "/tmp/" + "x" * 90,
        "http_proxy": "http://nowhere.invalid:3128",
        **LOCALES[1],
    }
    environment = Environment(variables, "ulimit -n 1024", "<&-")
    audio = tmp_path / "Gr\u00fc\u00dfe \u97f3.wav"
    audio.write_bytes(AUDIO.read_bytes())
    done = scriptorium("transcribe", audio, tmp_path / "out", *FAKE, environment=environment)
    assert done.code == 0, done
    check(done, environment, "1 recording = 1 transcript + 0 dead letters")


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(COMBINATIONS))
def test_any_run_ends_right_or_with_one_clear_line(seed: int, tmp_path: Path) -> None:
    run(seed, tmp_path, with_ray=True)
