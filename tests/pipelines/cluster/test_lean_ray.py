"""A Ray of our own on this machine has only the processes that a job needs."""

from __future__ import annotations

import contextlib
import inspect
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.cluster import lean_ray

MOVED = "Ray {version} has moved a private API that the job uses: adapt pipelines/cluster/lean_ray.py"
# A command that says what it was started with.
ECHO = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(' '.join(sys.argv[2:]))"


def test_what_is_left_out_is_where_the_job_expects_it() -> None:
    ray = pytest.importorskip("ray")
    moved = MOVED.format(version=ray.__version__)
    from ray._private import node, services, utils
    from ray.data import dataset
    from ray.data._internal import stats
    from ray.data._internal.cluster_autoscaler import ClusterAutoscaler
    from ray.data._internal.execution import streaming_executor
    from ray.data._internal.execution.operators import actor_pool_map_operator
    from ray.data.datasource import path_util

    starting = inspect.getsource(node.Node)
    for name in lean_ray.NODE_METHODS:
        assert f"self.{name}(" in starting, f"{moved} (Node.{name})"
    raylet = inspect.getsource(services.start_raylet)
    for option in (lean_ray.DASHBOARD_AGENT, lean_ray.ENVIRONMENT_AGENT, "--session_dir=", "--node_id="):
        assert f'"{option}' in raylet, f"{moved} ({option})"
    assert "start_ray_process(" in raylet, moved
    assert callable(utils.get_dashboard_dependency_error), moved
    for name in (*lean_ray.STATS_METHODS, "gen_dataset_id_from_stats_actor"):
        assert name in vars(stats._StatsManager), f"{moved} (_StatsManager.{name})"
    assert "create_cluster_autoscaler(" in inspect.getsource(streaming_executor.StreamingExecutor), moved
    assert ClusterAutoscaler.__abstractmethods__ == {
        "try_trigger_scaling",
        "on_executor_shutdown",
        "get_total_resources",
    }, f"{moved} (ClusterAutoscaler)"
    locations = inspect.getsource(actor_pool_map_operator)
    assert "update_actor_location.remote(" in locations, moved
    assert "get_actor_locations(" in locations, moved
    assert "_is_http_filesystem(" in inspect.getsource(path_util._resolve_paths_and_filesystem), moved
    assert "get_memory_info_reply(" in inspect.getsource(dataset.Dataset), moved


def test_everything_is_as_before_after_the_block() -> None:
    pytest.importorskip("ray")
    from ray._private import services
    from ray._private.node import Node
    from ray.data._internal.stats import _StatsManager

    def members() -> list[Any]:
        names = [(Node, "start_monitor"), (services, "start_ray_process")]
        names += [(_StatsManager, "update_execution_metrics")]
        return [vars(owner)[name] for owner, name in names]

    before = members()
    with lean_ray.lean_processes(None), lean_ray.lean_data():
        assert all(now is not then for now, then in zip(members(), before, strict=True))
    assert members() == before


def test_an_unknown_raylet_is_started_as_usual() -> None:
    command = ["raylet", "--dashboard_agent_command=python agent.py", "--head"]
    assert lean_ray._lean_raylet(command, None) == command


def test_metrics_that_are_asked_for_have_their_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["raylet", "--session_dir=/s", "--node_id=n", "--dashboard_agent_command=python agent.py"]
    monkeypatch.setenv("RAY_enable_metrics_collection", "1")
    assert lean_ray._lean_raylet(command, None) == command
    monkeypatch.setenv("RAY_enable_metrics_collection", "0")
    assert "sleeping_agent.py" in lean_ray._lean_raylet(command, None)[-1]


def test_an_agent_that_is_off_says_so_and_ends_with_its_raylet(tmp_path: Path) -> None:
    # A shell in between is the raylet. It ends, and its agent is still there then.
    agent = [sys.executable, "-I", "-S", str(lean_ray.SLEEPING_AGENT), str(tmp_path), "n", "off", "a", "b"]
    script = f'{" ".join(agent)} --more & echo $!; while [ ! -e "$0/b_n" ]; do sleep 0.05; done'
    raylet = subprocess.run(
        ["sh", "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True, timeout=30, check=True
    )
    assert (tmp_path / "a_n").read_text() == (tmp_path / "b_n").read_text() == "-1"
    assert not (tmp_path / "--more_n").exists()
    _wait_for(lambda: not _is_running(int(raylet.stdout)))


def test_an_agent_becomes_the_real_one_when_it_is_called(tmp_path: Path) -> None:
    told = tmp_path / "told"
    command = [sys.executable, "-c", ECHO, str(told), "--my-port=0", "--other=1"]
    sleeper = [sys.executable, "-I", "-S", str(lean_ray.SLEEPING_AGENT), str(tmp_path), "n"]
    agent = subprocess.Popen([*sleeper, "on-demand", "my_port", *command])
    announced = tmp_path / "my_port_n"
    _wait_for(announced.exists)
    port = int(announced.read_text())
    time.sleep(0.2)
    assert not told.exists()
    # Whoever calls may be cut off, and calls again.
    with contextlib.suppress(ConnectionResetError):
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
    assert agent.wait(30) == 0
    assert told.read_text() == f"--other=1 --my-port={port}"


def _is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "nothing happened for 20 s"
        time.sleep(0.05)
