"""OUT/speakers: written with the transcripts, and read for RTTM."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from actors.speakers.assignment import SpeakerTurn
from pipelines.export.documents.scoring_files import rttm
from pipelines.output import speakers
from pipelines.stitching.speakers import Speaker

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TRANSCRIPT = {"recording_id": "r", "provenance": {"run_id": "run", "created_at": NOW}}


def people(model="campplus 1"):
    turns = [[SpeakerTurn(0.0, 2.5, "S1"), SpeakerTurn(5.0, 6.0, "S1")], [SpeakerTurn(2.0, 5.0, "S2")]]
    return [
        Speaker(f"S{number}", own, np.eye(4)[number], 0.8, model, "Anna" if number == 2 else None, 0.7)
        for number, own in enumerate(turns, 1)
    ]


def test_a_row_has_what_a_speaker_is(tmp_path: Path) -> None:
    speakers.write(str(tmp_path), "run-a.parquet", speakers.rows_of(TRANSCRIPT, people()), "zstd")
    first, second = speakers.read(str(tmp_path)).to_pylist()
    assert (first["speaker"], first["duration"], first["quality"]) == ("S1", 3.5, 0.8)
    assert second["centroid"] == [0.0, 0.0, 1.0, 0.0] and second["name"] == "Anna"


def test_no_file_without_speakers(tmp_path: Path) -> None:
    speakers.write(str(tmp_path), "run-a.parquet", [], "zstd")
    assert not (tmp_path / "speakers").exists() and not speakers.read(str(tmp_path)).num_rows


def test_speakers_without_transcripts_are_removed(tmp_path: Path) -> None:
    for name in ("a.parquet", "b.parquet"):
        speakers.write(str(tmp_path), name, speakers.rows_of(TRANSCRIPT, people()), "zstd")
    (tmp_path / "transcripts").mkdir()
    (tmp_path / "transcripts" / "a.parquet").touch()
    speakers.remove_orphans(str(tmp_path))
    assert [path.name for path in (tmp_path / "speakers").iterdir()] == ["a.parquet"]


def test_turns_of_voices_become_rttm(tmp_path: Path) -> None:
    speakers.write(str(tmp_path), "a.parquet", speakers.rows_of(TRANSCRIPT, people()), "zstd")
    turns = speakers.turns_of_file(str(tmp_path / "transcripts" / "a.parquet"))["r"]
    row = {
        "recording_id": "r",
        "turns": turns,
        "speakers": [{"speaker": "S2", "name": "Anna"}],
        "segments": [],
    }
    assert rttm(row) == (
        "SPEAKER r 1 0.000 2.500 <NA> <NA> S1 <NA> <NA>\n"
        "SPEAKER r 1 2.000 3.000 <NA> <NA> Anna <NA> <NA>\n"
        "SPEAKER r 1 5.000 1.000 <NA> <NA> S1 <NA> <NA>\n"
    )


def test_channels_have_no_turns_of_voices(tmp_path: Path) -> None:
    speakers.write(str(tmp_path), "a.parquet", speakers.rows_of(TRANSCRIPT, people(None)), "zstd")
    assert speakers.turns_of_file(str(tmp_path / "transcripts" / "a.parquet")) == {}
    assert speakers.turns_of_file(str(tmp_path / "transcripts" / "other.parquet")) == {}
