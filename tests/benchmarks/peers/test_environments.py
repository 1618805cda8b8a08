"""Who cannot be installed is left out with the reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.benchmarks.peers import environments
from tests.benchmarks.peers.contestants import WITH_MODEL, WITHOUT_MODEL
from tests.benchmarks.peers.data import Data
from tests.benchmarks.peers.parts import Comparison
from tests.benchmarks.workloads.rows import Skipped


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No environment is there yet."""
    monkeypatch.setattr(environments, "FOLDER", tmp_path)
    return tmp_path


@pytest.mark.usefixtures("nowhere")
def test_an_absent_environment_that_may_not_be_installed_is_a_reason() -> None:
    with pytest.raises(Skipped, match="not installed"):
        environments.python_of("nemo", install=False)


@pytest.mark.usefixtures("nowhere")
def test_too_little_room_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "ROOM", {"nemo": 1 << 60})
    monkeypatch.setattr(environments.sys, "version_info", (3, 11, 7))
    with pytest.raises(Skipped, match="GiB are free"):
        environments.python_of("nemo")


def test_an_installation_that_fails_is_a_reason(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        environments, "_run", lambda name, *command: environments._check(1, "ERROR: no wheel")
    )
    monkeypatch.setattr(environments.sys, "version_info", (3, 11, 7))
    with pytest.raises(Skipped, match="no wheel"):
        environments.python_of("daft")
    assert not (nowhere / "env-daft/installed").exists()


def test_an_absent_contestant_costs_the_others_nothing(
    nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.benchmarks.peers.parts.FOLDER", tmp_path)
    one = Data(tmp_path / "one.jsonl", ("a",), 1.0)
    comparison = Comparison(["daft", "nemo"], {"one": one, "long": one, "short": one}, install=False)
    assert [*comparison.cost(0)] == []
    assert {*comparison.skipped} == {"Daft and PyAV", "NeMo Curator 1.4.0 on Ray Data"}


@pytest.mark.parametrize("path", sorted(environments.REQUIREMENTS.iterdir()), ids=lambda path: path.stem)
def test_every_package_is_pinned(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert lines
    assert all(re.fullmatch(r"[\w.-]+==[\w.!+-]+", line) for line in lines)


def test_every_environment_has_its_packages() -> None:
    wanted = {one.environment for one in (*WITHOUT_MODEL, *WITH_MODEL)} - {None}
    assert wanted == {path.stem for path in environments.REQUIREMENTS.iterdir()} == {*environments.ROOM}
