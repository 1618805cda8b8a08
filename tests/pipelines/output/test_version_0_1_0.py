"""An output directory that version 0.1.0 left half done is read and taken up by this version.

`data/run-0.1.0.tar.xz` was made by that version on `tones` below, with `SETTINGS`: a first run over `short`
and `broken` finished; a second run over all four recordings was killed after three of the seven shards of
`long`. Only the host name was replaced.
"""

from __future__ import annotations

import json
import os
import tarfile
import wave
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from actors.errors import UsageError
from pipelines.config import load_config
from pipelines.evaluation import outputs
from pipelines.manifests.manifest import read_manifest
from pipelines.output import plans, run_record, saved_settings, shards, transcripts
from pipelines.planning import planner
from pipelines.reporting import report, status
from pipelines.storage import files

SETTINGS = [
    "asr.backend=fake",
    "aligner.backend=fake",
    "asr.model=fake:0.15",
    "plan.shard_duration=10",
    "plan.task_seconds=10",
    "segmenter.max_duration=10",
    "asr.openai.retries=3",
    "cluster.num_cpus=2",
]
# The defaults of then.
DEFAULTS = [
    "segmenter.backend=energy",
    "segmenter.silence_dbfs=-60",
    "guards.enabled=false",
    "repair.enabled=false",
]
CONFIG = load_config(None, [*SETTINGS, *DEFAULTS])
ARCHIVE = "/srv/archive"  # where the audio was
SECONDS = {"short": 4, "long": 62, "late": 3}


