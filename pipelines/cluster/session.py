"""Starts Ray on this machine or joins a cluster, and says what a run may take from it."""

from __future__ import annotations

import logging
import os
import site
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

from actors import retries
from actors.config import AlignerConfig, ASRConfig
from actors.errors import UsageError
from actors.process.import_path import PACKAGE_ROOT
from pipelines.cluster import lean_ray, local_machine, orphan_reaper
from pipelines.cluster.nodes import GIB, NODE_ID, Node
from pipelines.config_sections import ClusterConfig
from pipelines.supervision import shutdown

# Ray reads these variables when it is imported: no usage statistics, no progress bars or logs on the
# terminal.
EVERYWHERE = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # A dead driver keeps its share of a cluster for so long (Ray's default is 180 s). With a longer time the
    # next driver would get no CPU for writing, and commit nothing.
    "RAY_DATA_AUTOSCALING_REQUEST_EXPIRE_TIME_S": "40",
    # Without a limit Ray would decode for ever what runs out of memory every time.
    "RAY_task_oom_retries": "5",
    # Set it to info to have Ray's own logs in its session folder.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
# For a Ray that we start: every listener on loopback, and no statistics, which nobody could see without its
# dashboard.
LOCAL_ENVIRONMENT = EVERYWHERE | {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Workers, and the processes that they start, import nothing from their working directory.
    "PYTHONSAFEPATH": "1",
    # The driver would wait for workers that it may not need. On a machine so busy that none of them registers
    # in time, it would wait for ever.
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_task_events_report_interval_ms": "0",
    "RAY_event_stats": "0",
    "RAY_event_stats_print_interval_ms": "0",
}
START_ATTEMPTS = 3
# Ray sets this variable for the entrypoint of a submitted job; workers get our packages with its folder.
RAY_JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"

Model = TypeVar("Model", ASRConfig, AlignerConfig)


@contextmanager
def running_ray(config: ClusterConfig) -> Iterator[None]:
    """Start or join Ray for a `with` block.

    A Ray that was started is stopped after it; a cluster that was joined stays.

    Raises:
        UsageError: the cluster cannot be reached, or this Python runs without docstrings.
    """
    if sys.flags.optimize > 1:
        raise UsageError(
            "Ray Data does not work without docstrings: unset PYTHONOPTIMIZE (or set it to 1), and start "
            "Python without -OO"
        )
    for name, value in (LOCAL_ENVIRONMENT if config.address == "local" else EVERYWHERE).items():
        os.environ.setdefault(name, value)
    initialized = "ray" in sys.modules and sys.modules["ray"].is_initialized()
    starts_ray = not initialized and config.address == "local"
    if starts_ray:
        local_machine.require_machine()  # before any process is started
    with (
        orphan_reaper.reap_orphans() if starts_ray else nullcontext(),
        # It imports while this process does.
        lean_ray.forking_workers() if starts_ray else nullcontext() as fork_socket,
    ):
        import ray

        if not initialized:
            options = local_machine.local_ray_options(_object_store(config)) if starts_ray else {}
            try:
                _init(config, options, fork_socket)
            except ConnectionError as error:
                raise UsageError(
                    f"no Ray cluster answers at cluster.address={config.address!r}: {error}"
                ) from None
        _silence_ray_data()
        try:
            with lean_ray.lean_data() if starts_ray else nullcontext():
                yield
        finally:
            if not initialized:
                with shutdown.uninterrupted(), _hide_native_stderr():
                    ray.shutdown()


def _init(config: ClusterConfig, options: dict[str, Any], fork_socket: str | None) -> None:
    """`ray.init`, repeated if a busy machine needs more than Ray's fixed 30 s to start its processes.

    Args:
        config: the settings.
        options: further arguments for it.
        fork_socket: of the fork server of the workers.
    """
    import ray

    from pipelines.supervision import ray_internals

    arguments = {**_init_arguments(config), **options}
    if config.address == "local" and not os.environ.get("SCRIPTORIUM_TRACEBACK"):
        ray_internals.silence_error_messages()
    is_installed = PACKAGE_ROOT in map(os.path.realpath, site.getsitepackages())
    is_uploaded = "working_dir" in config.runtime_env or RAY_JOB_CONFIG in os.environ
    import_paths = [] if is_installed or is_uploaded else [PACKAGE_ROOT]
    for attempt in range(START_ATTEMPTS):
        try:
            with _hide_native_stderr(), shutdown.preserve_handlers(), lean_ray.lean_processes(fork_socket):
                ray.init(**arguments, job_config=ray_internals.job_config(import_paths))
            return
        except Exception as error:
            if config.address != "local":
                raise
            ray.shutdown()  # what has started by then
            if "timed out" not in str(error).lower() or attempt == START_ATTEMPTS - 1:
                raise


