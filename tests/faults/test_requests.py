"""Reading and writing through a store that breaks most requests, without a job: the result is whole and
right, or an error.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator

import pyarrow as pa
import pytest

from actors import retries
from actors.audio.sources import open_audio
from actors.config.base import StorageConfig
from actors.errors import RetryableError, RowError, StorageError
from pipelines.output import shards
from pipelines.storage import conditional_writes, files
from tests.faults.harness.proxy import KINDS, Proxy, Rule

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

CONTENT = os.urandom(1 << 20) * 2


@pytest.fixture
def proxy(s3_bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy that passes everything until configured otherwise, and a store whose retries do not wait."""
    import s3fs

    with Proxy(os.environ["AWS_ENDPOINT_URL"], 20261122, stall=3.0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        for name in ("SCRIPTORIUM_STORAGE_RETRIES", "SCRIPTORIUM_STORAGE_TIMEOUT"):
            # Read here so that monkeypatch restores them.
            monkeypatch.setenv(name, "")
        retries.apply(StorageConfig(retries=12, timeout=2))
        monkeypatch.setattr(retries.time, "sleep", lambda _: None)
        s3fs.S3FileSystem.clear_instance_cache()
        yield proxy
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("kind", [*KINDS, "short"])
@pytest.mark.parametrize("single_request_bytes", [8 << 20, 1000])
def test_audio_is_read_whole_or_not_at_all(
    s3_bucket: str, proxy: Proxy, kind: str, single_request_bytes: int
) -> None:
    uri = f"{s3_bucket}/requests/audio.bin"
    files.write_atomic(uri, CONTENT)
    proxy.default = Rule(0.5 if kind != "stall" else 0.3, (kind,))
    with open_audio(uri, block_size=1 << 18, single_request_bytes=single_request_bytes) as file:
        assert file.size == len(CONTENT)
        got = b"".join(iter(lambda: file.read(100_000), b""))
        assert got == CONTENT
        file.seek(777_777)
        assert file.read(300_000) == CONTENT[777_777:1_077_777]
    # A HEAD has no body: `truncated` and `short` are resets there.
    assert proxy.injected.total() > 0
    proxy.default = Rule(1.0, (kind,))
    retries.apply(StorageConfig(retries=1, timeout=2))
    with pytest.raises(RetryableError) as error, open_audio(uri, single_request_bytes=single_request_bytes):
        pass
    assert error.value.code == "storage_unavailable"


@pytest.mark.parametrize("after", [b"another", None], ids=["replaced", "removed"])
def test_an_object_that_changes_while_it_is_read_is_not_mixed(
    s3_bucket: str, proxy: Proxy, after: bytes | None
) -> None:
    uri = f"{s3_bucket}/requests/moving.bin"
    files.write_atomic(uri, CONTENT)
    with (
        pytest.raises(RowError) as error,
        open_audio(uri, block_size=1 << 18, single_request_bytes=0) as file,
    ):
        assert file.read(1000) == CONTENT[:1000]
        if after is None:
            files.remove(uri)
        else:
            files.write_atomic(uri, CONTENT[::-1])
        file.seek(1 << 20)
        file.read(1000)
    assert error.value.code == ("audio_changed" if after else "audio_not_found")


def test_tables_lists_and_deletes_survive_broken_requests(s3_bucket: str, proxy: Proxy) -> None:
    folder = f"{s3_bucket}/requests/tables"
    proxy.default = Rule(0.3, tuple(kind for kind in KINDS if kind != "stall"))
    for number in range(6):
        files.write_atomic(
            f"{folder}/{number}.parquet", shards.parquet_bytes(pa.table({"id": [f"x{number}"]}))
        )
    assert files.read_tables(folder)["id"].to_pylist() == [f"x{number}" for number in range(6)]
    with files.open(f"{folder}/3.parquet") as file:
        assert file.read(4) == b"PAR1"
    assert files.exists(f"{folder}/5.parquet") and files.is_folder(folder)
    for uri in files.list(folder):
        files.remove(uri)
        files.remove(uri)
    assert not files.list(folder)
    with pytest.raises(FileNotFoundError):
        files.read_bytes(f"{folder}/3.parquet")
    assert proxy.injected.total() >= 12


# The name of the retry settings.
@pytest.mark.slow
def test_arrow_filesystems_keep_their_retries_when_pickled(s3_bucket: str, proxy: Proxy) -> None:
    store, path = files.arrow_filesystem(f"{s3_bucket}/requests/arrow")
    store = pickle.loads(pickle.dumps(store))
    proxy.default = Rule(0.3, ("error_500", "too_many", "lost"))
    for number in range(2):
        store.create_dir(path, recursive=True)
        # Only Ray can begin a file anew after "too many requests".
        for _ in range(30):
            try:
                with store.open_output_stream(f"{path}/{number}.pending.parquet") as file:
                    file.write(b"rows")
                break
            except OSError as error:
                assert "HTTP status 429" in str(error)
        store.move(f"{path}/{number}.pending.parquet", f"{path}/{number}.parquet")
    proxy.default = Rule(0.0)
    assert [files.name_of(uri) for uri in files.list(f"{s3_bucket}/requests/arrow", ".parquet")] == [
        f"{number}.parquet" for number in range(2)
    ]
    assert proxy.injected.total() > 2


def test_a_lease_whose_response_was_lost_is_still_ours(s3_bucket: str, proxy: Proxy) -> None:
    uri = f"{s3_bucket}/requests/lease.json"
    proxy.rules = {"PUT .*lease": Rule(1.0, ("lost",), streak=1)}
    etag = conditional_writes.create(uri, b"one")
    assert etag
    assert conditional_writes.create(uri, b"two") is None
    proxy.asked.clear()
    assert conditional_writes.replace(uri, b"three", b"one", etag) and files.read_bytes(uri) == b"three"


def test_a_lasting_error_says_what_failed_where_and_what_to_do(s3_bucket: str, proxy: Proxy) -> None:
    proxy.rules = {"denied": Rule(1.0, ("denied",)), "down": Rule(1.0, ("error_500",))}
    with pytest.raises(StorageError, match=r"cannot write .*/denied/x.*Access Denied.*check the rights"):
        files.write_atomic(f"{s3_bucket}/denied/x", b"")
    asked = proxy.asked.total()
    with pytest.raises(StorageError, match=r"cannot write .*/down/x.*internal error"):
        files.write_atomic(f"{s3_bucket}/down/x", b"")
    assert proxy.asked.total() - asked == 13, "retries of retries multiply"
    with pytest.raises(StorageError, match=r"is the bucket or the folder still there\?"):
        files.write_atomic("s3://no-such-bucket-of-ours/x", b"")
    with pytest.raises(StorageError, match=r"is the bucket or the folder still there\?"):
        conditional_writes.create("s3://no-such-bucket-of-ours/x", b"")
