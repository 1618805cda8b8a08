"""Bytes from paths, S3 and HTTP, and the error code of each failure."""

import contextlib
import functools
import http.server
import os
import threading

import pytest

from actors import retries
from actors.audio import sources
from actors.audio.files.etags import etag_of_info
from actors.audio.sources import etag_of, open_audio
from actors.errors import RetryableError, RowError, UsageError


@pytest.fixture
def sleeps(monkeypatch):
    durations = []
    monkeypatch.setattr(retries.time, "sleep", durations.append)
    return durations


@pytest.fixture
def stored(s3_bucket, tmp_path):
    """12 MiB in S3: (uri, content)."""
    import s3fs

    content = os.urandom(1 << 20) * 12
    uri = f"{s3_bucket}/sources/large.bin"
    s3fs.S3FileSystem().pipe_file(uri, content)
    return uri, content


def test_a_local_file_reads_seeks_and_has_an_etag(tmp_path):
    path = tmp_path / "ä b#c.wav"
    path.write_bytes(bytes(range(256)))
    for uri in (str(path), f"file://{path}"):
        with open_audio(uri) as file:
            assert (file.size, file.read(3), file.tell()) == (256, b"\x00\x01\x02", 3)
            assert file.seek(-2, os.SEEK_END) == 254
            assert file.read(10) == b"\xfe\xff"
            assert file.read(1) == b""
            assert (file.etag, file.size) == etag_of(uri)


def test_an_etag_with_invalid_utf8_can_be_stored():
    """aiohttp returns bytes of a header that are not UTF-8 as lone surrogates."""
    assert etag_of_info({"ETag": '"caf\udce9"'}) == "caf\\udce9"


def test_the_etag_changes_with_the_file(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"one")
    before = etag_of(str(path))
    os.utime(path, ns=(1, 1))
    assert etag_of(str(path))[0] != before[0]
    path.write_bytes(b"longer")
    os.utime(path, ns=(1, 1))
    assert len({before[0], etag_of(str(path))[0]}) == 2
    assert etag_of(str(path))[1] == 6


def test_files_that_ray_unpacks_have_the_same_etag_on_each_node(tmp_path):
    folder = tmp_path / "_ray_pkg_0123456789abcdef"
    folder.mkdir()
    (folder / "a.wav").write_bytes(b"one")
    before = etag_of(str(folder / "a.wav"))
    os.utime(folder / "a.wav", ns=(1, 1))
    assert etag_of(str(folder / "a.wav")) == before
    (folder / "b.wav").write_bytes(b"two")
    assert etag_of(str(folder / "b.wav")) != before


def test_a_seek_in_s3_costs_few_requests(stored, monkeypatch):
    from s3fs import S3FileSystem

    uri, content = stored
    requests = []
    call = S3FileSystem._call_s3

    async def counted(self, method, *args, **kwargs):
        requests.append((method, kwargs.get("Range")))
        return await call(self, method, *args, **kwargs)

    monkeypatch.setattr(S3FileSystem, "_call_s3", counted)
    with open_audio(uri, block_size=1 << 20) as file:
        assert file.size == len(content)
        file.seek(5_000_000)
        got = b"".join(file.read(8192) for _ in range(120))
    assert got == content[5_000_000 : 5_000_000 + 120 * 8192]
    assert [method for method, _ in requests].count("get_object") <= 2
    assert len(requests) <= 3


def test_a_small_object_is_read_in_one_request(stored, monkeypatch):
    from s3fs import S3FileSystem

    uri, content = stored
    requests = []
    call = S3FileSystem._call_s3

    async def counted(self, method, *args, **kwargs):
        requests.append(method)
        return await call(self, method, *args, **kwargs)

    monkeypatch.setattr(S3FileSystem, "_call_s3", counted)
    with open_audio(uri, single_request_bytes=16 << 20) as file:
        file.seek(11_000_000)
        assert file.read(10) == content[11_000_000:11_000_010]
        file.seek(0)
        assert file.read() == content
    assert requests.count("get_object") == 1
    assert len(requests) == 2


def test_an_s3_object_has_the_etag_of_the_store(stored):
    import s3fs

    uri, content = stored
    assert etag_of(uri) == (s3fs.S3FileSystem().info(uri, refresh=True)["ETag"].strip('"'), len(content))


