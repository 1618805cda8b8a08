"""Ray itself: starting it on this machine or joining a cluster, and what a run may take from it."""

from __future__ import annotations

import copy
import logging
import math
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

from actors import retries
from actors.config import AlignerConfig, ASRConfig
from actors.errors import UsageError
from pipelines.cluster import orphan_reaper
from pipelines.cluster.nodes import GIB, NODE_ID, Node
from pipelines.config import ClusterConfig
from pipelines.storage import files
from pipelines.supervision import shutdown

# Ray reads these when it is imported: nothing sent anywhere, no chatter on the terminal.
EVERYWHERE = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # A driver that died keeps its share of a cluster so long (Ray says 180 s): the next one would get no CPU for writing, and commit nothing.
    "RAY_DATA_AUTOSCALING_REQUEST_EXPIRE_TIME_S": "40",
    "RAY_task_oom_retries": "5",  # Ray would decode for ever what runs out of memory every time
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # set it to info to have Ray's own logs in its session folder
}
# Where Ray is ours: every listener on loopback, and no statistics of its own, which nobody could see without its dashboard.
LOCAL_ENVIRONMENT = EVERYWHERE | {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_task_events_report_interval_ms": "0",
    "RAY_event_stats": "0",
    "RAY_event_stats_print_interval_ms": "0",
}
START_ATTEMPTS = 3
BLOCK_BYTES = (
    64 << 20
)  # of a block of rows with their samples, unless a job is so large that it has more than BLOCKS of these
BLOCKS = 20_000
BYTES_PER_SECOND = 32_000  # of samples, on their way

# Processes that may die over one table, or while it waits. The ledger gives up the shards that kill long before: this is the net under it,
# for deaths that no shard is blamed for.
MOST_DEATHS = 100

Model = TypeVar("Model", ASRConfig, AlignerConfig)


@contextmanager
def started(config: ClusterConfig) -> Iterator[None]:
    """Start or join Ray; what we started we stop, a cluster we joined stays.

    Raises:
        UsageError: if the cluster cannot be reached.
    """
    for name, value in (LOCAL_ENVIRONMENT if config.address == "local" else EVERYWHERE).items():
        os.environ.setdefault(name, value)
    import ray

    already = ray.is_initialized()
    with orphan_reaper.behind() if not already and config.address == "local" else nullcontext():
        if not already:
            try:
                _init(config)
            except ConnectionError as error:
                raise UsageError(
                    f"no Ray cluster answers at cluster.address={config.address!r}: {error}"
                ) from None
        _quiet()
        try:
            yield
        finally:
            if not already:
                ray.shutdown()


def _init(config: ClusterConfig) -> None:
    """`ray.init`, more than once where a busy machine needs longer than Ray's fixed thirty seconds to start its processes."""
    import ray

    for attempt in range(START_ATTEMPTS):
        try:
            with _native_chatter_hidden(), shutdown.kept():
                ray.init(**_arguments(config))
            return
        except Exception as error:
            if config.address != "local":
                raise
            ray.shutdown()  # what has started by then
            if "timed out" not in str(error).lower() or attempt == START_ATTEMPTS - 1:
                raise


@contextmanager
def _native_chatter_hidden() -> Iterator[None]:
    """Ray's C++ core writes to the file descriptor itself while it starts; what goes wrong there is raised in Python as well."""
    if os.environ.get("SCRIPTORIUM_TRACEBACK"):
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _quiet() -> None:
    """Keep Ray Data's progress, hints and tracebacks off the terminal, where ours is; its log files have them all, and errors are raised as well."""
    import ray.data  # noqa: F401  # its import sets up the handlers
    from ray.util.annotations import RayDeprecationWarning

    warnings.filterwarnings("ignore", category=RayDeprecationWarning)
    for name in ("ray", "ray.data"):
        for handler in logging.getLogger(name).handlers:
            if type(handler).__name__ != "SessionFileHandler":
                handler.setLevel(
                    logging.ERROR if os.environ.get("SCRIPTORIUM_TRACEBACK") else logging.CRITICAL
                )


def _arguments(config: ClusterConfig) -> dict[str, Any]:
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    if config.runtime_env:
        common["runtime_env"] = config.runtime_env
    if config.address != "local":
        if (
            variables := retries.variables()
        ):  # processes of a Ray that we start find these in their environment
            common["runtime_env"] = {
                **config.runtime_env,
                "env_vars": {**variables, **config.runtime_env.get("env_vars", {})},
            }
        return {"address": config.address, **common}
    return {
        "address": "local",
        # Two more than the cores: the pools reserve none, but on a resume Ray's checkpoint filter takes one beside the reader.
        "num_cpus": config.num_cpus or (os.cpu_count() or 1) + 2,
        "num_gpus": config.num_gpus,
        "object_store_memory": int(config.object_store_memory * GIB),
        "include_dashboard": False,
        **common,
    }


def nodes() -> list[Node]:
    """The living nodes of the cluster that was joined."""
    import ray

    return [
        Node(node["Resources"], node["Labels"], node["NodeManagerHostname"])
        for node in ray.nodes()
        if node["Alive"]
    ]


