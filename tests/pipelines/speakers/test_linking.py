"""The same voice across recordings."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.errors import UsageError
from pipelines.cli import main
from pipelines.schema import RECORDING_SPEAKER
from pipelines.speakers.linking import link


def voice(person: int, seed: int) -> list[float]:
    rng = np.random.default_rng(seed)
    vector = np.eye(64)[person] + 0.3 * rng.normal(size=64) / 8
    return (vector / np.linalg.norm(vector)).tolist()


def make_output(folder: Path, *rows: tuple[str, str, int | None, float], model: str = "campplus 1") -> str:
    table = [
        {
            "recording_id": recording, "speaker": speaker, "name": None, "score": None, "duration": seconds,
            "centroid": None if person is None else voice(person, number), "quality": 0.8, "turns": [],
            "model": None if person is None else model, "run_id": "run",
            "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        }
        for number, (recording, speaker, person, seconds) in enumerate(rows)
    ]  # fmt: skip
    (folder / "speakers").mkdir(parents=True)
    pq.write_table(
        pa.Table.from_pylist(table, schema=RECORDING_SPEAKER), folder / "speakers" / f"{model}.parquet"
    )
    return str(folder)


def voices(linked):
    return {(row["recording_id"], row["speaker"]): row["voice"] for row in linked.rows}


def test_a_person_is_one_voice_in_all_recordings(tmp_path: Path) -> None:
    out = make_output(
        tmp_path, ("a", "S1", 0, 30.0), ("a", "S2", 1, 9.0), ("b", "S1", 1, 8.0), ("c", "S1", 0, 20.0)
    )
    linked = link(out)
    assert voices(linked) == {("a", "S1"): "V1", ("c", "S1"): "V1", ("a", "S2"): "V2", ("b", "S1"): "V2"}
    assert linked.voices == 2 and all(row["similarity"] > 0.8 for row in linked.rows)


def test_two_speakers_of_one_recording_are_never_one_voice(tmp_path: Path) -> None:
    out = make_output(tmp_path, ("a", "S1", 0, 30.0), ("a", "S2", 0, 9.0), ("b", "S1", 0, 20.0))
    found = voices(link(out))
    assert found["a", "S1"] != found["a", "S2"]


def test_channels_have_no_voice(tmp_path: Path) -> None:
    linked = link(make_output(tmp_path, ("a", "S1", None, 3.0), ("b", "S1", 0, 3.0)))
    assert linked.without_voice == 1 and len(linked.rows) == 1


def test_an_output_without_voices_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"speakers\.backend"):
        link(str(tmp_path))


def test_the_command_writes_the_voices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = make_output(tmp_path, ("a", "S1", 0, 30.0), ("b", "S1", 0, 9.0))
    assert main(["speakers", out, "--link"]) == 0
    assert "1 voice among 2 speakers" in capsys.readouterr().out
    assert pq.read_table(tmp_path / "voices.parquet")["voice"].to_pylist() == ["V1", "V1"]


def test_the_command_lists_speakers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = make_output(tmp_path, ("a", "S1", 0, 30.0), ("b", "S1", 0, 9.0))
    assert main(["speakers", out]) == 0
    assert "2 speakers in 2 recordings" in capsys.readouterr().out


def test_a_threshold_needs_link(tmp_path: Path) -> None:
    assert main(["speakers", str(tmp_path), "--threshold", "0.5"]) == 2


def test_thousands_of_voices_are_linked(tmp_path: Path) -> None:
    rows = [(f"r{number:04d}", "S1", number % 40, 5.0 + number % 7) for number in range(1600)]
    linked = link(make_output(tmp_path, *rows))
    assert linked.voices == 40
    persons = {}
    for row in linked.rows:
        persons.setdefault(row["voice"], set()).add(int(row["recording_id"][1:]) % 40)
    assert all(len(people) == 1 for people in persons.values())
