"""Manifests that hold or name the parts of other files: archives, tables with audio, Kaldi's folders,
folders.
"""

from __future__ import annotations

import io
import json
import logging
import os
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.audio.files.slices import parse_slice
from actors.audio.formats.allowed import format_options
from actors.audio.sources import open_audio
from actors.errors import UsageError
from pipelines.manifests.folders import AUDIO_SUFFIXES
from pipelines.manifests.manifest import Recording
from pipelines.storage import files
from tests.pipelines.manifests.samples import jsonl, parquet, read, write


def archive(members: dict[str, bytes], mode: str = "w") -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode=mode) as tar:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def content(recording: Recording) -> bytes:
    with open_audio(recording.location or recording.audio) as file:
        data: bytes = file.read()
        return data


SAMPLES = {
    "a/1.flac": b"one",
    "a/1.json": json.dumps({"text": "eins", "language": "de", "start": 7, "id": "x"}).encode(),
    "a/1.cls": b"3",
    "a/2.mic.wav": b"two",
    "a/2.txt": b"zwei\n",
}


@pytest.mark.parametrize("kind", ["local", "s3", "memory"])
def test_the_members_of_an_archive_are_recordings(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    bases = {"local": lambda: str(tmp_path), "memory": lambda: "memory://tars"}
    base = bases.get(kind, lambda: f"{request.getfixturevalue('s3_bucket')}/{tmp_path.name}")()
    files.write_atomic(f"{base}/x.tar", archive(SAMPLES))
    with caplog.at_level(logging.WARNING):
        one, two = read(f"{base}/x.tar")
    assert (one.id, one.audio) == ("x.tar#a/1.flac", f"{base}/x.tar#a/1.flac")
    assert (one.text, one.language, one.window) == ("eins", "de", None)
    assert one.metadata == {"json": {"start": 7, "id": "x"}}
    assert (two.id, two.text) == ("x.tar#a/2.mic.wav", "zwei")
    assert (content(one), content(two)) == (b"one", b"two")
    assert "1 file passed over: .cls 1" in caplog.text


def test_several_archives_are_one_manifest(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path, archive({f"{number}.wav": b"x", "same.wav": b"y"}), f"audio_{number}.tar")
    ids = [f"audio_{number}.tar#{name}" for number in range(3) for name in (f"{number}.wav", "same.wav")]
    for pattern in ("*.tar", "audio_{0..2}.tar", "audio__OP_0..2_CL_.tar", "audio_[0-2].tar"):
        assert [one.id for one in read(tmp_path / pattern)] == ids, pattern
    assert [one.id for one in read(tmp_path)] == ids


def test_numbered_patterns_keep_their_zeros(tmp_path: Path) -> None:
    for name in ("m_08.jsonl", "m_09.jsonl", "m_10.jsonl"):
        write(tmp_path, jsonl([{"audio": name}]), name)
    assert [one.id for one in read(tmp_path / "m_{08..10}.jsonl")] == [
        "m_08.jsonl",
        "m_09.jsonl",
        "m_10.jsonl",
    ]
    with pytest.raises(UsageError, match=r"m_11\.jsonl: there is no such file|m_11"):
        read(tmp_path / "m_{08..11}.jsonl")


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x.tar"])
def test_a_compressed_archive_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"{name}: the archive is compressed \(gzip\).*uncompressed"):
        read(write(tmp_path, archive(SAMPLES, "w:gz"), name))


def test_an_archive_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"x\.tar: the archive is cut off"):
        read(write(tmp_path, archive({"a.wav": b"x" * 5000})[:3000], "x.tar"))


