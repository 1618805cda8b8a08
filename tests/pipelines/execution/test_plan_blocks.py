"""One plan file is one block for Ray Data, on the first run and on a resume.

A block is the unit of scheduling, and what an actor gets in one call.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from actors.records import Probe
from pipelines.cluster import session
from pipelines.cluster.pools import PoolResources
from pipelines.config import RunConfig
from pipelines.config_sections import ClusterConfig
from pipelines.execution import ray_data
from pipelines.manifests.manifest import Recording
from pipelines.output import shards
from pipelines.planning import planner
from pipelines.storage import files as locations

pytestmark = pytest.mark.ray
CONFIG = RunConfig.model_validate({"plan": {"task_seconds": 600}})


@pytest.fixture(scope="module")
def ray(s3_bucket: str) -> Iterator[Any]:
    """Ray on this machine, started after the S3 server so that its workers know the address.

    A Ray that runs already is used.
    """
    import ray

    with session.running_ray(ClusterConfig.model_validate({"num_cpus": 4, "object_store_memory": 0.15})):
        yield ray


def _plan(out: str) -> None:
    durations = {
        "long": 1500.0,
        **{f"s{number:03d}": 100.0 for number in range(20)},
        **{f"t{number:03d}": 0.5 for number in range(600)},
    }

    def probe(uri: str, scan: bool = False) -> Probe:
        return Probe(durations[uri.rpartition("/")[2]], "c", "c", 16000, 1, 10**9, "e")

    recordings = [
        Recording(name, f"/audio/{name}", None, None, None, None, None, {}, "m:1") for name in durations
    ]
    planner.extend_plan(out, recordings, CONFIG, "r1", probe=probe)


def _run(out: str, todo: pa.Table, below: str | None) -> None:
    """Write the rows of `todo`, each with its block's size; with `below`, only those with a smaller id."""

    def stage(table: pa.Table) -> pa.Table:
        table = table.append_column("rows", pa.array([table.num_rows] * table.num_rows, pa.int64()))
        return table if below is None else table.filter(pc.less(table["shard_id"], below))

    with ray_data.checkpointing(shards.checkpoint_folder(out), shards.ID, max_failed_tasks=0):
        uris = planner.files_of(todo)
        rows = ray_data.read_plan_files(uris, len(uris), one_row_per_block=False)
        rows = rows.map_batches(stage, batch_format="pyarrow", batch_size=None)
        ray_data.write_rows(rows, shards.folder(out), "zstd")


@pytest.mark.parametrize("kind", ["local", "s3"])
@pytest.mark.usefixtures("ray")
def test_a_plan_file_is_one_block_also_on_resume(kind: str, s3_bucket: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out") if kind == "local" else f"{s3_bucket}/{tmp_path.name}"
    _plan(out)
    plan = planner.read_plan(out)
    files = planner.files_of(plan)
    # 3 shards of the long recording; 20 x 100 s in tasks of six (the last has two of them and shorter ones);
    # 600 x 0.5 s in tasks of at most 256.
    assert len(files) == 3 + 3 + 3
    sizes = {
        row["plan_file"]: row["shard_id_count"]
        for row in plan.group_by("plan_file").aggregate([("shard_id", "count")]).to_pylist()
    }
    shard_ids, plan_files = plan["shard_id"].to_pylist(), plan["plan_file"].to_pylist()
    size_of = {shard: sizes[file] for shard, file in zip(shard_ids, plan_files, strict=True)}

    _run(out, plan, below="8")
    first = locations.read_tables(shards.folder(out), ["shard_id", "rows"])
    assert 0 < first.num_rows < plan.num_rows
    assert all(rows == size_of[shard] for shard, rows in zip(*first.to_pydict().values(), strict=True))

    done = set(first["shard_id"].to_pylist())
    assert set(shards.committed_ids(out).to_pylist()) == done
    _run(out, plan, below=None)
    both = locations.read_tables(shards.folder(out), ["shard_id", "rows"])
    assert sorted(both["shard_id"].to_pylist()) == sorted(size_of)
    # The rows that are left of a file come in one block again, and never with another file's rows.
    left: dict[str, int] = dict.fromkeys(files, 0)
    for shard, file in zip(shard_ids, plan_files, strict=True):
        left[file] += shard not in done
    file_of = dict(zip(shard_ids, plan_files, strict=True))
    again = [
        (shard, rows) for shard, rows in zip(*both.to_pydict().values(), strict=True) if shard not in done
    ]
    assert all(rows == left[file_of[shard]] for shard, rows in again)


class CountRows:
    """A replica of a model: adds the number of rows of its table to each of them."""

    def __call__(self, table: pa.Table) -> pa.Table:
        return table.append_column("rows", pa.array([table.num_rows] * table.num_rows, pa.int64()))


@pytest.mark.usefixtures("ray")
@pytest.mark.parametrize("resumed", [False, True])
def test_neighbouring_files_of_a_task_become_one_table_for_a_model(resumed: bool, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    _plan(out)
    plan = planner.read_plan(out)
    if resumed:
        _run(out, plan, below="8")
    done = set(shards.committed_ids(out).to_pylist())
    files = planner.files_of(plan)
    tasks = [set(part.tolist()) for part in np.array_split(files, 3)]
    of_file = dict(zip(plan["shard_id"].to_pylist(), plan["plan_file"].to_pylist(), strict=True))
    left = [sum(of_file[shard] in task for shard in of_file.keys() - done) for task in tasks]

    with ray_data.checkpointing(shards.checkpoint_folder(out), shards.ID, max_failed_tasks=0):
        rows = ray_data.read_plan_files(files, 3, one_row_per_block=False)
        rows = ray_data.map_in_tasks(rows, lambda table: table, {}, num_cpus=1, labels={})
        rows = ray_data.map_in_pool(rows, CountRows, (), PoolResources(), isolated=False)
        ray_data.write_rows(rows, shards.folder(out), "zstd")

    written = locations.read_tables(shards.folder(out), ["shard_id", "rows"]).to_pydict()
    for shard, count in zip(*written.values(), strict=True):
        if shard not in done:
            assert count == next(
                rows for task, rows in zip(tasks, left, strict=True) if of_file[shard] in task
            )
    assert sorted(written["shard_id"]) == sorted(of_file)
