"""Speakers through the whole job, with fake models: a pitch is a person."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from tests.actors.speakers.tones import alternating, conversation
from tests.e2e.conftest import read_transcripts, write_manifest
from tests.faults.harness.jobs import Job, committed

Scriptorium = Callable[..., int]

PEOPLE = [0, 1, 0, 2, 1, 3, 0, 2, 3, 1, 0, 1]
FAKE = (
    "asr.backend=fake",
    "aligner.backend=fake",
    "speakers.backend=fake",
    "segmenter.max_duration=10",
)


def options(*settings: str) -> list[str]:
    return [part for setting in (*FAKE, *settings) for part in ("--set", setting)]


def conversations(folder: Path) -> Path:
    """A conversation of four people in mono, and one of two on two channels."""
    tones, seconds = alternating(PEOPLE)
    soundfile.write(folder / "mono.wav", conversation(tones, seconds), 16_000)
    left = conversation([(0.5, 3.0, 0), (6.0, 9.0, 0)], 10.0)
    right = conversation([(3.0, 6.0, 0)], 10.0)
    soundfile.write(folder / "two.wav", np.stack([left, right], 1), 16_000)
    rows = [{"audio": "mono.wav", "id": "mono"}, {"audio": "two.wav", "id": "two", "channel": "each"}]
    return write_manifest(folder / "m.jsonl", rows)


def spoken(out: Path) -> dict[str, Any]:
    """What a run says about speakers: their seconds, and who says each word."""
    return {
        recording: (
            [(one["speaker"], round(one["duration"])) for one in row["speakers"]],
            [
                (round((word["start"] + word["end"]) / 2), word["speaker"])
                for segment in row["segments"]
                for word in segment["words"]
                # A word at a change may be anybody's.
                if (word["start"] + 0.1) % 4.5 < 3.8
            ],
        )
        for recording, row in read_transcripts(out).items()
    }


@pytest.mark.ray
def test_the_same_people_whether_a_recording_is_one_shard_or_six(
    scriptorium: Scriptorium, tmp_path: Path
) -> None:
    manifest, whole, parts = conversations(tmp_path), tmp_path / "whole", tmp_path / "parts"
    assert scriptorium("transcribe", manifest, whole, *options(), config=None) == 0
    assert scriptorium("transcribe", manifest, parts, *options("plan.shard_duration=10"), config=None) == 0
    rows = read_transcripts(whole)
    assert [one["speaker"] for one in rows["mono"]["speakers"]] == ["S1", "S2", "S3", "S4"]
    for out in (whole, parts):
        for middle, speaker in spoken(out)["mono"][1]:
            assert speaker == f"S{PEOPLE[min(int((middle - 0.5) // 4.5), 11)] + 1}", (out, middle)
    # Two channels with one speaker each are exact.
    segments = rows["two"]["segments"]
    assert [segment["speaker"] for segment in segments] == [
        "S1" if "channel:0" in segment["flags"] else "S2" for segment in segments
    ]
    assert {segment["speaker"] for segment in segments} == {"S1", "S2"}
    table = pq.read_table(whole / "speakers").to_pylist()
    assert sorted((row["recording_id"], row["speaker"]) for row in table) == [
        *(("mono", f"S{number}") for number in (1, 2, 3, 4)),
        ("two", "S1"),
        ("two", "S2"),
    ]
    assert {row["model"] for row in table if row["recording_id"] == "mono"} == {"fake 1"}
    assert scriptorium("speakers", whole, "--link") == 0
    assert scriptorium("export", whole, "rttm", tmp_path / "who.rttm", config=None) == 0
    assert (tmp_path / "who.rttm").read_text().count("SPEAKER mono 1") == len(PEOPLE)


@pytest.mark.slow
@pytest.mark.faults
def test_speakers_are_the_same_after_kill_9_and_resume(tmp_path: Path) -> None:
    tones, seconds = alternating(PEOPLE)
    rows = []
    for number in range(6):
        soundfile.write(tmp_path / f"{number}.wav", conversation(tones, seconds), 16_000)
        rows.append({"audio": f"{number}.wav", "id": str(number)})
    manifest = write_manifest(tmp_path / "m.jsonl", rows)
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    settings = (*FAKE, "plan.shard_duration=10", "plan.task_seconds=10", "asr.model=fake:0.1")
    job = Job("transcribe", manifest, calm, settings=settings, log=tmp_path / "calm.log")
    assert job.wait() == 0
    job = Job("transcribe", manifest, killed, settings=settings, log=tmp_path / "killed.log")
    while committed(killed) < 5 and job.process.poll() is None:
        time.sleep(0.05)
    job.kill()
    job.end()
    assert 5 <= committed(killed) < 36
    again = Job("transcribe", manifest, killed, settings=settings, log=tmp_path / "again.log")
    assert again.wait() == 0
    assert spoken(calm) == spoken(killed)
    tables = [
        sorted(
            (row["recording_id"], row["speaker"], row["duration"], row["centroid"])
            for row in pq.read_table(out / "speakers").to_pylist()
        )
        for out in (calm, killed)
    ]
    assert tables[0] == tables[1]
