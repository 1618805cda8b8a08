"""Ray Data for this job: its settings for one pass, and the kinds of stages that a pass is made of."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from actors import batch_limits
from pipelines.cluster.nodes import Node
from pipelines.cluster.placement import Placement
from pipelines.cluster.pools import PoolResources
from pipelines.storage import files

if TYPE_CHECKING:
    from ray.data import Dataset

BYTES_PER_SECOND = 32_000  # of samples between stages
BLOCK_BYTES = 64 << 20  # of a block of rows with their samples: 2,097 s
GPU_BLOCK_BYTES = batch_limits.block_bytes(True)  # the same where there are GPUs: 8,389 s, see `blocks_for`
LARGE_JOB_BLOCKS = 20_000  # a job with more blocks than these gets larger ones
# Blocks that an object store must have room for, and as many for each GPU of a node: one is in each of two
# models, two wait before each of them, and two are being decoded.
STORE_BLOCKS, STORE_BLOCKS_PER_GPU = 16, 8
# Where there are GPUs, no fewer tasks than these as long as there are plan files: for each recogniser one
# table in the model, one that joins it, one that waits and one that is decoded; and two rounds of decoding.
TASKS_PER_REPLICA, TASKS_PER_DECODER = 4, 2
# Shards of a task, unless one plan file has more. If a shard crashes its process, all of them are done one by
# one: a few minutes.
TASK_ROWS = 1024

# Crashes of processes over one table, or while it waits. The supervisor gives up shards that crash their
# process long before. This is the limit for crashes that no shard is blamed for.
MAX_TASK_RETRIES = 100

# Stages get whole blocks as Arrow tables: the plan decides how large a block is, and an actor packs its own
# batches inside it.
_WHOLE_BLOCKS: dict[str, Any] = {"batch_format": "pyarrow", "batch_size": None}


@dataclass(frozen=True)
class Blocks:
    """How a pass is divided.

    Attributes:
        tasks: number of tasks that read the plan files and decode.
        size: bytes that a block of samples may have; what a task decodes beyond it becomes a further block.
    """

    tasks: int
    size: int = BLOCK_BYTES


def read_plan_files(uris: Sequence[str], tasks: int, *, one_row_per_block: bool) -> Dataset:
    """The rows of plan files, in the order of the files.

    Args:
        uris: of the files.
        tasks: number of tasks that read them; each reads one file, or neighbours.
        one_row_per_block: whether each row becomes a block, and so a decoding task, of its own.
    """
    import ray.data

    store, _ = files.arrow_filesystem(uris[0])
    # file_extensions=None reads all files, whatever they are called. Otherwise Ray would look for the
    # extension before the first question mark of the path, which may be in the folder's name.
    rows = ray.data.read_parquet(
        [files.arrow_filesystem(uri)[1] for uri in uris],
        filesystem=store,
        override_num_blocks=min(tasks, len(uris)),
        file_extensions=None,
    )
    return rows.repartition(target_num_rows_per_block=1) if one_row_per_block else rows


def map_in_tasks(
    rows: Dataset,
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    *,
    num_cpus: float,
    labels: Mapping[str, str],
) -> Dataset:
    """A stage of tasks: `function(table, **arguments)`, on nodes with these labels."""
    return rows.map_batches(
        function,
        fn_kwargs=dict(arguments),
        num_cpus=num_cpus,
        max_retries=2,
        **label_arguments(labels),
        **_WHOLE_BLOCKS,
    )


def map_in_pool(
    rows: Dataset, actor: type, arguments: Sequence[Any], pool: PoolResources, *, isolated: bool
) -> Dataset:
    """A stage of replicas: `actor(*arguments)(table)`."""
    from pipelines.supervision import ray_internals

    return ray_internals.map_batches(
        rows,
        actor,
        fn_constructor_args=tuple(arguments),
        **pool_arguments(pool, isolated),
        **_WHOLE_BLOCKS,
    )


def write_rows(rows: Dataset, folder: str, compression: str) -> None:
    """Run the stages; each task's rows are written to `folder` and committed as soon as they are done."""
    store, path = files.arrow_filesystem(folder)
    rows.write_parquet(path, filesystem=store, compression=compression)


def pool_arguments(pool: PoolResources, isolated: bool) -> dict[str, Any]:
    """The arguments of `map_batches` for a pool.

    Args:
        pool: from `pipelines.cluster.placement`.
        isolated: give a process one table at a time: one that waited behind another would go down with it.
    """
    from ray.data import ActorPoolStrategy

    return {
        # One table is read or written beside the one in the model, and a third waits.
        "compute": ActorPoolStrategy(
            size=pool.size,
            max_tasks_in_flight_per_actor=1 if isolated else 3,
            max_concurrent_calls_per_actor=1 if isolated else 2,
            # `pipelines.execution.stages` ensures that one thread at a time uses the model.
            enable_true_multi_threading=True,
        ),
        "num_gpus": pool.num_gpus,
        "num_cpus": pool.num_cpus,
        **label_arguments(pool.label_selector),
        # Limited restarts leave a dead actor in its slot, and the run hangs (ray issue 62746).
        "max_restarts": -1,
        "max_task_retries": MAX_TASK_RETRIES,
    }


def label_arguments(labels: Mapping[str, str]) -> dict[str, Any]:
    """The argument of `map_batches` that restricts it to nodes with these labels; empty for any node."""
    return {"label_selector": dict(labels)} if labels else {}


