"""A folder of audio files with metadata.csv or metadata.jsonl, as Hugging Face's audiofolder has it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.errors import UsageError
from pipelines.manifests.manifest import Recording, read_manifest

ROWS = [
    {"file_name": "a.wav", "text": "one", "language": "en", "shelf": "A"},
    {"file_name": "deep/b.wav", "text": "two", "language": "de", "shelf": "B"},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    for name in ("a.wav", "deep/b.wav"):
        (tmp_path / name).touch()
    return tmp_path


def write(path: Path, rows: list[dict[str, str]]) -> None:
    if path.suffix == ".csv":
        lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(folder: Path, **names: str) -> dict[str, Recording]:
    return {recording.id: recording for recording in read_manifest(str(folder), names or None)}


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_metadata_is_joined_by_file_name(folder: Path, suffix: str) -> None:
    write(folder / f"metadata.{suffix}", ROWS)
    found = read(folder)
    assert list(found) == ["a.wav", "deep/b.wav"]
    second = found["deep/b.wav"]
    assert (second.text, second.language) == ("two", "de")
    assert second.audio == str(folder / "deep/b.wav")
    assert second.metadata["shelf"] == "B"


def test_tables_of_splits_may_use_the_same_names(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "0.wav").touch()
        write(tmp_path / split / "metadata.csv", [{"file_name": "0.wav", "text": split}])
    found = read(tmp_path)
    assert {name: recording.text for name, recording in found.items()} == {
        "train/0.wav": "train",
        "test/0.wav": "test",
    }


def test_files_without_a_row_and_rows_without_a_file_are_not_lost(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(folder / "metadata.jsonl", [ROWS[0], {"file_name": "gone.wav", "text": "three"}])
    found = read(folder)
    assert list(found) == ["a.wav", "gone.wav", "deep/b.wav"]
    assert found["deep/b.wav"].text is None
    assert "1 file not in metadata.jsonl: transcribed without columns" in caplog.text


def test_an_id_and_names_of_columns_are_respected(folder: Path) -> None:
    write(folder / "metadata.jsonl", [{**row, "key": f"k{n}"} for n, row in enumerate(ROWS)])
    assert list(read(folder, id="key")) == ["k0", "k1"]


@pytest.mark.parametrize("content", ["LJ001-0001|Printing|Printing\n", "name,size\na,1\n", "", "{}\n"])
def test_another_file_of_that_name_is_passed_over(
    folder: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "metadata.csv").write_text(content)
    assert list(read(folder)) == ["a.wav", "deep/b.wav"]
    assert "1 file passed over: .csv 1" in caplog.text


def test_a_file_that_is_described_twice_is_refused(folder: Path) -> None:
    write(folder / "metadata.csv", [ROWS[0], ROWS[0]])
    with pytest.raises(UsageError, match=r"metadata.csv:3: .*'a.wav' is already"):
        read(folder)