@pytest.mark.parametrize("key", ["sources/absent.wav", "../no-such-bucket-here/x.wav"])
def test_a_missing_s3_object_is_audio_not_found(s3_bucket, key, sleeps):
    uri = f"{s3_bucket}/{key}" if not key.startswith("..") else "s3://" + key[3:]
    with pytest.raises(RowError) as error, open_audio(uri):
        pass
    assert error.value.code == "audio_not_found"
    assert uri in error.value.message
    assert sleeps == []


def test_a_store_that_is_down_is_retried_and_then_unavailable(s3_bucket, monkeypatch, sleeps):
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(RetryableError) as error, open_audio(f"{s3_bucket}/x.wav", retries=2):
            pass
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
    assert error.value.code == "storage_unavailable"
    assert len(sleeps) == 2
    assert sleeps[0] < 0.51 < sleeps[1] + 0.26


def test_a_missing_local_file_is_audio_not_found(tmp_path, sleeps):
    for uri in (str(tmp_path / "absent.wav"), str(tmp_path), str(tmp_path / ("x" * 300))):
        with pytest.raises(RowError) as error, open_audio(uri):
            pass
        assert error.value.code == "audio_not_found"
    assert sleeps == []


def test_an_unknown_protocol_is_a_usage_error():
    with pytest.raises(UsageError, match="nosuch"), open_audio("nosuch://a/b.wav"):
        pass


def test_a_failed_read_is_retried_where_it_stopped(tmp_path, sleeps):
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(range(200)))
    with open_audio(str(path), retries=2) as file:
        raw, broken = file._raw, [True]

        class Flaky:
            def seek(self, place):
                raw.seek(place)

            def read(self, count):
                if broken:
                    broken.pop()
                    # Some bytes arrive before the error.
                    raw.read(7)
                    raise ConnectionResetError("reset")
                return raw.read(count)

            close = raw.close

        file._raw = Flaky()
        assert file.read(200) == bytes(range(200))
    assert len(sleeps) == 1


def test_http_without_ranges_is_read_as_a_whole(tmp_path):
    pytest.importorskip("aiohttp", reason="fsspec needs aiohttp for http")
    content = os.urandom(100_000)
    (tmp_path / "a.wav").write_bytes(content)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with serving(functools.partial(Quiet, directory=str(tmp_path))) as server:
        uri = f"http://127.0.0.1:{server.server_port}/a.wav"
        # In one request, and as a stream into a temporary file.
        for single_request_bytes in (1 << 20, 1000):
            with open_audio(uri, single_request_bytes=single_request_bytes) as file:
                file.seek(70_000)
                assert file.read(100) == content[70_000:70_100]
                assert file.size == len(content)
        with pytest.raises(RowError) as error, open_audio(uri + "x"):
            pass
        assert error.value.code == "audio_not_found"


@pytest.mark.parametrize("claimed_size", [None, 1 << 40], ids=["no size", "absurd size"])
def test_a_body_without_end_does_not_fill_the_disk(claimed_size, monkeypatch, sleeps):
    pytest.importorskip("aiohttp", reason="fsspec needs aiohttp for http")
    monkeypatch.setattr(sources, "MAX_COPY_BYTES", 5 << 20)
    sent = []

    class Endless(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200)
            if claimed_size:
                self.send_header("Content-Length", str(claimed_size))
            self.end_headers()

        def do_GET(self):
            self.do_HEAD()
            with contextlib.suppress(OSError):
                # 500 MiB in the end.
                while len(sent) < 500:
                    sent.append(self.wfile.write(bytes(1 << 20)))

        def log_message(self, *args):
            pass

    with (
        serving(Endless) as server,
        pytest.raises(RowError) as error,
        open_audio(f"http://127.0.0.1:{server.server_port}/a.wav"),
    ):
        pass
    assert error.value.code == "too_long"
    assert "at most 5 MiB" in error.value.message
    assert len(sent) < 500
    assert sleeps == []


def test_a_copy_leaves_free_space_on_the_disk(monkeypatch, sleeps):
    pytest.importorskip("aiohttp", reason="fsspec needs aiohttp for http")
    monkeypatch.setattr(sources, "MIN_FREE_DISK_BYTES", 1 << 60)

    class Unsized(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"RIFF")

        do_HEAD = do_GET

        def log_message(self, *args):
            pass

    with (
        serving(Unsized) as server,
        pytest.raises(RowError) as error,
        open_audio(f"http://127.0.0.1:{server.server_port}/a.wav"),
    ):
        pass
    assert error.value.code == "storage_unavailable"
    assert "MiB left" in error.value.message
    assert sleeps == []


@contextlib.contextmanager
def serving(handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