def blocks_for(placement: Placement, seconds: float, plan_files: int, shards: int) -> Blocks:
    """How many tasks a pass has, and how large its blocks are.

    If no recogniser is on a GPU, a task is a plan file, at most an hour of audio, and 2,097 s are a block.

    A block is what a model gets in one call. A recogniser on a GPU decodes up to 256 segments at once, in
    slots that are filled again as soon as one of them has ended (`actors.batch_limits`: 7,680 padded seconds
    on 80 GB, 15,360 on 141 GB). Two calls run at a time and share the slots. So while one table ends, the
    next one fills the slots, and a table need not be larger than one filling of them: 256 segments of 30 s
    are 7,680 s, and two tables of 60 s segments fill 15,360 s. Hence blocks of 256 MiB, 8,389 s, which a GPU
    of 3,000 times real time works off in three seconds and one of 300 times in half a minute.

    A plan is made without knowing the GPUs, and its files have an hour of audio at most, often less: 256
    clips of 3 s are 13 minutes. Therefore a task reads as many neighbouring files as fit into a block, and
    committed shards, not tasks, remain the unit of resuming. Jobs that are too short for so large tasks keep
    enough of them for all replicas and all decoders.

    Args:
        placement: where the pass runs.
        seconds: of audio to do.
        plan_files: number of plan files with shards to do.
        shards: number of shards to do.
    """
    size = block_bytes(placement.nodes, seconds, plan_files)
    if not placement.cards("recogniser") or plan_files == 0:
        return Blocks(max(1, plan_files), size)
    wanted = max(
        seconds * BYTES_PER_SECOND / size,
        shards / TASK_ROWS,
        TASKS_PER_REPLICA * placement.asr.size,
        TASKS_PER_DECODER * sum(placement.decode_tasks),
    )
    # Whole files: of two tasks with 7 and 8 files, the larger one must fit as well.
    files_each = max(1, int(plan_files / wanted))
    return Blocks(math.ceil(plan_files / files_each), size)


def block_bytes(nodes: Sequence[Node], seconds: float, tasks: int) -> int:
    """How large a block may become between stages.

    A GPU gets blocks for a whole call. In a huge job a block is a whole task, because the driver has work for
    each block. In every case the smallest object store must have room for STORE_BLOCKS blocks, and for
    STORE_BLOCKS_PER_GPU blocks for each GPU of its node, unless blocks would be smaller than BLOCK_BYTES.

    Args:
        nodes: the living nodes.
        seconds: of audio to do.
        tasks: number of tasks that they are divided into.
    """
    stores = [
        node.resources.get("object_store_memory", 0.0) / max(STORE_BLOCKS, STORE_BLOCKS_PER_GPU * node.gpus)
        for node in nodes
        if node.cpus or node.gpus
    ]
    limit = int(min(stores, default=0.0))
    wanted = batch_limits.block_bytes(any(node.gpus for node in nodes), BLOCK_BYTES)
    usual = max(BLOCK_BYTES, min(wanted, limit))
    if seconds * BYTES_PER_SECOND <= LARGE_JOB_BLOCKS * usual or limit <= usual:
        return usual
    task = seconds * BYTES_PER_SECOND / max(1, tasks)
    # Equal parts of a task, and 1 % more, because tasks differ a little.
    return max(usual, int(1.01 * task / math.ceil(task / limit)))


@contextmanager
def checkpointing(
    folder: str, id_column: str, max_failed_tasks: int, block: int = BLOCK_BYTES
) -> Iterator[None]:
    """Apply Ray Data's settings for one pass: resume by shard id, and limits for what actors cannot catch.

    Args:
        folder: where the ids of committed shards are, on any fsspec URI.
        id_column: the column with the ids.
        max_failed_tasks: tasks that may fail with a crashed process before the pass stops with the cause; -1:
            any number.
        block: from `block_bytes`.
    """
    from ray.data import DataContext
    from ray.data.checkpoint import CheckpointConfig

    from pipelines.supervision import ray_internals

    before = copy.deepcopy(DataContext.get_current())
    context = DataContext.get_current()
    store, path = files.arrow_filesystem(folder)
    checkpoint = CheckpointConfig(
        id_column=id_column,
        checkpoint_path=path,
        override_filesystem=store,
        delete_checkpoint_on_success=False,
    )
    # Only plan files with work left are read, so one filter is enough; up to ten would take the CPUs that
    # decoding needs.
    checkpoint.checkpoint_actor_pool_max_size = 1
    context.checkpoint_config = checkpoint
    # The second version ignores override_num_blocks: one task would decode everything.
    context.use_datasource_v2 = False
    context.target_max_block_size = block
    context.execution_no_progress_timeout_s = -1  # `pipelines.supervision.stall` does this
    context.max_errored_blocks = max_failed_tasks
    # Our file system repeats each request. Ray would repeat it once more, at two levels, ten times each; but
    # only Ray can begin a file anew.
    context.retried_io_errors = [
        r"uploading .*HTTP status 429",
        r"HTTP status 429\) during (Get|Upload|Complete)",
    ]
    context.max_consecutive_actor_init_deaths = 3
    # `pipelines.supervision` watches the pass. Their settings go to every worker, which would import all of
    # Ray's state API and aiohttp for them.
    context.issue_detectors_config = cast(Any, SimpleNamespace(detectors=[]))
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    try:
        yield
    finally:
        ray_internals.restore_data_context(before)
