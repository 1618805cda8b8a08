"""What a local Ray needs of its machine is checked, and chosen where there is a choice."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from actors.errors import UsageError
from pipelines.cluster import local_machine
from pipelines.cluster.local_machine import local_ray_options, short_temporary_folder
from pipelines.environment import bypass_proxies


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that are set stay in this test."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    for name in ("RAY_TMPDIR", "TMPDIR", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        os.environ.pop(name, None)


def test_a_short_folder_is_used_as_it_is(tmp_path: Path) -> None:
    os.environ["TMPDIR"] = "/var/tmp"
    assert short_temporary_folder() == "/var/tmp"
    os.environ["RAY_TMPDIR"] = "/tmp"
    assert short_temporary_folder() == "/tmp"


@pytest.mark.parametrize("folder", ["/" + "x" * 60, "/nonexistent", "/proc", "/dev/null"])
def test_a_folder_that_cannot_hold_sockets_is_replaced(folder: str) -> None:
    os.environ["TMPDIR"] = folder
    assert short_temporary_folder() == "/tmp"


def test_without_any_folder_for_sockets_the_message_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_machine, "_SHORT_FOLDERS", ("/proc",))
    os.environ["TMPDIR"] = "/" + "x" * 60
    with pytest.raises(UsageError, match=r"xxx is too long .*; /proc is not a folder .* at most 37 bytes"):
        short_temporary_folder()


def test_a_token_of_the_user_stays() -> None:
    local_ray_options(0.1)
    first = os.environ["RAY_AUTH_TOKEN"]
    assert len(first) == 64
    local_ray_options(0.1)
    assert os.environ["RAY_AUTH_TOKEN"] == first
    del os.environ["RAY_AUTH_TOKEN"]
    os.environ["RAY_AUTH_MODE"] = "disabled"
    local_ray_options(0.1)
    assert "RAY_AUTH_TOKEN" not in os.environ


def test_shared_memory_that_is_too_small_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    options = local_ray_options(10.0**9)
    assert options == {"_plasma_directory": "/tmp"}
    assert "/dev/shm has" in capsys.readouterr().err


def test_a_machine_without_loopback_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(99, "Cannot assign requested address")

    monkeypatch.setattr(socket, "create_connection", fail)
    with pytest.raises(UsageError, match="ip link set lo up"):
        local_ray_options(0.1)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"http_proxy": "http://proxy:1"}, "localhost,127.0.0.1,::1"),
        ({"HTTPS_PROXY": "http://proxy:1", "no_proxy": "own.host"}, "own.host,localhost,127.0.0.1,::1"),
        ({"http_proxy": "http://proxy:1", "NO_PROXY": "*"}, None),
        ({"http_proxy": ""}, None),
    ],
)
def test_loopback_is_never_reached_through_a_proxy(variables: dict[str, str], expected: str | None) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    os.environ.update(variables)
    bypass_proxies()
    assert os.environ.get("no_proxy") == expected


def test_the_number_of_processes_of_a_container_is_read(tmp_path: Path) -> None:
    limit = tmp_path / "pids.max"
    for text, expected in (("100\n", 100), ("max\n", None), ("", None)):
        limit.write_text(text)
        assert local_machine._cgroup_processes(str(limit)) == expected
    assert local_machine._cgroup_processes(str(tmp_path / "absent")) is None