def this_machine(config: ClusterConfig) -> Node:
    """What a Ray that is started here would have, without starting it."""
    os.environ.update({name: value for name, value in LOCAL_ENVIRONMENT.items() if name not in os.environ})
    from ray._private.resource_and_label_spec import ResourceAndLabelSpec

    arguments = _arguments(config)
    found = ResourceAndLabelSpec(
        num_cpus=arguments["num_cpus"],
        num_gpus=arguments["num_gpus"],
        object_store_memory=arguments["object_store_memory"],
    ).resolve(is_head=True, node_ip_address="127.0.0.1")
    return Node(found.to_resource_dict(), {**(found.labels or {}), NODE_ID: "this-machine"}, "this machine")


def beside_driver() -> dict[str, Any]:
    """Options of an actor that must not go down with a worker node: it lives on the driver's, and comes back if it dies."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return {"num_cpus": 0, "max_restarts": -1, "scheduling_strategy": here}


def with_share(config: Model, num_gpus: float, cores: int) -> Model:
    """Settings of a pool with its share of the machine where they leave it open.

    A replica without a part of a GPU is told to run on CPUs: Ray leaves it all of them to see, and it would take one that is another's.

    Args:
        config: the settings.
        num_gpus: what placement gives each of its replicas.
        cores: for each replica on CPUs, so that their threads do not fight.
    """
    update: dict[str, Any] = {"pool": config.pool.model_copy(update={"num_gpus": num_gpus})}
    if num_gpus == 0:
        update |= {"device": "cpu"} if config.device == "auto" and config.backend == "transformers" else {}
        update |= {"threads": max(1, cores)} if config.threads is None else {}
    return config.model_copy(update=update)


def pool_arguments(resources: dict[str, Any], alone: bool) -> dict[str, Any]:
    """The arguments of `map_batches` for a pool with these resources.

    Args:
        resources: from `pipelines.cluster.placement`.
        alone: let a process have one table only: one that waited behind another goes down with it.
    """
    from ray.data import ActorPoolStrategy

    return {
        # One table is read, or written, beside the one in the model, and a third waits.
        "compute": ActorPoolStrategy(
            size=resources["size"],
            max_tasks_in_flight_per_actor=1 if alone else 3,
            max_concurrent_calls_per_actor=1 if alone else 2,
            enable_true_multi_threading=True,  # `pipelines.execution.stages` sees to it that one thread has the model
        ),
        "num_gpus": resources["num_gpus"],
        "num_cpus": resources["num_cpus"],
        **selecting(resources.get("label_selector", {})),
        "max_restarts": -1,  # capped restarts leave a dead actor in its slot, and the run hangs (ray issue 62746)
        "max_task_retries": MOST_DEATHS,
    }


def selecting(labels: dict[str, str]) -> dict[str, Any]:
    """The argument of `map_batches` that keeps it on nodes with these labels; none where any node will do."""
    return {"label_selector": labels} if labels else {}


def block_bytes(nodes: Sequence[Node], seconds: float, tasks: int) -> int:
    """How large a block may become on its way from stage to stage: in a huge job a whole task, because the driver works for each block.

    Args:
        nodes: a sixteenth of the smallest object store among them is the most: several blocks wait before each model.
        seconds: of audio to do.
        tasks: in so many tasks.
    """
    stores = [node.resources.get("object_store_memory", 0.0) for node in nodes if node.cpus or node.gpus]
    task, most = seconds * BYTES_PER_SECOND / max(1, tasks), min(stores, default=0.0) / 16
    if seconds * BYTES_PER_SECOND <= BLOCKS * BLOCK_BYTES or most <= BLOCK_BYTES:
        return BLOCK_BYTES
    return max(
        BLOCK_BYTES, int(1.01 * task / math.ceil(task / most))
    )  # equal parts, although tasks differ a little


@contextmanager
def checkpointed(
    folder: str, id_column: str, bearable_losses: int, block: int = BLOCK_BYTES
) -> Iterator[None]:
    """Ray Data's settings for one pass over the plan: resume by shard id, and nets under what actors cannot catch.

    Args:
        folder: where the ids of committed shards are, on any fsspec URI.
        id_column: the column with the ids.
        bearable_losses: tasks that may be lost with a process that died before the pass stops with the cause; -1: all.
        block: from `block_bytes`.
    """
    from ray.data import DataContext
    from ray.data.checkpoint import CheckpointConfig

    before = copy.deepcopy(DataContext.get_current())
    context = DataContext.get_current()
    store, path = files.arrow_filesystem(folder)
    checkpoint = CheckpointConfig(
        id_column=id_column,
        checkpoint_path=path,
        override_filesystem=store,
        delete_checkpoint_on_success=False,
    )
    # Only plan files with work left are read, so one filter is enough; up to ten would take the CPUs that decoding needs.
    checkpoint.checkpoint_actor_pool_max_size = 1
    context.checkpoint_config = checkpoint
    context.use_datasource_v2 = (
        False  # the second version ignores override_num_blocks: one task would decode everything
    )
    context.target_max_block_size = block
    context.execution_no_progress_timeout_s = -1  # see `pipelines.supervision.stall`
    context.max_errored_blocks = bearable_losses
    # Our file system tries each request again. Ray would do that once more, at two levels, ten times each; but it alone can begin a file anew.
    context.retried_io_errors = [
        r"uploading .*HTTP status 429",
        r"HTTP status 429\) during (Get|Upload|Complete)",
    ]
    context.max_consecutive_actor_init_deaths = 3
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    try:
        yield
    finally:
        DataContext._set_current(before)