@contextmanager
def _hide_native_stderr() -> Iterator[None]:
    """Discard what is written to file descriptor 2, which Ray's C++ core does while it starts and stops.

    What goes wrong there is raised in Python as well.
    """
    if os.environ.get("SCRIPTORIUM_TRACEBACK"):
        yield
        return
    sys.stderr.flush()
    original = os.dup(2)
    try:
        with open(os.devnull, "w") as null:
            os.dup2(null.fileno(), 2)
        yield
    finally:
        os.dup2(original, 2)
        os.close(original)


def _silence_ray_data() -> None:
    """Keep Ray Data's progress, hints and tracebacks off the terminal.

    Our own progress is shown there. Ray's log files have all of it, and errors are raised as well.
    """
    import ray.data  # noqa: F401  # its import sets up the handlers
    from ray.util.annotations import RayDeprecationWarning

    from pipelines.supervision.ray_internals import SessionFileHandler

    warnings.filterwarnings("ignore", category=RayDeprecationWarning)
    level = logging.ERROR if os.environ.get("SCRIPTORIUM_TRACEBACK") else logging.CRITICAL
    for name in ("ray", "ray.data"):
        for handler in logging.getLogger(name).handlers:
            if not isinstance(handler, SessionFileHandler):
                handler.setLevel(level)


def _init_arguments(config: ClusterConfig) -> dict[str, Any]:
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    if config.runtime_env:
        common["runtime_env"] = config.runtime_env
    if config.address != "local":
        # The processes of a Ray that we start find these variables in their environment; others must be sent
        # them.
        if variables := retries.variables():
            common["runtime_env"] = {
                **config.runtime_env,
                "env_vars": {**variables, **config.runtime_env.get("env_vars", {})},
            }
        return {"address": config.address, **common}
    return {
        "address": "local",
        # Two more than the cores: the pools reserve none, but on a resume Ray's checkpoint filter takes one
        # beside the reader.
        "num_cpus": config.num_cpus or (os.cpu_count() or 1) + 2,
        "num_gpus": config.num_gpus,
        "object_store_memory": int(_object_store(config) * GIB),
        "include_dashboard": False,
        **common,
    }


def _object_store(config: ClusterConfig) -> float:
    """Size of the object store of a Ray on this machine, in GiB."""
    if config.object_store_memory != "auto":
        return config.object_store_memory
    from pipelines.supervision.ray_internals import detect_local_node

    resources, _ = detect_local_node(1, config.num_gpus, int(GIB))
    return local_machine.object_store_size(int(resources.get("GPU", 0)))


def living_nodes() -> list[Node]:
    """The living nodes of the cluster that was joined."""
    import ray

    return [
        Node(node["Resources"], node["Labels"], node["NodeManagerHostname"])
        for node in ray.nodes()
        if node["Alive"]
    ]


def this_machine(config: ClusterConfig) -> Node:
    """The node that a Ray started on this machine would have, without starting it."""
    os.environ.update({name: value for name, value in LOCAL_ENVIRONMENT.items() if name not in os.environ})
    from pipelines.supervision.ray_internals import detect_local_node

    arguments = _init_arguments(config)
    resources, labels = detect_local_node(
        arguments["num_cpus"], arguments["num_gpus"], arguments["object_store_memory"]
    )
    return Node(resources, {**labels, NODE_ID: "this-machine"}, "this machine")


def driver_node_options() -> dict[str, Any]:
    """Options of an actor that must survive the loss of a worker: on the driver's node, and restarted."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    strategy = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return {"num_cpus": 0, "max_restarts": -1, "scheduling_strategy": strategy}


def with_share(config: Model, num_gpus: float, cores: int) -> Model:
    """A model's settings with a replica's share of the machine where they leave it open.

    A replica without a GPU is told to run on CPUs: Ray lets it see all GPUs, and it would take one that
    belongs to another replica.

    Args:
        config: the settings.
        num_gpus: GPUs of each replica, from its placement.
        cores: cores of each replica on CPUs, so that the replicas' threads do not compete.
    """
    update: dict[str, Any] = {"pool": config.pool.model_copy(update={"num_gpus": num_gpus})}
    if num_gpus == 0:
        update |= {"device": "cpu"} if config.device == "auto" and config.backend == "transformers" else {}
        update |= {"threads": max(1, cores)} if config.threads is None else {}
    return config.model_copy(update=update)
