"""Inputs and outputs of the reference package, from the folder in GOLDEN_DIR (default: ../shared/golden).

The default is beside the repository. A test module names its file in `GOLDEN_FILE`. Each test with the
argument `case` runs once for each line of that file, or, where the test has an attribute `functions`, once
for each case of these functions.
"""

import json
import os
from pathlib import Path

import pytest

DEFAULT = Path(__file__).resolve().parents[2].parent / "shared" / "golden"


def golden_dir() -> Path:
    return Path(os.environ.get("GOLDEN_DIR") or DEFAULT)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" not in metafunc.fixturenames:
        return
    path = golden_dir() / metafunc.module.GOLDEN_FILE
    functions = getattr(metafunc.function, "functions", None)
    if path.exists():
        cases = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line.strip()]
        cases = [case for case in cases if functions is None or case["function"] in functions]
        params = [pytest.param(case, id=case["case"]) for case in cases]
        reason = f"{path} has no case for this test"
    else:
        params, reason = [], f"no {path}: set GOLDEN_DIR to a folder with the reference vectors"
    if not params:
        params = [pytest.param(None, id="absent", marks=pytest.mark.skip(reason=reason))]
    metafunc.parametrize("case", params)


@pytest.fixture(scope="session")
def golden_languages() -> dict:
    path = golden_dir() / "languages.json"
    if not path.exists():
        pytest.skip(f"no {path}: set GOLDEN_DIR to a folder with the reference vectors")
    return json.loads(path.read_text("utf-8"))
