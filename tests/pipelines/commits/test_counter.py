"""What is committed is counted by the files that a resume reads."""

from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.commits.counter import CommitCounter, Committed
from pipelines.output import shards
from pipelines.schema import PLAN
from pipelines.storage import files

ROWS = [("a-0", "a", 2, 0.0, 600.0), ("a-1", "a", 2, 600.0, 700.0), ("b-0", "b", 1, 0.0, 5.0)]


def planned() -> pa.Table:
    """PLAN rows of ROWS."""
    names = ("shard_id", "recording_id", "shard_count", "start", "end")
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in ROWS], schema=PLAN)


def commit(out: Path, name: str, *ids: str) -> None:
    """A file of committed ids."""
    table = pa.table({shards.ID: pa.array(ids, pa.string())})
    files.write_atomic(files.join(shards.checkpoint_folder(str(out)), name), shards.parquet_bytes(table))


@pytest.fixture
def clock() -> list[float]:
    """The time that the counter sees."""
    return [0.0]


@pytest.fixture
def counter(tmp_path: Path, clock: list[float]) -> CommitCounter:
    commit(tmp_path, "earlier.parquet", "z-0")
    return CommitCounter(str(tmp_path), planned(), lambda: clock[0])


def test_a_recording_is_committed_with_its_last_shard(tmp_path: Path, counter: CommitCounter) -> None:
    assert counter.read() == Committed()
    commit(tmp_path, "one.parquet", "a-0", "b-0")
    assert counter.read(last=True) == Committed(1, 605.0)
    commit(tmp_path, "two.parquet", "a-1")
    assert counter.read(last=True) == Committed(2, 705.0)
    assert counter.read(last=True) == Committed(2, 705.0)


def test_ids_that_are_only_announced_do_not_count(tmp_path: Path, counter: CommitCounter) -> None:
    commit(tmp_path, "one.pending.parquet", "b-0")
    assert counter.read(last=True) == Committed()


def test_the_folder_is_looked_into_only_now_and_then(
    tmp_path: Path, counter: CommitCounter, clock: list[float]
) -> None:
    counter.read()
    commit(tmp_path, "one.parquet", "b-0", "z-9")
    clock[0] = 4.0
    assert counter.read() == Committed()
    clock[0] = 6.0
    assert counter.read() == Committed(1, 5.0)
