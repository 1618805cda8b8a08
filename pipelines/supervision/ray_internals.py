"""Every private API of Ray that the job uses, in one place: they may move with any release of Ray.

The constraints pin Ray's version, and tests/pipelines/supervision/test_ray_internals.py says what a new
version has moved. This module imports ray.data: import it only where Ray runs, or is about to.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from ray._private import worker
from ray._private.resource_and_label_spec import ResourceAndLabelSpec
from ray.data import DataContext, Dataset
from ray.data._internal.execution.backpressure_policy import (
    ENABLED_BACKPRESSURE_POLICIES,
    ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY,
    BackpressurePolicy,
)
from ray.data._internal.execution.operators.actor_pool_map_operator import ActorPoolMapOperator
from ray.data._internal.logging import SessionFileHandler
from ray.job_config import JobConfig

__all__ = [
    "STORAGE_MODULES",
    "TOLERATED_ERRORS_LOGGER",
    "ActorPoolMapOperator",
    "BackpressurePolicy",
    "SessionFileHandler",
    "add_backpressure_policy",
    "detect_local_node",
    "job_config",
    "map_batches",
    "restore_data_context",
    "silence_error_messages",
]

# Logs each error of a task that Ray tolerates (DataContext.max_errored_blocks).
TOLERATED_ERRORS_LOGGER = "ray.data._internal.execution.streaming_executor_state"

# Where Ray Data reads and writes files for us; the names show up in the remote stacks of its errors.
STORAGE_MODULES = (
    "plan_write_op.py",
    "checkpoint_writer.py",
    "checkpoint_filter.py",
    "file_datasink.py",
    "parquet_datasink.py",
    "parquet_datasource.py",
)


class _FixedPaths(list[str]):
    """Import paths to which `ray.init` adds nothing: it would add the driver's working directory."""

    def extend(self, paths: Iterable[str]) -> None:
        """Ignore `paths`."""


def job_config(import_paths: Iterable[str]) -> JobConfig:
    """The configuration of a job whose workers import from these folders, not from the working directory."""
    config = JobConfig()
    config._py_driver_sys_path = _FixedPaths(import_paths)
    return config


def silence_error_messages() -> None:
    """Have this driver print none of the messages that Ray's other processes send it, such as `(raylet) ...`.

    They go to stdout, and while Ray shuts down most of them are about what was ended on purpose. Errors that
    concern the run are raised as well.
    """
    worker.print_to_stdstream = lambda *_, **__: None


def detect_local_node(
    num_cpus: int, num_gpus: int | None, object_store_memory: int
) -> tuple[dict[str, float], dict[str, str]]:
    """Resources and labels that `ray.init` with these arguments would find here, without starting Ray."""
    spec = ResourceAndLabelSpec(
        num_cpus=num_cpus, num_gpus=num_gpus, object_store_memory=object_store_memory
    ).resolve(is_head=True, node_ip_address="127.0.0.1")
    return spec.to_resource_dict(), dict(spec.labels or {})


def map_batches(dataset: Dataset, *arguments: Any, **options: Any) -> Dataset:
    """`Dataset.map_batches` without its check that a stage on GPUs has a batch size.

    An actor of ours gets whole blocks and packs its own batches inside them.
    """
    return cast(Dataset, dataset.map_batches_internal(*arguments, **options))


def add_backpressure_policy(policy: type[BackpressurePolicy]) -> None:
    """Use a policy, beside Ray's own ones and earlier ones, in all executions of the current DataContext."""
    context = DataContext.get_current()
    key = ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY
    context.set_config(key, [*context.get_config(key, ENABLED_BACKPRESSURE_POLICIES), policy])


def restore_data_context(context: DataContext) -> None:
    """Make `context` the current DataContext again."""
    DataContext._set_current(context)
