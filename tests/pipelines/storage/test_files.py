"""The file functions behave alike for local paths, memory:// and S3."""

from __future__ import annotations

import errno
import gzip
import os
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from actors.errors import StorageError, UsageError
from pipelines.storage import files
from pipelines.storage.filesystems import call_store


@pytest.fixture(params=["local", "memory", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty folder of each kind."""
    if request.param == "local":
        return str(tmp_path)
    base = "memory://files" if request.param == "memory" else request.getfixturevalue("s3_bucket")
    return f"{base}/{tmp_path.name}"


def test_written_bytes_are_read_back(root: str) -> None:
    uri = files.join(root, "deep", "a b#é%20.bin")
    assert not files.exists(uri)
    files.write_atomic(uri, b"one")
    files.write_atomic(uri, b"two")
    assert files.exists(uri)
    assert files.read_bytes(uri) == b"two"
    with files.open(uri) as file:
        file.seek(1)
        assert file.read() == b"wo"
    assert files.is_folder(files.join(root, "deep"))
    assert not files.is_folder(uri)
    files.remove(uri)
    files.remove(uri)
    assert not files.exists(uri)


def test_list_shows_files_that_another_writer_added(root: str) -> None:
    assert list(files.list(root)) == []
    files.write_atomic(files.join(root, "b.PARQUET"), b"")
    files.write_atomic(files.join(root, "sub", "a.parquet"), b"")
    files.write_atomic(files.join(root, ".hidden.parquet"), b"")
    files.write_atomic(files.join(root, "c.json"), b"")
    names = [files.name_of(uri) for uri in files.list(root, ".parquet")]
    assert names == ["b.PARQUET", "a.parquet"]
    assert [files.name_of(uri) for uri in files.list(root, (".parquet", ".json"), recursive=False)] == [
        "b.PARQUET",
        "c.json",
    ]
    assert all(files.exists(uri) for uri in files.list(root))


def test_open_decompresses_by_suffix(root: str) -> None:
    uri = files.join(root, "m.jsonl.gz")
    files.write_atomic(uri, gzip.compress(b"hello"))
    with files.open(uri, compression="infer") as file:
        assert file.read() == b"hello"


def test_reading_a_missing_file_raises_file_not_found(root: str) -> None:
    with pytest.raises(FileNotFoundError):
        files.read_bytes(files.join(root, "nope"))


def test_read_tables_joins_the_parquet_files_of_a_folder(root: str) -> None:
    schema = pa.schema([("id", pa.string()), ("note", pa.string())])
    folder = files.join(root, "tables")
    assert files.read_tables(folder, schema=schema) == schema.empty_table()
    assert files.read_tables(folder).num_rows == 0
    store, path = files.arrow_filesystem(folder)
    store.create_dir(path, recursive=True)
    pq.write_table(pa.table({"id": ["x"], "note": pa.nulls(1)}), f"{path}/1.parquet", filesystem=store)
    pq.write_table(pa.table({"id": ["y"], "note": ["n"]}), f"{path}/2.parquet", filesystem=store)
    assert files.read_tables(folder, schema=schema).to_pylist() == [
        {"id": "x", "note": None},
        {"id": "y", "note": "n"},
    ]
    assert files.read_tables(folder, columns=["note"]).to_pylist() == [{"note": None}, {"note": "n"}]
    assert files.read_tables(folder, columns=["note"], schema=schema).schema == pa.schema(
        [("note", pa.string())]
    )


def test_arrow_filesystem_pickles_renames_and_deletes(root: str) -> None:
    store, path = files.arrow_filesystem(files.join(root, "a b%20c"))
    if not root.startswith("memory"):
        store = pickle.loads(pickle.dumps(store))
    store.create_dir(path, recursive=True)
    with store.open_output_stream(f"{path}/x.pending.parquet") as file:
        file.write(b"data")
    store.move(f"{path}/x.pending.parquet", f"{path}/x.parquet")
    assert [info.base_name for info in store.get_file_info(pafs.FileSelector(path))] == ["x.parquet"]
    assert files.read_bytes(files.join(root, "a b%20c", "x.parquet")) == b"data"
    store.delete_file(f"{path}/x.parquet")
    assert store.get_file_info(f"{path}/x.parquet").type == pafs.FileType.NotFound


def test_s3_goes_through_fsspec_if_the_profile_redirects_it(
    s3_bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert isinstance(files.arrow_filesystem(s3_bucket)[0], pafs.S3FileSystem)
    profile = tmp_path / "config"
    profile.write_text(f"[default]\nendpoint_url = {os.environ['AWS_ENDPOINT_URL']}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(profile))
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert isinstance(files.arrow_filesystem(s3_bucket)[0], pafs.PyFileSystem)


def test_a_failed_write_leaves_the_old_file_and_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write_atomic(str(tmp_path / "x"), b"old")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(StorageError, match=r"cannot write .*No space left on device.*make room there"):
        files.write_atomic(str(tmp_path / "x"), b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"old"


def test_linked_folders_are_entered_once(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.wav").write_bytes(b"")
    (tmp_path / "real" / "up").symlink_to(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "link2").symlink_to(tmp_path / "real")
    assert len(files.list(str(tmp_path), ".wav")) == 1


@pytest.mark.parametrize(
    ("base", "name", "joined"),
    [
        ("s3://b/dir", "a.wav", "s3://b/dir/a.wav"),
        ("s3://b/dir/", "x/a.wav", "s3://b/dir/x/a.wav"),
        ("s3://b/dir", "s3://c/a.wav", "s3://c/a.wav"),
        ("/data", "a.wav", "/data/a.wav"),
        ("file:///data", "a.wav", "/data/a.wav"),
        ("/data", "/other/a.wav", "/other/a.wav"),
        ("s3://b/dir", "/other/a.wav", "/other/a.wav"),
    ],
)
def test_join_lets_an_absolute_name_replace_the_base(base: str, name: str, joined: str) -> None:
    assert files.join(base, name) == joined


def test_addresses_are_normalised_and_taken_apart() -> None:
    assert files.absolute("file:///a/../b") == "/b"
    assert files.absolute("b") == os.path.join(os.getcwd(), "b")
    assert files.absolute("s3://b/x/") == "s3://b/x"
    assert files.parent("s3://b/x/y.wav") == "s3://b/x"
    assert files.parent("/a/b.wav") == "/a"
    assert files.name_of("https://host/a.wav?sig=1/2") == "a.wav"
    assert files.name_of("s3://b/what?.wav") == "what?.wav"


def test_an_unknown_scheme_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="unknown kind of address"):
        files.exists("gopher9://x/y")


def test_objects_that_mark_folders_are_not_listed(s3_bucket: str) -> None:
    """S3 consoles and Spark write them: empty objects whose key ends in a slash."""
    client = pytest.importorskip("boto3").client("s3")
    bucket = s3_bucket.removeprefix("s3://")
    names = ["a b.mp3", "%41.mp3", "ü.mp3", "+&.mp3", "table.parquet/part.parquet", ".hidden.mp3"]
    for name in names:
        client.put_object(Bucket=bucket, Key=f"marked/{name}", Body=b"1")
    for name in ("", "table.parquet/", "empty/"):
        client.put_object(Bucket=bucket, Key=f"marked/{name}", Body=b"")
    client.put_object(Bucket=bucket, Key="marked-too/no.mp3", Body=b"1")
    assert files.list(f"{s3_bucket}/marked") == sorted(f"{s3_bucket}/marked/{name}" for name in names[:-1])
    assert files.list(f"{s3_bucket}/marked/", recursive=False) == sorted(
        f"{s3_bucket}/marked/{name}" for name in names[:4]
    )


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EFBIG, "see `ulimit -f`"),
        (errno.ENOSPC, "make room there"),
        (errno.EROFS, "mount it for writing"),
        (errno.EACCES, "check the rights of this user"),
    ],
)
def test_an_error_of_the_disk_says_what_to_do(number: int, advice: str) -> None:
    def write() -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(StorageError, match=rf"cannot write /out/a: .*{os.strerror(number)} \(.*{advice}"):
        call_store("write", "/out/a", write)