def tone(path: Path, seconds: int, seed: int) -> None:
    """Write tones that change twice a second, with a pause after every 6.4 s; equal to the file of then."""
    sample = np.arange(seconds * 16_000)
    pitch = 200 + 40 * ((sample // 8_000) * (seed + 3) % 11)
    samples = 8_000 * np.sin(2 * np.pi * pitch * sample / 16_000) * ((sample % 112_000) < 102_400)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.astype("<i2").tobytes())


def tones(folder: Path) -> Path:
    """Write the audio and the manifest of the run; returns the manifest. The etags are those in the plan."""
    folder.mkdir()
    for seed, (name, seconds) in enumerate(SECONDS.items(), 1):
        tone(folder / f"{name}.wav", seconds, seed)
    (folder / "broken.wav").write_bytes(b"RIFF, but no more")
    for path in folder.iterdir():
        os.utime(path, (1_700_000_000, 1_700_000_000))
    manifest = folder / "m.jsonl"
    rows = [
        {"id": name, "audio": f"{name}.wav", "series": "tones"}
        for name in ("short", "broken", "long", "late")
    ]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return manifest


@pytest.fixture
def out(tmp_path: Path) -> str:
    """The output directory that version 0.1.0 left."""
    with tarfile.open(Path(__file__).with_name("data") / "run-0.1.0.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return str(tmp_path / "out")


def left(out: str) -> list[tuple[str, int]]:
    rows = shards.left_to_do(planner.read_plan(out), out).to_pylist()
    return [(row["recording_id"], row["index"]) for row in rows]


def do_the_rest(out: str, run_id: str) -> None:
    """Commit a result for every shard that is left, as Ray would."""
    rows = [
        {
            **row,
            "status": "ok",
            "flags": [],
            "segments": [],
            "decoded_start": row["start"],
            "decoded_end": row["end"] or row["duration"],
            "run_id": run_id,
            "created_at": datetime.now(UTC),
        }
        for row in shards.left_to_do(planner.read_plan(out), out).to_pylist()
    ]
    shards.append(out, rows, "rest")


def stitch(out: str, run_id: str) -> tuple[int, int]:
    arguments = (CONFIG.hash(), "new", run_id, "zstd")
    return transcripts.stitch_all(
        out,
        transcripts.unstitched(out, 100),
        lambda batches: [transcripts.stitch_batch(out, batch, *arguments) for batch in batches],
    )


def test_the_same_settings_are_accepted_and_others_are_refused(out: str) -> None:
    assert run_record.require(out)["version"] == "0.1.0"
    run_id, record = run_record.open_run(out, CONFIG, "transcribe", "m.jsonl")
    assert [run["finished_at"] is None for run in record["runs"]] == [False, True, True]
    assert record["runs"][-1]["run_id"] == run_id
    with pytest.raises(UsageError, match=r"other settings \(asr\.language\)"):
        run_record.open_run(
            out, load_config(None, [*SETTINGS, *DEFAULTS, "asr.language=de"]), "transcribe", "m.jsonl"
        )


def test_the_same_command_keeps_the_defaults_of_then(out: str) -> None:
    config = saved_settings.with_former_defaults(load_config(None, SETTINGS), run_record.require(out))
    assert (config.segmenter.backend, config.segmenter.silence_dbfs) == ("energy", -60)
    assert config.hash() == CONFIG.hash()
    run_record.open_run(out, config, "transcribe", "m.jsonl")
    assert run_record.require(out)["config"]["segmenter"]["silence_dbfs"] == -60


def test_a_given_setting_is_not_replaced_by_the_default_of_then(out: str) -> None:
    given = load_config(None, [*SETTINGS, "segmenter.silence_dbfs=-50"])
    config = saved_settings.with_former_defaults(given, run_record.require(out))
    assert config.segmenter.silence_dbfs == -50
    with pytest.raises(UsageError, match=r"other settings \(segmenter\.silence_dbfs\)"):
        run_record.open_run(out, config, "transcribe", "m.jsonl")


def test_a_new_output_and_one_with_other_settings_keep_the_present_defaults(out: str) -> None:
    config = load_config(None, SETTINGS)
    assert saved_settings.with_former_defaults(config, None) is config
    record = run_record.require(out)
    record["identity"]["segmenter"] |= {"backend": "silero", "silence_dbfs": -40}
    record["identity"] |= {"guards": {"enabled": True}, "repair": {"max_share": 0.02}}
    assert saved_settings.with_former_defaults(config, record) is config


def test_the_saved_settings_are_loaded_under_their_present_names(
    out: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = saved_settings.load_settings(out, run_record.require(out))
    assert config.hash() == CONFIG.hash()
    # Values as of then, also where the default is another one today.
    assert (config.asr.remote.retries, config.cluster.num_cpus, config.asr.max_batch_size) == (3, 2, 128)
    assert not caplog.records


def test_only_the_uncommitted_shards_are_left_to_do(out: str) -> None:
    assert shards.recover(out) == 0
    assert plans.clear_leftovers(out) == 0
    assert left(out) == [("long", 3), ("long", 4), ("long", 5), ("long", 6), ("late", 0)]


def test_known_recordings_are_not_planned_again(out: str, tmp_path: Path) -> None:
    manifest = tones(tmp_path / "audio")
    before = planner.read_plan(out)
    assert planner.extend_plan(out, read_manifest(str(manifest)), CONFIG, "new") == 0
    assert planner.read_plan(out).equals(before)


def test_old_and_new_shards_are_stitched_into_one_transcript(out: str) -> None:
    assert stitch(out, "new") == (0, 0)
    do_the_rest(out, "new")
    assert left(out) == []
    assert stitch(out, "new") == (2, 0)
    (written,) = Path(out, "transcripts").glob("new-*.parquet")
    rows = {row["recording_id"]: row for row in pq.read_table(written).to_pylist()}
    assert rows.keys() == {"long", "late"}
    assert rows["long"]["text"].startswith("Rize zuvura se narofo") and rows["late"]["status"] == "no_speech"
    assert rows["long"]["provenance"]["config_hash"] == run_record.require(out)["config_hash"]
    assert report.build(out)["exact"]


def test_its_transcripts_are_evaluated(out: str) -> None:
    (row,) = outputs.read_transcripts(out)
    assert row["recording_id"] == "short"
    assert {segment["min_confidence"] for segment in row["segments"]} <= {None}
    assert {word["confidence"] for segment in row["segments"] for word in segment["words"]} == {None}


def test_its_dead_letter_is_planned_again(out: str, tmp_path: Path) -> None:
    attempts = {row["recording_id"]: row["attempts"] for row in transcripts.dead_letters(out)}
    assert attempts == {"broken": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert planner.plan_again(out, attempts, "retry", CONFIG) == 1
    assert ("broken", 0) in left(out)


def test_its_progress_and_its_report_are_read(out: str) -> None:
    state: dict[str, Any] = status.read(out)
    assert (state["recordings"], state["transcripts"], state["dead_letters"]) == (4, 1, 1)
    assert (state["shards_done"], state["shards"]) == (5, 10)
    # Half of a recording is none.
    assert state["recordings_committed"] == 2
    assert state["progress"]["line"].startswith("2 of 4 recordings")
    found = report.write(out)
    assert found["discrepancies"] == {"in_neither_table": 2, "twice": 0, "in_no_plan": 0}
    # That version recorded neither silence nor machines, but the times at which shards were stored.
    assert found["speech_ratio"] is None and found["cost"]["cost"] is None
    assert [run["audio_seconds"] > 0 for run in found["throughput"].values()] == [True, True]
    page = files.read_bytes(files.join(out, "report.html")).decode()
    assert "The time of stages was not recorded" in page


@pytest.mark.slow
@pytest.mark.ray
def test_the_run_goes_on_to_its_end(out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.cli import main

    manifest = tones(tmp_path / "audio")
    for path in Path(out, "plan").iterdir():
        table = pq.read_table(path)
        audio = [name.replace(ARCHIVE, str(manifest.parent)) for name in table["audio"].to_pylist()]
        number = table.column_names.index("audio")
        pq.write_table(table.set_column(number, table.schema.field(number), [audio]), path)
    trace = tmp_path / "trace"
    trace.mkdir()
    monkeypatch.setenv("SCRIPTORIUM_FAKE_TRACE", str(trace))
    overrides = [word for setting in SETTINGS for word in ("--set", setting)]
    assert main(["transcribe", str(manifest), out, *overrides]) == 3
    recognised = [
        float(line.split()[1]) for path in trace.iterdir() for line in path.read_text().splitlines()
    ]
    # The committed shards of `long` end at 27.7 s; they were not recognised again.
    assert 30 < sum(recognised) < SECONDS["long"] - 26 + SECONDS["late"]
    state = report.build(out)
    assert state["exact"] and (state["transcripts"], state["by_error"]) == (3, {"bad_header": 1})
    text = {
        row["recording_id"]: row["text"]
        for path in Path(out, "transcripts").iterdir()
        for row in pq.read_table(path).to_pylist()
    }
    assert text["long"].startswith("Rize zuvura se narofo") and text["late"]