def test_an_archive_without_audio_has_no_rows(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no rows"):
        read(write(tmp_path, archive({"a.cls": b"x"}), "x.tar"))


def test_the_shards_of_a_tarred_nemo_manifest_are_found(tmp_path: Path) -> None:
    rows = [
        {"audio_filepath": "a.wav", "duration": 1.0, "shard_id": 0},
        {"audio_filepath": "b.wav", "offset": 1.5, "duration": 1.0, "shard_id": 1},
        {"audio_filepath": "c.wav", "shard_id": 7},
    ]
    for number in range(2):
        write(tmp_path, archive({"a.wav": b"x", "b.wav": b"y"}), f"audio_{number}.tar")
    (tmp_path / "sharded").mkdir()
    for folder in (tmp_path, tmp_path / "sharded"):
        first, second, third = read(write(folder, jsonl(rows), "manifest_0.json"))
        assert (first.id, first.audio) == ("a.wav", f"{tmp_path}/audio_0.tar#a.wav")
        assert (second.audio, second.window) == (f"{tmp_path}/audio_1.tar#b.wav", (1.5, 2.5))
        assert (third.audio, third.metadata) == (str(folder / "c.wav"), {"shard_id": 7})


AUDIO = [b"one", b"two", b"three"]


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("column", ["audio", "speech"])
def test_audio_in_a_table_is_a_recording(column: str, large: bool, tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.large_binary() if large else pa.binary()), ("path", pa.string())])
    cells = [
        {"bytes": data, "path": path} for data, path in zip(AUDIO, ["a.wav", None, "a.wav"], strict=True)
    ]
    table = pa.table({column: pa.array(cells, kind), "sentence": ["x", "y", "z"]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    found = read(tmp_path / "t.parquet")
    assert [one.id for one in found] == ["a.wav", "t.parquet#2", "a.wav#t.parquet#3"]
    assert found[2].audio == f"{tmp_path}/t.parquet#{column}/1/0"
    assert [content(one) for one in found] == AUDIO
    assert [one.metadata for one in found] == [{"sentence": "x"}, {"sentence": "y"}, {"sentence": "z"}]


def test_a_column_of_bytes_is_audio(tmp_path: Path) -> None:
    table = pa.table({"id": ["a", "b", "c"], "wav": pa.array(AUDIO, pa.binary()), "text": ["x", "y", "z"]})
    pq.write_table(table, tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet")
    assert [(one.id, one.text) for one in found] == [("a", "x"), ("b", "y"), ("c", "z")]
    assert [content(one) for one in found] == AUDIO


def test_a_table_of_nothing_but_audio_is_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"audio": pa.array(AUDIO, pa.binary())}), tmp_path / "t.parquet")
    assert [one.id for one in read(tmp_path / "t.parquet")] == ["t.parquet#1", "t.parquet#2", "t.parquet#3"]


def test_cells_without_bytes_name_a_file(tmp_path: Path) -> None:
    cells = [{"bytes": b"one", "path": "a.wav"}, {"bytes": None, "path": "b.wav"}]
    for statistics in (True, False):
        pq.write_table(pa.table({"audio": cells}), tmp_path / "t.parquet", write_statistics=statistics)
        first, second = read(tmp_path / "t.parquet")
        assert content(first) == b"one"
        assert (second.id, second.audio, second.location) == ("b.wav", str(tmp_path / "b.wav"), None)
    pq.write_table(pa.table({"audio": [*cells, {"bytes": None, "path": None}]}), tmp_path / "t.parquet")
    with pytest.raises(UsageError, match=r"t\.parquet:3: `audio` must be"):
        read(tmp_path / "t.parquet")


def test_decoded_samples_in_a_table_are_refused(tmp_path: Path) -> None:
    cells = [{"array": [0.0, 0.5], "sampling_rate": 16000, "path": "a.wav"}]
    pq.write_table(pa.table({"audio": cells}), tmp_path / "t.parquet")
    with pytest.raises(UsageError, match=r"t\.parquet:1: `audio` has decoded samples"):
        read(tmp_path / "t.parquet")


def test_large_cells_are_not_read_for_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.manifests.formats import parquet_rows

    monkeypatch.setattr(parquet_rows, "PARQUET_LIMIT", 1 << 16)
    cells = [{"bytes": os.urandom(1 << 18), "path": f"{n}.wav"} for n in range(8)]
    pq.write_table(pa.table({"audio": cells}), tmp_path / "t.parquet")
    assert len(read(tmp_path / "t.parquet")) == 8


