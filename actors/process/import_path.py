"""Where this process and its children import modules from: never the working directory.

The working directory is often a folder of somebody else's files. A file `av.py` or `secrets.py` there would
be executed in place of the module of that name. `python -m`, `python -c` and an empty entry of PYTHONPATH put
the working directory on the path.

The one exception is a working directory that holds the packages themselves: `ray job submit --working-dir .`
runs `python -m pipelines` in the folder that was uploaded.
"""

import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Sequence

# The folder of the packages `actors` and `pipelines`: a checkout, or site-packages.
PACKAGE_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

_later: list[str] = []
_lock = threading.Lock()


def import_later(modules: Sequence[str]) -> None:
    """Note modules for `import_noted`: most processes that decode never need them.

    Raises:
        ModuleNotFoundError: there is no such module.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise ModuleNotFoundError(f"No module named {module!r}")
    _later.extend(modules)


def import_noted() -> None:
    """Import the modules that `import_later` noted."""
    with _lock:
        for module in _later:
            importlib.import_module(module)
        _later.clear()


def leave_working_directory() -> None:
    """Take the working directory off the import path of this process, and off PYTHONPATH for its children."""
    if "PYTHONPATH" in os.environ:
        os.environ["PYTHONPATH"] = os.pathsep.join(_python_path())
    sys.path[:] = _elsewhere(sys.path)


def child_command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of ours in a fresh interpreter, with `child_environment`."""
    return [sys.executable, "-P", "-m", module, *arguments]


def child_environment() -> dict[str, str]:
    """The environment of a child that finds our packages and imports nothing from the working directory."""
    paths = [path for path in _python_path() if os.path.realpath(path) != PACKAGE_ROOT]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([PACKAGE_ROOT, *paths]),
        "PYTHONSAFEPATH": "1",
    }


def _python_path() -> list[str]:
    return _elsewhere(os.environ.get("PYTHONPATH", "").split(os.pathsep))


def _elsewhere(paths: list[str]) -> list[str]:
    """The entries of an import path that are not the working directory. An empty entry is, too."""
    try:
        here = os.path.realpath(os.getcwd())
    except FileNotFoundError:  # the directory was deleted
        return [path for path in paths if path]
    if here == PACKAGE_ROOT:
        return paths
    return [path for path in paths if path and os.path.realpath(path) != here]
