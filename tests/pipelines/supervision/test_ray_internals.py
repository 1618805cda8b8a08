"""The private APIs of Ray that the job uses are where it expects them."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

MOVED = (
    "Ray {version} has moved a private API that the job uses: adapt pipelines/supervision/ray_internals.py"
)

# Ray Data's settings that `pipelines.execution.ray_data.checkpointing` sets: assigning to an unknown name is
# no error.
CONTEXT_SETTINGS = (
    "checkpoint_config",
    "use_datasource_v2",
    "target_max_block_size",
    "execution_no_progress_timeout_s",
    "max_errored_blocks",
    "retried_io_errors",
    "max_consecutive_actor_init_deaths",
    "issue_detectors_config",
    "enable_progress_bars",
    "print_on_execution_start",
)


def test_private_apis_of_ray_are_where_the_job_expects_them(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    moved = MOVED.format(version=ray.__version__)
    try:
        internals = importlib.import_module("pipelines.supervision.ray_internals")
    except ImportError as error:
        pytest.fail(f"{moved} ({error})")
    from ray.data import DataContext, Dataset
    from ray.data.checkpoint import CheckpointConfig

    assert callable(getattr(Dataset, "map_batches_internal", None)), f"{moved} (Dataset.map_batches_internal)"
    assert callable(getattr(DataContext, "_set_current", None)), f"{moved} (DataContext._set_current)"
    missing = [name for name in CONTEXT_SETTINGS if not hasattr(DataContext.get_current(), name)]
    assert not missing, f"{moved} (settings of DataContext: {missing})"
    checkpoint = CheckpointConfig(id_column="id", checkpoint_path=str(tmp_path))
    assert hasattr(checkpoint, "checkpoint_actor_pool_max_size"), (
        f"{moved} (CheckpointConfig's pool of filters)"
    )

    assert callable(getattr(internals.worker, "print_to_stdstream", None)), (
        f"{moved} (messages of the raylet)"
    )
    assert "print_to_stdstream(" in inspect.getsource(internals.worker.listen_error_messages), moved

    files = {path.name for path in Path(ray.__file__).parent.glob("data/**/*.py")}
    missing = [name for name in internals.STORAGE_MODULES if name not in files]
    assert not missing, f"{moved} (modules that read and write: {missing})"
    tolerating = inspect.getsource(importlib.import_module(internals.TOLERATED_ERRORS_LOGGER))
    assert "max_errored_blocks" in tolerating, f"{moved} (where errors are tolerated)"
    assert "exc_info=" in tolerating, f"{moved} (the log record of a tolerated error)"

    state = importlib.import_module(internals.TOLERATED_ERRORS_LOGGER).OpState
    for owner, method in (
        (internals.ActorPoolMapOperator, "num_active_tasks"),
        (internals.BackpressurePolicy, "can_add_input"),
        (state, "has_pending_bundles"),
    ):
        assert callable(getattr(owner, method, None)), f"{moved} ({owner.__name__}.{method})"
    resources, _ = internals.detect_local_node(3, 1, 80 << 20)
    assert (resources["CPU"], resources["GPU"]) == (3, 1), f"{moved} (ResourceAndLabelSpec)"
