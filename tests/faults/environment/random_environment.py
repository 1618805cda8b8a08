"""Random combinations of faults of the environment, each determined by its seed."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

from tests.faults.environment.commands import ROOT, Environment

NOWHERE = "http://127.0.0.1:9"
HOMES = ("/nonexistent", "/", "/dev/null", "/proc", "", None)
TEMPORARY = ("/nonexistent", "/proc", "/tmp/" + "x" * 90, "/dev/null", "", "relative")
PROXIES = (NOWHERE, "http://nowhere.invalid:3128", "nonsense", "socks5://127.0.0.1:9", "")
PROXY_NAMES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy")
LOCALES: tuple[Mapping[str, str | None], ...] = (
    {"LC_ALL": "C"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "de_DE.ISO-8859-1"},
    {"LANG": "nonsense", "PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "xx_XX.UTF-99", "LANGUAGE": "xx"},
    {"PYTHONIOENCODING": "latin-1:strict", "TZ": "Nowhere/Nothing"},
)
# Folders of the XDG base directory specification, and those of libraries.
CACHES: tuple[Mapping[str, str | None], ...] = (
    {"XDG_CACHE_HOME": "/nonexistent/cache", "XDG_CONFIG_HOME": "/nonexistent/config"},
    {"XDG_RUNTIME_DIR": "/nonexistent", "XDG_DATA_HOME": "/dev/null"},
    {"HF_HOME": "/proc", "NUMBA_CACHE_DIR": "/nonexistent", "TRITON_CACHE_DIR": "/dev/null"},
    {"AWS_CONFIG_FILE": "/root", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"},
)
PYTHON: tuple[Mapping[str, str | None], ...] = (
    {"PYTHONWARNINGS": "error"},
    {"PYTHONWARNINGS": "always", "PYTHONHASHSEED": "0"},
    {"PYTHONOPTIMIZE": "2"},
    {"PYTHONDEVMODE": "1"},
    {"PYTHONPYCACHEPREFIX": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1"},
    {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"},
    # Entries that mean the working directory, which has traps.
    {"PYTHONPATH": f"{ROOT}:"},
    {"PYTHONPATH": f"{ROOT}::."},
)
TERMINALS: tuple[Mapping[str, str | None], ...] = (
    {"COLUMNS": "1", "LINES": "0"},
    {"COLUMNS": "nonsense", "TERM": "dumb"},
    {"FORCE_COLOR": "1", "TERM": "nonsense"},
    {"NO_COLOR": "1", "TTY_COMPATIBLE": "1"},
)
OTHERS: tuple[Mapping[str, str | None], ...] = (
    {"RAY_ADDRESS": "127.0.0.1:9"},
    {"RAY_TMPDIR": "/nonexistent"},
    {"OMP_NUM_THREADS": "nonsense", "CUDA_VISIBLE_DEVICES": "99"},
    {"PATH": "/nonexistent"},
    {"PATH": None, "SHELL": "/nonexistent", "USER": None, "LOGNAME": None},
)
LIMITS = (
    "ulimit -n 24",
    "ulimit -n 64",
    "ulimit -n 512",
    "ulimit -n 4096",
    "ulimit -v 2500000",
    "ulimit -v 30000000",
    "ulimit -f 0",
    "ulimit -f 100",
    "ulimit -f 10000000",
    "ulimit -u 40",
    "ulimit -u 30000",
    "ulimit -s 512",
    "ulimit -c 0 -l 0",
    "umask 077",
)
STREAMS = (
    "<&-",
    ">&-",
    "2>&-",
    ">&- 2>&-",
    "<&- >&- 2>&-",
    "> /dev/null",
    "2> /dev/null",
    "> >(true)",
    "2> >(true)",
    "> /dev/full",
    "2> /dev/full",
    "1< /dev/null",
    "< /dev/zero",
)
FOLDERS = ("removed", "not UTF-8", "traps", "traps")
# Modules that a command loads after it has left its working directory.
TRAPS = ("av", "fsspec", "numpy", "pyarrow", "pydantic", "ray", "secrets", "statistics", "yaml")

Choice = TypeVar("Choice")


def combination(seed: int, nobody: Sequence[str] = ()) -> tuple[Environment, str]:
    """One random environment.

    Args:
        seed: determines it.
        nobody: runs a command as a user without an entry in /etc/passwd; empty: nobody is drawn.

    Returns:
        The environment, and the kind of working directory: one of FOLDERS, or "" for an ordinary one.
    """
    chosen = random.Random(seed)

    def maybe(choices: Sequence[Choice], usual: Choice, probability: float = 0.35) -> Choice:
        # Most things are as usual in most combinations, so that more than the first fault comes into effect.
        return chosen.choice(choices) if chosen.random() < probability else usual

    variables: dict[str, str | None] = {}
    if chosen.random() < 0.5:
        variables["HOME"] = chosen.choice(HOMES)
    if chosen.random() < 0.35:
        variables["TMPDIR"] = chosen.choice(TEMPORARY)
    if chosen.random() < 0.5:
        proxy = chosen.choice(PROXIES)
        names = chosen.sample(PROXY_NAMES, chosen.randint(1, len(PROXY_NAMES)))
        variables |= dict.fromkeys(names, proxy)
        variables["no_proxy"] = chosen.choice((None, "", "example.org", "*", "127.0.0.1"))
    for kind in (LOCALES, CACHES, PYTHON, TERMINALS, OTHERS):
        variables |= maybe(kind, {})
    wrapper = nobody if chosen.random() < 0.3 else ()
    made = Environment(variables, maybe(LIMITS, ""), maybe(STREAMS, ""), wrapper)
    folder = maybe(FOLDERS, "")
    # Python itself does not start in a folder that was removed with a relative import path.
    is_relative = str(variables.get("PYTHONPATH", "")).endswith((".", ":"))
    return made, "" if folder == "removed" and is_relative else folder
