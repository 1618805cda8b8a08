"""Leaves out what Ray starts beside a job on this machine, and what such a job has no use for.

For one recording, Ray's own processes took more CPU time than all of ours: each of them imports Ray (0.4 s of
a core and 45 to 80 MiB), and some import Ray Data as well (1 s and 115 MiB).

- The dashboard, the log monitor and the autoscaler's monitor serve people, drivers that show logs, and
  clouds. They are not started.
- The dashboard agent has metrics and submitted jobs, and the agent of runtime environments installs packages
  for workers. `sleeping_agent` stands in for both, and becomes the latter if it is needed.
- Ray Data's `_StatsActor` has metrics for the dashboard, its `_AutoscalingCoordinatorActor` divides a
  cluster among datasets, its `ActorLocationTracker` knows on which nodes replicas were restarted. They are
  not started: there is one machine, and one job on it.
- Ray Data's look at the spilled memory imports gRPC for one line of a log, and its question whether a file
  system is one of HTTP imports aiohttp. They are left out.

Private functions of Ray are replaced for that. Where a version of Ray does not have them as they are
expected, everything is started as usual; tests/pipelines/cluster/test_lean_ray.py says so.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from actors.process.import_path import child_command, child_environment
from pipelines.cluster import local_machine

WORKER_LAUNCHER = Path(__file__).with_name("worker_launcher.py")
SLEEPING_AGENT = Path(__file__).with_name("sleeping_agent.py")

# Methods of Ray's node that start processes for people and clouds.
NODE_METHODS = ("start_monitor", "start_log_monitor", "start_api_server")
WORKER = "--python_worker_command="
# Ports that the agents announce, by the raylet's option with the agent's command.
DASHBOARD_AGENT, ENVIRONMENT_AGENT = "--dashboard_agent_command=", "--runtime_env_agent_command="
DASHBOARD_PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port")
ENVIRONMENT_PORT = "runtime_env_agent_port"
# What Ray Data tells its `_StatsActor`.
STATS_METHODS = ("update_execution_metrics", "update_iteration_metrics", "register_dataset_to_stats_actor")


@contextmanager
def forking_workers() -> Iterator[str | None]:
    """Run `pipelines.cluster.fork_server` during a `with` block; yields the path of its socket.

    None: not on this system, where workers start one by one.
    """
    if not sys.platform.startswith("linux"):
        yield None
        return
    folder = tempfile.mkdtemp(prefix="ray-workers-", dir=local_machine.short_temporary_folder())
    path = os.path.join(folder, "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(64)
        server = subprocess.Popen(
            child_command("pipelines.cluster.fork_server", str(listener.fileno()), path),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**child_environment(), "OPENBLAS_NUM_THREADS": "1"},  # forks have no threads of a library
            pass_fds=[listener.fileno()],
        )
    try:
        yield path
    finally:
        assert server.stdin is not None
        with suppress(OSError):
            server.stdin.close()  # as the end of this process would
        server.returncode = 0  # it ends by itself
        shutil.rmtree(folder, ignore_errors=True)  # the server does so where this process is killed


@contextmanager
def lean_processes(fork_socket: str | None) -> Iterator[None]:
    """A `ray.init` inside a `with` block that starts a Ray starts only the processes that a job needs.

    Args:
        fork_socket: from `forking_workers`.
    """
    from ray._private import services, utils
    from ray._private.node import Node

    expected: list[tuple[Any, str]] = [(Node, name) for name in NODE_METHODS]
    expected += [(services, "start_ray_process"), (utils, "get_dashboard_dependency_error")]
    if not all(hasattr(owner, name) for owner, name in expected):
        yield
        return
    start = services.start_ray_process

    @functools.wraps(start)
    def start_lean(command: list[str], process_type: str, *arguments: Any, **options: Any) -> Any:
        if process_type == "raylet":
            command = _lean_raylet(command, fork_socket)
        return start(command, process_type, *arguments, **options)

    with (
        _replaced(Node, dict.fromkeys(NODE_METHODS, _nothing)),
        _replaced(services, {"start_ray_process": start_lean}),
        # It imports the dashboard's libraries to see whether they are there.
        _replaced(utils, {"get_dashboard_dependency_error": _nothing}),
    ):
        yield


@contextmanager
def lean_data() -> Iterator[None]:
    """Ray Data inside a `with` block starts no actors of its own for metrics and for autoscaling.

    Only for a Ray on one machine that no other job uses.
    """
    from ray.data import dataset
    from ray.data._internal import stats
    from ray.data._internal.execution import streaming_executor
    from ray.data._internal.execution.operators import actor_pool_map_operator
    from ray.data.datasource import path_util

    statistics: dict[str, Any] = dict.fromkeys(STATS_METHODS, staticmethod(_nothing))
    statistics["gen_dataset_id_from_stats_actor"] = staticmethod(lambda: uuid.uuid4().hex)
    replacements: list[tuple[Any, dict[str, Any]]] = [
        (getattr(stats, "_StatsManager", None), statistics),
        (streaming_executor, {"create_cluster_autoscaler": _fixed_cluster}),
        (
            actor_pool_map_operator,
            {"get_or_create_actor_location_tracker": _NoTracker, "get_actor_locations": _no_locations},
        ),
        (dataset, {"get_memory_info_reply": _no_memory_info}),
        (path_util, {"_is_http_filesystem": _is_no_http}),
    ]
    with ExitStack() as stack:
        for owner, members in replacements:
            if owner is not None and all(name in vars(owner) for name in members):
                stack.enter_context(_replaced(owner, members))
        yield


class _NoTracker:
    """In place of the actor that knows where restarted replicas are. It is sent to the replicas."""

    @property
    def update_actor_location(self) -> _NoTracker:
        return self

    def remote(self, *_: Any) -> None: ...


def _no_locations(_: tuple[str, ...]) -> dict[str, str]:
    """Where replicas were restarted; Ray Data takes those that are missing to be where they were started."""
    return {}


def _is_no_http(_: Any) -> bool:
    """Whether a file system is one of HTTP: OUT can never be there."""
    return False


def _no_memory_info(*_: Any, **__: Any) -> Any:
    """Ray Data leaves out what it would log."""
    raise NotImplementedError("spilled memory is not looked up")


def _fixed_cluster(*_: Any, **__: Any) -> Any:
    """A cluster autoscaler of Ray Data for a Ray whose resources never change and belong to one job."""
    from ray.data._internal.cluster_autoscaler import ClusterAutoscaler
    from ray.data._internal.execution.interfaces import ExecutionResources

    class FixedCluster(ClusterAutoscaler):
        def try_trigger_scaling(self) -> None: ...

        def on_executor_shutdown(self) -> None: ...

        @functools.cached_property
        def _total(self) -> ExecutionResources:
            import ray

            return ExecutionResources.from_resource_dict(ray.cluster_resources())

        def get_total_resources(self) -> ExecutionResources:
            return self._total

    return FixedCluster()


def _lean_raylet(command: list[str], fork_socket: str | None) -> list[str]:
    """The command of a raylet with sleeping agents and forked workers, where it is as expected."""
    options = dict(part.split("=", 1) for part in command if part.startswith("--") and "=" in part)
    folder, node = options.get("--session_dir"), options.get("--node_id")
    if not folder or not node:
        return command
    sleeper = [sys.executable, "-I", "-S", str(SLEEPING_AGENT), folder, node]
    # Whoever asks for Ray's metrics gets them.
    metrics = os.environ.get("RAY_enable_metrics_collection", "1") not in ("0", "false")  # noqa: SIM112
    lean = []
    for part in command:
        if part.startswith(DASHBOARD_AGENT) and not metrics:
            part = DASHBOARD_AGENT + subprocess.list2cmdline([*sleeper, "off", *DASHBOARD_PORTS])
        elif part.startswith(ENVIRONMENT_AGENT):
            agent = part.removeprefix(ENVIRONMENT_AGENT)
            on_demand = subprocess.list2cmdline([*sleeper, "on-demand", ENVIRONMENT_PORT])
            part = f"{ENVIRONMENT_AGENT}{on_demand} {agent}"
        elif part.startswith(WORKER) and fork_socket:
            # The raylet leaves out the script that sets up a runtime environment, unless there is one.
            launcher = subprocess.list2cmdline(["-I", "-S", str(WORKER_LAUNCHER), fork_socket])
            if script := re.search(r"(?<=/setup_worker\.py )[^ ]*/default_worker\.py ", part):
                part = f"{part[: script.start()]}{launcher} {part[script.start() :]}"
        lean.append(part)
    return lean


def _nothing(*_: Any, **__: Any) -> None:
    """Start and report nothing."""


@contextmanager
def _replaced(owner: Any, members: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Give a module or class other members inside a `with` block."""
    before = {name: vars(owner)[name] for name in members}
    try:
        for name, member in members.items():
            setattr(owner, name, member)
        yield
    finally:
        for name, member in before.items():
            setattr(owner, name, member)
