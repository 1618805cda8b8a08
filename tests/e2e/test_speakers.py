"""Speakers through the whole job, with fake models: a pitch is a person."""

import time
from collections.abc import Callable
from pathlib import Path

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


def turns_of(out: Path, recording: str) -> list[tuple[float, float, str]]:
    """Who speaks when, by OUT/speakers."""
    return sorted(
        (turn["start"], turn["end"], row["speaker"])
        for row in pq.read_table(out / "speakers").to_pylist()
        for turn in row["turns"]
        if row["recording_id"] == recording
    )


def words_of(out: Path) -> list[tuple[str, float, float, str | None]]:
    """Recording, times and speaker of each word."""
    return [
        (recording, word["start"], word["end"], word["speaker"])
        for recording, row in sorted(read_transcripts(out).items())
        for segment in row["segments"]
        for word in segment["words"]
    ]


@pytest.mark.ray
def test_the_same_people_whether_a_recording_is_one_shard_or_six(
    scriptorium: Scriptorium, tmp_path: Path
) -> None:
    manifest, whole, parts = conversations(tmp_path), tmp_path / "whole", tmp_path / "parts"
    assert scriptorium("transcribe", manifest, whole, *options(), config=None) == 0
    assert scriptorium("transcribe", manifest, parts, *options("plan.shard_duration=10"), config=None) == 0
    rows = read_transcripts(whole)
    assert [one["speaker"] for one in rows["mono"]["speakers"]] == ["S1", "S2", "S3", "S4"]
    found = turns_of(whole, "mono"), turns_of(parts, "mono")
    for turns in found:
        assert [speaker for _, _, speaker in turns] == [f"S{person + 1}" for person in PEOPLE]
    times = [np.array([(start, end) for start, end, _ in turns]) for turns in found]
    assert np.allclose(times[0], times[1], atol=0.15)
    for out, turns in zip((whole, parts), found, strict=True):
        inside = 0
        for _, start, end, speaker in (word for word in words_of(out) if word[0] == "mono"):
            of_turn = {who for first, last, who in turns if first <= start and end <= last}
            inside += bool(of_turn)
            assert not of_turn or of_turn == {speaker}
        assert inside > 60
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
@pytest.mark.timeout(1200)
def test_speakers_are_the_same_after_kill_9_and_resume(tmp_path: Path) -> None:
    tones, seconds = alternating(PEOPLE)
    rows = []
    for number in range(6):
        soundfile.write(tmp_path / f"{number}.wav", conversation(tones, seconds), 16_000)
        rows.append({"audio": f"{number}.wav", "id": str(number)})
    manifest = write_manifest(tmp_path / "m.jsonl", rows)
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    settings = (*FAKE, "plan.shard_duration=10", "plan.task_seconds=10", "asr.model=fake:0.05")
    job = Job("transcribe", manifest, calm, settings=settings, log=tmp_path / "calm.log")
    assert job.wait(600) == 0
    job = Job("transcribe", manifest, killed, settings=settings, log=tmp_path / "killed.log")
    while committed(killed) < 5 and job.process.poll() is None:
        time.sleep(0.05)
    job.kill()
    job.end()
    assert 5 <= committed(killed) < 36
    again = Job("transcribe", manifest, killed, settings=settings, log=tmp_path / "again.log")
    assert again.wait(600) == 0
    assert words_of(calm) == words_of(killed)
    tables = [
        sorted(
            (row["recording_id"], row["speaker"], row["duration"], row["centroid"])
            for row in pq.read_table(out / "speakers").to_pylist()
        )
        for out in (calm, killed)
    ]
    assert tables[0] == tables[1]
