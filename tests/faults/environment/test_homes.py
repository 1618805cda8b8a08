"""An arbitrary user id without a home directory, as Kubernetes and OpenShift give it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.environment.commands import FAKE, NOBODY, ROOT, Environment, as_nobody, scriptorium

pytestmark = pytest.mark.faults

AUDIO = ROOT / "configs/demo/audio/hotline-8khz.wav"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of that user's, since others cannot enter pytest's."""
    wrapper_folder = Path(tempfile.mkdtemp(prefix="nobody-"))
    os.chown(wrapper_folder, int(NOBODY), int(NOBODY))
    yield wrapper_folder
    shutil.rmtree(wrapper_folder)


@pytest.mark.ray
@pytest.mark.parametrize(
    "home",
    ["/nonexistent", pytest.param(None, marks=pytest.mark.slow), pytest.param("/", marks=pytest.mark.slow)],
)
def test_a_run_needs_no_home_directory(home: str | None, folder: Path) -> None:
    wrapper = as_nobody()
    environment = Environment({"HOME": home, "XDG_CACHE_HOME": None}, wrapper=wrapper)
    for command in (
        ["plan", AUDIO],
        ["transcribe", AUDIO, folder / "out", *FAKE],
        ["status", folder / "out"],
    ):
        done = scriptorium(*command, environment=environment, folder=folder)
        assert done.code == 0, done
    assert sorted(path.name for path in folder.iterdir()) == ["out"]


def test_a_cache_that_cannot_be_written_names_the_setting(folder: Path) -> None:
    """The models of the defaults are not on this machine, and there is no folder to download them into."""
    environment = Environment(
        {"HOME": "/nonexistent", "HF_HOME": None, "XDG_CACHE_HOME": None, "HF_HUB_OFFLINE": None},
        wrapper=as_nobody(),
    )
    done = scriptorium("transcribe", AUDIO, folder / "out", environment=environment, folder=folder)
    assert done.code == 2
    assert "set HF_HOME to a folder that can" in done.err
    assert len(done.err.splitlines()) == 1
