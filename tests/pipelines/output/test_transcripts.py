"""The second pass: every complete recording becomes one row of one table, also after interruptions."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.output import shards, transcripts

ARGUMENTS = ("hash", "0", "run-1", "zstd")


def row(
    recording_id: str,
    index: int = 0,
    count: int = 1,
    attempt: int = 1,
    status: str = "ok",
    text: str = "Hello.",
) -> dict[str, Any]:
    start = index * 10.0
    segments = [
        {
            "start": start,
            "end": start + 10,
            "language": "en",
            "text": text,
            "flags": [],
            "words": [],
            "word_source": "none",
        }
    ]
    failed = (
        {"error_stage": "decode", "error_code": "not_audio", "error_message": "no"}
        if status == "error"
        else {}
    )
    return {
        "shard_id": f"{recording_id}-{index}.{attempt}",
        "recording_id": recording_id,
        "audio": f"{recording_id}.wav",
        "index": index,
        "shard_count": count,
        "attempt": attempt,
        "status": status,
        "start": start,
        "end": None if index == count - 1 else start + 10,
        "duration": count * 10.0,
        "decoded_start": None if failed else start,
        "decoded_end": None if failed else start + 10,
        "segments": [] if failed else segments,
        "flags": [],
        "metadata": "{}",
        "created_at": datetime.now(UTC),
        **failed,
    }


def stitch(out: Path, size: int = 100) -> tuple[int, int]:
    batches = transcripts.unstitched(str(out), size)
    return transcripts.stitch_all(
        str(out),
        batches,
        lambda batches: [transcripts.stitch_batch(str(out), batch, *ARGUMENTS) for batch in batches],
    )


def ids(out: Path) -> list[str]:
    return sorted(transcripts.transcript_ids(str(out)).to_pylist())


def dead(out: Path) -> dict[str, int]:
    return {letter["recording_id"]: letter["attempts"] for letter in transcripts.dead_letters(str(out))}


def test_only_complete_recordings_are_stitched_and_only_once(tmp_path: Path) -> None:
    shards.append(str(tmp_path), [row("a"), row("b", 0, 2), row("c", status="error")], "t_1")
    assert stitch(tmp_path) == (1, 1)
    assert (ids(tmp_path), dead(tmp_path)) == (["a"], {"c": 1})
    assert stitch(tmp_path) == (0, 0)
    shards.append(str(tmp_path), [row("b", 1, 2)], "t_2")
    assert stitch(tmp_path) == (1, 0)
    assert (ids(tmp_path), dead(tmp_path)) == (["a", "b"], {"c": 1})


def test_the_next_pass_finishes_an_interrupted_one(tmp_path: Path) -> None:
    shards.append(str(tmp_path), [row(name) for name in "abcd"] + [row("e", status="error")], "t_1")
    batches = transcripts.unstitched(str(tmp_path), 2)
    assert [batch.recording_ids for batch in batches] == [["a", "b"], ["c", "d"], ["e"]]
    transcripts.stitch_batch(str(tmp_path), batches[1], *ARGUMENTS)  # and then the process died
    assert stitch(tmp_path, 2) == (2, 1)
    assert (ids(tmp_path), dead(tmp_path)) == (list("abcd"), {"e": 1})


def test_a_batch_is_also_bounded_in_hours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words take memory while they are stitched: 2,000 recordings of an hour must not be one batch."""
    monkeypatch.setattr(transcripts, "BATCH_SECONDS", 25.0)
    shards.append(
        str(tmp_path),
        [row(name) for name in "abc"] + [row("d", 0, 3), row("d", 1, 3), row("d", 2, 3), row("e")],
        "t_1",
    )
    shards.append(str(tmp_path), [row("f", status="error")], "t_2")
    batches = transcripts.unstitched(str(tmp_path), 100)
    assert [batch.recording_ids for batch in batches] == [["a", "b"], ["c"], ["d"], ["e", "f"]]
    assert stitch(tmp_path) == (5, 1)


def test_stitching_a_batch_twice_gives_one_file(tmp_path: Path) -> None:
    shards.append(str(tmp_path), [row("a")], "t_1")
    (batch,) = transcripts.unstitched(str(tmp_path), 10)
    for _ in range(2):
        transcripts.stitch_batch(str(tmp_path), batch, *ARGUMENTS)
    assert ids(tmp_path) == ["a"]


def test_a_second_attempt_replaces_a_dead_letter(tmp_path: Path) -> None:
    shards.append(str(tmp_path), [row("a", status="error"), row("b", status="error")], "t_1")
    stitch(tmp_path)
    shards.append(str(tmp_path), [row("a", 0, 2, attempt=2), row("b", attempt=2, status="error")], "t_2")
    assert stitch(tmp_path) == (0, 1)  # one shard of a's second attempt is missing
    assert (ids(tmp_path), dead(tmp_path)) == ([], {"a": 1, "b": 2})
    shards.append(str(tmp_path), [row("a", 1, 2, attempt=2)], "t_3")
    assert stitch(tmp_path) == (1, 0)
    assert (ids(tmp_path), dead(tmp_path)) == (["a"], {"b": 2})


def test_a_shard_written_twice_counts_once(tmp_path: Path) -> None:
    """Two racing drivers leave the same shard in two files."""
    shards.append(str(tmp_path), [row("a", 0, 2), row("a", 1, 2)], "t_1")
    shards.append(str(tmp_path), [row("a", 0, 2)], "t_2")
    assert stitch(tmp_path) == (1, 0)
    (written,) = (tmp_path / "transcripts").glob("*.parquet")
    import pyarrow.parquet as pq

    assert pq.read_table(written)["text"].to_pylist() == ["Hello. Hello."]
