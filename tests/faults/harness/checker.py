"""What must hold after a run: each recording in exactly one table, nothing half written, no process left."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

from actors.records import Row
from pipelines.storage import files

MOVING = {"run_id", "created_at", "config_hash"}
"""Provenance that differs between two runs of the same work."""


def check(
    out: Any,
    recordings: Collection[str],
    calm: Any = None,
    damaged: Collection[str] = (),
    moved: bool = False,
) -> tuple[dict[str, Row], dict[str, Row]]:
    """Fail if a finished run lost, duplicated or changed anything, or left something behind.

    Args:
        out: the run's directory, a path or a URI.
        recordings: ids of all recordings of the manifest.
        calm: directory of an undisturbed run over the same recordings; texts, times and languages must be
            equal.
        damaged: ids that were damaged on purpose and so may differ from `calm`.
        moved: `calm` read the same recordings from other URIs (and may have more of them).

    Returns:
        Transcripts and dead letters by recording id.
    """
    transcripts, letters = table(out, "transcripts"), table(out, "dead_letters")
    expected = set(recordings)
    assert not transcripts.keys() & letters.keys(), (
        f"in both tables: {sorted(transcripts.keys() & letters.keys())[:5]}"
    )
    assert transcripts.keys() | letters.keys() == expected, (
        f"lost {sorted(expected - transcripts.keys() - letters.keys())[:5]}, "
        f"invented {sorted((transcripts.keys() | letters.keys()) - expected)[:5]}"
    )
    nothing_left(out)
    if calm is not None:
        before, before_letters = table(calm, "transcripts"), table(calm, "dead_letters")
        for key in expected - set(damaged):
            assert comparable(transcripts.get(key), moved) == comparable(before.get(key), moved), (
                f"{key} differs from the undisturbed run"
            )
            assert (key in letters) == (key in before_letters), f"{key} failed only in one of the two runs"
    return transcripts, letters


def table(out: Any, name: str) -> dict[str, Row]:
    """One of the two tables by recording id; fails if an id occurs twice."""
    rows = files.read_tables(files.join(str(out), name)).to_pylist()
    twice = [key for key, count in Counter(row["recording_id"] for row in rows).items() if count > 1]
    assert not twice, f"twice in {name}: {twice[:5]}"
    return {row["recording_id"]: row for row in rows}


def comparable(row: Row | None, moved: bool = False) -> Row | None:
    """A row without the fields that may differ between two runs: creation time and run, and the URI if the
    audio moved.
    """
    away = MOVING | ({"audio_etag"} if moved else set())
    return row and {
        **row,
        "audio": moved or row["audio"],
        "provenance": {key: value for key, value in row["provenance"].items() if key not in away},
    }


def nothing_left(out: Any) -> None:
    """Fail if a shard's row was committed twice, or if a draft, a pending commit or a lease is left."""
    rows = files.read_tables(files.join(str(out), "shards"), ["shard_id"])["shard_id"].to_pylist()
    ids = files.read_tables(files.join(str(out), "checkpoint"), ["shard_id"])["shard_id"].to_pylist()
    assert len(ids) == len(set(ids)), "a shard was committed twice"
    assert sorted(rows) == sorted(ids), "rows and committed ids are not the same"
    names = [uri for uri in files.list(str(out)) if "pending" in uri or uri.endswith((".tmp", "lease.json"))]
    if not files.is_remote(str(out)):
        names += [str(path) for path in Path(out).rglob(".*") if path.is_file()]
    assert not names, f"left behind: {names[:5]}"


def nobody_left(mark: str, patience: float = 20.0) -> None:
    """Fail if a process with `mark` in its environment is still alive after `patience` seconds (see
    `jobs.Job`).

    The orphan reaper does not count: it goes on looking for late processes for some seconds.
    """
    deadline = time.monotonic() + patience
    while alive := {
        pid: line for pid, line in marked(mark).items() if "pipelines.cluster.orphan_reaper" not in line
    }:
        assert time.monotonic() < deadline, f"still at work: {alive}"
        time.sleep(0.2)


def marked(mark: str) -> dict[int, str]:
    """The command lines, by process id, of the living processes that have `mark` in their environment."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" and mark.encode() in (entry / "environ").read_bytes():
                found[int(entry.name)] = (
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                )
        # The process has ended in the meantime, or belongs to another user.
        except OSError:
            continue
    return found