def test_a_kaldi_folder_has_windows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, "r1 a.wav\nr2 /x/b.wav\nr3 c.wav\n", "wav.scp")
    write(tmp_path, "u1 r1 0.5 2.25\nu2 r1 2.25 -1\nu3 r2 1 2\n", "segments")
    write(tmp_path, "u1 hello there\nu3 hi\n", "text")
    write(tmp_path, "u1 anna\n", "utt2spk")
    write(tmp_path, "u3 de\n", "utt2lang")
    write(tmp_path, "r2 b B\n", "reco2file_and_channel")
    first, second, third = read(tmp_path)
    assert (first.id, first.audio, first.window) == ("u1", str(tmp_path / "a.wav"), (0.5, 2.25))
    assert (first.text, first.metadata["speaker"], first.channel) == ("hello there", "anna", None)
    assert (second.window, second.text) == ((2.25, None), None)
    assert (third.audio, third.language, third.channel) == ("/x/b.wav", "de", "1")
    assert "1 file of wav.scp without a segment" in caplog.text
    write(tmp_path, "u1 r1 0.5 2.25\nu2 nope 2 3\n", "segments")
    with pytest.raises(UsageError, match=r"segments: line 2: .* is not in wav\.scp"):
        read(tmp_path)
    (tmp_path / "segments").unlink()
    assert [(one.id, one.window) for one in read(tmp_path)] == [("r1", None), ("r2", None), ("r3", None)]


def test_what_a_folder_passes_over_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.wav", "b.mxf", "c.txt", "d.TXT", "e.xyz", "noname"):
        (tmp_path / name).touch()
    assert [one.id for one in read(tmp_path)] == ["a.wav", "b.mxf"]
    assert f"{tmp_path}: 4 files passed over: .txt 2, .xyz 1, without a suffix 1" in caplog.text


def test_a_name_that_is_not_utf8_costs_one_row(tmp_path: Path) -> None:
    for name in (b"a.wav", b"b\xff.wav", b"c.wav"):
        with open(os.path.join(os.fsencode(tmp_path), name), "w"):
            pass
    for manifest in (tmp_path, tmp_path / "*.wav"):
        found = read(manifest)
        assert [one.id for one in found] == ["a.wav", r"b\xff.wav", "c.wav"]
        assert all(one.audio.isprintable() for one in found)


def test_the_formats_that_are_decoded_have_their_suffixes() -> None:
    import av

    formats = format_options()["format_whitelist"].split(",")
    suffixes = {f".{name}" for one in formats for name in suffixes_of(av, one)}
    # Pictures, subtitles, and second names of formats.
    others = {".apl", ".avif", ".heic", ".heif", ".mj2", ".mks", ".ty+", ".vqe", ".vql"}
    assert suffixes - others <= set(AUDIO_SUFFIXES)
    assert {".wav", ".mxf", ".ts", ".opus", ".dsf", ".w64", ".rf64", ".caf", ".vob"} <= set(AUDIO_SUFFIXES)
    assert not {".txt", ".srt", ".png", ".tar", ".str", ".vag", ".json", ".raw"} & set(AUDIO_SUFFIXES)


def suffixes_of(av: Any, name: str) -> set[str]:
    try:
        found: set[str] = av.ContainerFormat(name, "r").extensions
    except ValueError:  # this FFmpeg does not have it
        return set()
    return found


def test_slices_of_the_manifest_itself_are_refused(tmp_path: Path) -> None:
    for audio in ("slice://0-10//etc/passwd", "cell://a/0/0//etc/passwd"):
        with pytest.raises(UsageError, match="no address can have"):
            read(write(tmp_path, jsonl([{"audio": audio}])))


def test_a_folder_of_tables_with_audio_is_one_manifest(tmp_path: Path) -> None:
    for number in range(2):
        rows = [{"audio": {"bytes": b"x%d" % number, "path": "same.wav"}}]
        write(tmp_path, parquet(rows), f"train-{number}.parquet")
    found = read(tmp_path)
    assert [one.id for one in found] == ["same.wav", "same.wav#train-1.parquet#1"]
    assert [content(one) for one in found] == [b"x0", b"x1"]
    assert parse_slice(found[0].location or "") is None
