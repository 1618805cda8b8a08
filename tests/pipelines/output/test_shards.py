"""Committed shards, and recovery from a kill between the two phases of a commit."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.output import shards
from pipelines.schema import SHARD


def row(shard_id: str, recording_id: str = "r", index: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "shard_id": shard_id,
        "recording_id": recording_id,
        "index": index,
        "shard_count": 1,
        "attempt": 1,
        "status": "ok",
        **more,
    }


def write(
    out: Path, task: str, rows: list[dict[str, Any]], *, committed: bool = True, pending: bool = False
) -> None:
    shards.append(str(out), rows, task)
    ids = out / "checkpoint" / f"{task}.parquet"
    if pending:
        (out / "checkpoint" / f"{task}.pending.parquet").write_bytes(ids.read_bytes())
    if not committed:
        ids.unlink()


def test_committed_rows_are_found(tmp_path: Path) -> None:
    write(tmp_path, "t_000001", [row("a"), row("b")])
    assert shards.committed_ids(str(tmp_path)).to_pylist() == ["a", "b"]
    index = shards.index(str(tmp_path))
    assert index["shard_id"].to_pylist() == ["a", "b"]
    assert index["file"].to_pylist() == [str(tmp_path / "shards/t_000001-0.parquet")] * 2
    assert [r["shard_id"] for r in shards.read_rows(index["file"].to_pylist()[:1], ["r"])] == ["a", "b"]
    assert shards.read_rows(index["file"].to_pylist()[:1], ["other"]) == []


def test_an_empty_directory_has_no_shards(tmp_path: Path) -> None:
    assert shards.recover(str(tmp_path)) == 0
    assert len(shards.committed_ids(str(tmp_path))) == 0
    assert shards.index(str(tmp_path)).num_rows == 0


def test_the_rows_of_an_uncommitted_task_do_not_count_and_are_removed(tmp_path: Path) -> None:
    write(tmp_path, "t_000001", [row("a")])
    write(tmp_path, "t_000002", [row("b")], committed=False, pending=True)
    (tmp_path / "shards/t_000003-0.parquet").write_bytes(b"half a file")
    (tmp_path / "checkpoint/t_000003.pending.parquet").write_bytes(
        (tmp_path / "checkpoint/t_000002.pending.parquet").read_bytes()
    )
    assert shards.index(str(tmp_path))["shard_id"].to_pylist() == ["a"]
    assert shards.recover(str(tmp_path)) == 2
    assert sorted(path.name for path in (tmp_path / "shards").iterdir()) == ["t_000001-0.parquet"]
    assert sorted(path.name for path in (tmp_path / "checkpoint").iterdir()) == ["t_000001.parquet"]


@pytest.mark.parametrize("pending", [False, True])
@pytest.mark.parametrize("damaged", ["checkpoint/t_000002.parquet", "shards/t_000002-0.parquet"])
@pytest.mark.parametrize("content", [b"", bytes(1000), b"PAR1" + bytes(1000), b"PA"])
def test_a_task_with_a_damaged_file_is_done_again(
    content: bytes, damaged: str, pending: bool, tmp_path: Path
) -> None:
    write(tmp_path, "t_000001", [row("a")])
    write(tmp_path, "t_000002", [row("b")], pending=pending)
    (tmp_path / damaged).write_bytes(content)
    shards.recover(str(tmp_path))
    assert shards.committed_ids(str(tmp_path)).to_pylist() == ["a"]
    assert [path.name for path in (tmp_path / "shards").iterdir()] == ["t_000001-0.parquet"]
    assert [path.name for path in (tmp_path / "checkpoint").iterdir()] == ["t_000001.parquet"]


def test_a_kill_between_copy_and_delete_of_a_commit_loses_nothing(tmp_path: Path) -> None:
    """Object stores rename by copy and delete. Ray's clean-up would delete these rows but keep their ids."""
    write(tmp_path, "t_000001", [row("a")], pending=True)
    assert shards.recover(str(tmp_path)) == 0
    assert shards.committed_ids(str(tmp_path)).to_pylist() == ["a"]
    assert shards.index(str(tmp_path))["shard_id"].to_pylist() == ["a"]
    assert not list((tmp_path / "checkpoint").glob("*.pending.parquet"))


def test_committed_shards_without_rows_are_done_again(tmp_path: Path) -> None:
    """After a power failure, the renamed ids may exist while the rows are missing or empty."""
    for number in range(4):
        write(tmp_path, f"t_00000{number}", [row(f"s{number}")])
    (tmp_path / "shards/t_000001-0.parquet").unlink()
    (tmp_path / "shards/t_000002-0.parquet").write_bytes(b"")
    assert shards.recover(str(tmp_path)) == 2
    assert (
        sorted(shards.committed_ids(str(tmp_path)).to_pylist())
        == sorted(shards.index(str(tmp_path))["shard_id"].to_pylist())
        == ["s0", "s3"]
    )


def test_an_interrupted_append_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomic = shards.files.write_atomic
    for writes in range(3):

        def cut_off(uri: str, data: bytes, done: list[str] = [], most: int = writes) -> None:  # noqa: B006
            if len(done) == most:
                raise KeyboardInterrupt
            done.append(uri)
            write_atomic(uri, data)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(shards.files, "write_atomic", cut_off)
            shards.append(str(tmp_path), [row("a")], f"lost-{writes}")
        shards.recover(str(tmp_path))
        assert not [*(tmp_path / "shards").glob("*")] and not [*(tmp_path / "checkpoint").glob("*")]


def test_only_the_drafts_of_killed_writers_are_removed(tmp_path: Path) -> None:
    write(tmp_path, "t_000001", [row("a")])
    written = [
        tmp_path / name
        for name in (
            "run.json",
            "plan/p.parquet",
            "shards/t_000002-0.parquet",
            "transcripts/b.parquet",
            "report.json",
        )
    ]
    program = f"""
import os, signal
from pipelines.storage import files
killed = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
for path in {[str(path) for path in written]}:
    if not os.fork():
        os.replace = killed
        files.write_atomic(path, b"half")
    os.wait()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
    assert len(list(tmp_path.rglob(".*.tmp"))) == len(written)
    theirs = tmp_path / "shards/.theirs.tmp"
    theirs.touch()
    shards.recover(str(tmp_path))
    report = next(tmp_path.glob(".report.json.*"))  # its writer may still be at work
    assert sorted(tmp_path.rglob(".*")) == sorted([report, theirs])
    os.utime(report, (0, 0))
    shards.recover(str(tmp_path))
    assert not report.exists() and shards.committed_ids(str(tmp_path)).to_pylist() == ["a"]


def test_rows_keep_their_schema_if_all_values_are_null(tmp_path: Path) -> None:
    write(tmp_path, "t_000001", [row("a")])
    assert pq.read_schema(tmp_path / "shards/t_000001-0.parquet").equals(SHARD)
    assert isinstance(shards.read_rows([str(tmp_path / "shards/t_000001-0.parquet")], ["r"])[0], dict)
    assert pa.types.is_list(SHARD.field("segments").type)
