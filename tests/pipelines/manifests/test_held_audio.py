"""Less usual tables and archives with audio: types of bytes, files of macOS, links, lists of names."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.audio.sources import open_audio
from tests.pipelines.manifests.samples import read
from tests.pipelines.manifests.test_containers import archive, content

FIRST, SECOND = b"first audio", b"other audio"
STRUCT = [("bytes", pa.large_binary()), ("path", pa.large_string()), ("sampling_rate", pa.int64())]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([FIRST, SECOND], pa.binary()),
        pa.array([FIRST, SECOND], pa.large_binary()),
        pa.array([FIRST, SECOND], pa.binary(len(FIRST))),
        pa.array([FIRST, SECOND]).dictionary_encode(),
        pa.array(
            [{"bytes": one, "path": None, "sampling_rate": 8000} for one in (FIRST, SECOND)],
            pa.struct(STRUCT),
        ),
    ],
    ids=["binary", "large", "fixed size", "dictionary", "struct with more fields"],
)
@pytest.mark.parametrize(
    "options", [{}, {"compression": "zstd", "data_page_version": "2.0", "row_group_size": 1}]
)
def test_every_type_of_bytes_is_audio(column: Any, options: dict[str, Any], tmp_path: Path) -> None:
    pq.write_table(pa.table({"audio": column, "text": ["a", "b"]}), tmp_path / "t.parquet", **options)
    found = read(tmp_path / "t.parquet")
    assert [content(recording) for recording in found] == [FIRST, SECOND]
    assert [recording.text for recording in found] == ["a", "b"]


def test_what_macos_stores_about_a_file_is_no_recording(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "x.tar").write_bytes(archive({"._a.wav": b"finder", "a.wav": FIRST}))
    assert [content(recording) for recording in read(tmp_path / "x.tar")] == [FIRST]
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("._a.wav", "a.wav"):
        (folder / name).touch()
    assert [recording.id for recording in read(folder)] == ["a.wav"]
    # Hidden files of a folder are not listed at all.
    assert caplog.text.count("1 file passed over: .wav 1") == 1


def test_a_list_of_names_stands_for_several_archives(tmp_path: Path) -> None:
    for name in ("train-0", "train-1", "dev-0"):
        (tmp_path / f"{name}.tar").write_bytes(archive({"a.wav": name.encode()}))
    found = read(f"{tmp_path}/{{train-0,dev-0}}.tar")
    assert [content(recording) for recording in found] == [b"train-0", b"dev-0"]
    found = read(f"{tmp_path}/{{train,dev}}-{{0..0}}.tar")
    assert [content(recording) for recording in found] == [b"train-0", b"dev-0"]


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_found_in_every_format_of_archives(kind: int, tmp_path: Path) -> None:
    """Names that are long, in folders, with other letters; the text beside a member in its folder."""
    names = ["deep/er/a.wav", "./b.wav", "ä ö/é.wav"]
    if kind != tarfile.USTAR_FORMAT:
        names.append("very/" * 40 + "long_" * 20 + "name.wav")
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=kind) as tar:
        for name, data in {**dict.fromkeys(names, FIRST), "deep/er/a.txt": b"spoken\n"}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    (tmp_path / "x.tar").write_bytes(sink.getvalue())
    found = read(tmp_path / "x.tar")
    assert [recording.id for recording in found] == [f"x.tar#{name}" for name in names]
    assert [content(recording) for recording in found] == [FIRST] * len(names)
    assert found[0].text == "spoken"
    # The address that is stored finds the member as well.
    with open_audio(found[-1].audio) as file:
        assert file.read(100) == FIRST
