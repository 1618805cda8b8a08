"""Recordings become shards with stable ids."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from actors.errors import RetryableError, RowError, UsageError
from actors.records import Probe
from pipelines.config import RunConfig
from pipelines.manifests.manifest import Recording
from pipelines.planning import planner
from pipelines.schema import PLAN
from pipelines.storage import files, parquet

CONFIG = RunConfig()


def recording(name: str, **given: Any) -> Recording:
    columns = {
        "language": None,
        "context": None,
        "text": None,
        "duration": None,
        "channel": None,
        "metadata": {},
        "origin": "m:1",
    }
    return Recording(**{"id": name, "audio": f"/audio/{name}", **columns, **given})


def probing(durations: dict[str, float | Exception | None], size: int = 10**9) -> Callable[..., Probe]:
    """A probe that answers by file name, without reading anything."""

    def probe(uri: str, scan: bool = False) -> Probe:
        found = durations[files.name_of(uri)]
        if isinstance(found, Exception):
            raise found
        return Probe(found, "pcm_s16le", "wav", 16000, 1, size, "etag-1")

    return probe


def plan(
    durations: dict[str, Any], config: RunConfig = CONFIG, size: int = 10**9, **options: Any
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = planner.plan_table(
        [recording(name) for name in durations], config, probe=probing(durations, size), **options
    ).to_pylist()
    return rows


def spans(rows: list[dict[str, Any]], name: str) -> list[tuple[float, float | None]]:
    return [(row["start"], row["end"]) for row in rows if row["recording_id"] == name]


def test_shards_are_equal_spans_within_the_limit() -> None:
    rows = plan({"short": 30.0, "limit": 600.0, "over": 600.4, "long": 3601.0})
    assert spans(rows, "short") == [(0.0, None)]
    assert spans(rows, "limit") == [(0.0, None)]
    assert spans(rows, "over") == [(0.0, 300.2), (300.2, None)]
    found = spans(rows, "long")
    assert len(found) == 7
    assert [start for start, _ in found[1:]] == [end for _, end in found[:-1]]
    assert found[-1] == (pytest.approx(3601 * 6 / 7, abs=1e-3), None)
    assert all(end - start <= 600 for start, end in found[:-1] if end is not None)
    assert [(row["index"], row["shard_count"]) for row in rows if row["recording_id"] == "over"] == [
        (0, 2),
        (1, 2),
    ]
    assert rows[0].keys() == {*PLAN.names, "probe_error"}
    assert (rows[0]["codec"], rows[0]["etag"], rows[0]["audio_bytes"], rows[0]["attempt"]) == (
        "pcm_s16le",
        "etag-1",
        10**9,
        1,
    )


def test_the_order_is_unknown_durations_then_longest_first_then_unreadable_ones() -> None:
    rows = plan({"a": 5.0, "broken": RowError("no", "not_audio"), "b": 900.0, "unknown": None, "c": 5.0})
    assert [row["recording_id"] for row in rows] == ["unknown", "b", "b", "a", "c", "broken"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RowError("x", "empty_file"), "empty_file"),
        (RetryableError("x", "storage_unavailable"), "storage_unavailable"),
        (FileNotFoundError("x"), "audio_not_found"),
        (ZeroDivisionError("x"), "internal_error"),
    ],
)
def test_an_unreadable_file_keeps_its_row(error: Exception, code: str) -> None:
    (row,) = plan({"broken": error})
    assert (row["recording_id"], row["index"], row["shard_count"], row["start"], row["end"]) == (
        "broken",
        0,
        1,
        0.0,
        None,
    )
    assert (row["duration"], row["etag"], row["probe_error"]) == (None, None, code)
    assert row["shard_id"]


@pytest.mark.parametrize("claim", [float("nan"), float("inf"), 0.0, -3.0, 1e12])
def test_an_absurd_duration_counts_as_unknown(claim: float) -> None:
    (row,) = plan({"liar": claim})
    assert (row["duration"], row["shard_count"]) == (None, 1)


def test_only_large_files_are_scanned_for_their_duration() -> None:
    scans: list[bool] = []

    def probe(uri: str, scan: bool = False) -> Probe:
        scans.append(scan)
        return Probe(1200.0 if scan else None, "mp3", "mp3", 44100, 2, size, "e")

    size = 2 * planning_scan_bytes()
    rows = planner.plan_table([recording("x.mp3")], CONFIG, probe=probe).to_pylist()
    assert (scans, len(rows)) == ([False, True], 2)
    scans.clear()
    size = planning_scan_bytes() // 2
    rows = planner.plan_table([recording("x.mp3")], CONFIG, probe=probe).to_pylist()
    assert (scans, len(rows)) == ([False], 1)


def planning_scan_bytes() -> int:
    from actors.audio.probing import SCAN_BYTES

    return SCAN_BYTES


def test_shard_ids_are_stable_and_differ_between_spans_objects_and_settings() -> None:
    def ids(config: RunConfig = CONFIG, etag: str = "e", name: str = "x", **options: Any) -> list[str]:
        def probe(uri: str, scan: bool = False) -> Probe:
            return Probe(1500.0, "flac", "flac", 48000, 2, 10**6, etag)

        table = planner.plan_table([recording(name)], config, probe=probe, **options)
        return table["shard_id"].to_pylist()

    assert ids() == ids()
    assert [len(one) for one in ids()] == [24, 24, 24]
    variants = [
        ids(),
        ids(etag="other"),
        ids(name="y"),
        ids(RunConfig.model_validate({"audio": {"channel": "left"}})),
        ids(RunConfig.model_validate({"segmenter": {"max_duration": 30}})),
        ids(RunConfig.model_validate({"plan": {"shard_duration": 800}})),
    ]
    everything = [one for variant in variants for one in variant]
    assert len(set(everything)) == len(everything)
    # Settings that only change where and how fast it runs do not change the ids.
    assert (
        ids(
            RunConfig.model_validate(
                {"asr": {"device": "cuda"}, "plan": {"task_seconds": 7, "probe_concurrency": 1}}
            )
        )
        == ids()
    )


def test_a_whole_recording_is_one_shard() -> None:
    rows = plan({"long": 4000.0}, whole=True)
    assert spans(rows, "long") == [(0.0, None)]
    assert rows[0]["shard_id"] not in {row["shard_id"] for row in plan({"long": 4000.0})}


def test_manifest_columns_and_defaults_reach_the_rows() -> None:
    config = RunConfig.model_validate({"asr": {"context": "default"}, "audio": {"channel": "left"}})
    given = [
        recording(
            "a", language="de", context="own", text="t", channel="1", metadata={"k": "é", "half": "\ud800"}
        ),
        recording("b"),
    ]
    a, b = planner.plan_table(given, config, probe=probing({"a": 2.0, "b": 1.0})).to_pylist()
    assert (a["language"], a["context"], a["text"], a["channel"]) == ("de", "own", "t", "1")
    assert json.loads(a["metadata"]) == {"k": "é", "half": "\ud800"}
    assert (b["language"], b["context"], b["text"], b["channel"], b["metadata"]) == (
        None,
        "default",
        None,
        "left",
        "{}",
    )


def test_trusted_durations_are_not_probed() -> None:
    config = RunConfig.model_validate({"plan": {"trust_durations": True}})

    def probe(uri: str, scan: bool = False) -> Probe:
        assert uri == "/audio/unclaimed"
        return Probe(10.0, "flac", "flac", 48000, 2, 10**6, "e")

    rows = planner.plan_table(
        [recording("claimed", duration=700.0), recording("unclaimed")], config, probe=probe
    ).to_pylist()
    assert [(row["recording_id"], row["duration"], row["codec"]) for row in rows] == [
        ("claimed", 700.0, None),
        ("claimed", 700.0, None),
        ("unclaimed", 10.0, "flac"),
    ]


def test_claimed_durations_are_ignored_unless_trusted() -> None:
    (row,) = planner.plan_table(
        [recording("a", duration=7000.0)], CONFIG, probe=probing({"a": 5.0})
    ).to_pylist()
    assert row["duration"] == 5.0


def test_probing_is_parallel_but_bounded_and_in_order() -> None:
    config = RunConfig.model_validate({"plan": {"probe_concurrency": 4}})
    names = [f"r{number:03d}" for number in range(60)]
    lock, all_running = threading.Lock(), threading.Barrier(4)
    running, most = 0, 0

    def probe(uri: str, scan: bool = False) -> Probe:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        all_running.wait(timeout=60)  # passes only if four run at once
        with lock:
            running -= 1
        return Probe(float(files.name_of(uri)[1:]) + 1, "c", "c", 8000, 1, 10**6, "e")

    seen: list[tuple[int, int]] = []
    table = planner.plan_table(
        [recording(name) for name in names], config, probe=probe, progress=lambda *done: seen.append(done)
    )
    assert most == 4
    assert table["recording_id"].to_pylist() == names[::-1]
    assert seen[-1] == (60, 60)


def test_addresses_outside_the_allowed_uris_are_refused() -> None:
    config = RunConfig.model_validate({"plan": {"allowed_uris": ["s3://bucket/in", "/data"]}})
    good = [recording("a", audio="s3://bucket/in/a.wav"), recording("b", audio="/data/b.wav")]
    assert planner.collect(good, config).num_rows == 2
    for audio in (
        "s3://bucket/input/a.wav",
        "s3://bucket/a.wav",
        "/database/x",
        "https://host/a.wav",
        "s3://bucket/in/../x",
    ):
        with pytest.raises(UsageError, match=r"m:1: .* is outside of what plan\.allowed_uris allows"):
            planner.collect([recording("x", audio=audio)], config)


def test_task_seconds_follow_the_amount_of_work() -> None:
    assert planner.task_seconds(60) == 120
    assert planner.task_seconds(64 * 500) == 500
    assert planner.task_seconds(1e7) == 3600
    assert planner.task_seconds(1e9) == 50_000


def test_more_text_than_fits_into_one_array_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    """2 GiB of text are too much for a test: the limit is lowered instead."""
    recordings = [
        Recording(f"r{i}", f"/{i}.wav", None, None, f"text {i}", None, None, {"n": i}, "m:1")
        for i in range(5)
    ]

    def probe(audio: str, scan: bool = False) -> Probe:
        return Probe(
            duration=float(audio[1]) * 1000,
            codec="c",
            container="w",
            sampling_rate=1,
            channels=1,
            size_bytes=10**9,
            etag="e",
            flags=[],
        )

    plain = planner.plan_table(recordings, RunConfig(), probe=probe)
    monkeypatch.setattr(parquet, "ARRAY_BYTES", 100)  # some rows have more
    wide = planner.plan_table(recordings, RunConfig(), probe=probe)
    assert wide.equals(plain) and wide.schema == plain.schema and wide["text"].num_chunks > 1
    assert planner.plan_table(planner.RECORDINGS.empty_table(), RunConfig(), probe=probe).num_rows == 0


def test_the_finished_shards_of_partly_done_recordings_are_counted() -> None:
    rows = [("a", 0, 3), ("a", 2, 3), ("b", 0, 1), ("c", 1, 4)]
    todo = pa.table(
        {
            name: list(column)
            for name, column in zip(
                ("recording_id", "index", "shard_count"), zip(*rows, strict=True), strict=True
            )
        }
    )
    assert planner.begun(todo) == {"a": 1, "c": 3}
    assert planner.begun(todo.slice(0, 0)) == {}
