"""Members of tar archives are found by their headers and read by their place."""

import io
import os
import tarfile

import pytest

from actors.audio.files.slices import Slice, file_of, parse_member, parse_slice
from actors.audio.files.tar_members import TarError, walk_members
from actors.audio.sources import open_audio, open_file
from actors.errors import RowError

FILES = {"a/one.wav": b"1" * 700, "two.wav": b"22", "a" * 150 + "/three.wav": b"333", "empty.wav": b""}


def archive(files=FILES, mode="w", **options):
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode=mode, **options) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return sink.getvalue()


@pytest.fixture
def stored(tmp_path):
    def store(data, name="x.tar"):
        (tmp_path / name).write_bytes(data)
        return str(tmp_path / name)

    return store


def members(uri):
    with open_audio(uri) as file:
        return list(walk_members(file))


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_members_have_their_place(stored, form):
    uri = stored(archive(format=form))
    found = members(uri)
    assert [member.name for member in found] == list(FILES)
    for member in found:
        with open_audio(str(Slice(uri, member.start, member.end))) as file:
            assert (file.size, file.read()) == (len(FILES[member.name]), FILES[member.name])


def test_a_member_is_opened_by_its_name(stored):
    uri = stored(archive())
    with open_audio(f"{uri}#two.wav") as file, open_audio(uri) as whole:
        assert file.read() == b"22"
        assert file.etag == whole.etag
    assert open_file(f"{uri}#a/one.wav").read() == FILES["a/one.wav"]
    with pytest.raises(RowError, match="has no member 'three'") as raised, open_audio(f"{uri}#three"):
        pass
    assert raised.value.code == "audio_not_found"


def test_a_file_with_the_name_of_a_member_comes_first(stored):
    uri = stored(archive())
    stored(b"itself", "x.tar#two.wav")
    with open_audio(f"{uri}#two.wav") as file:
        assert file.read() == b"itself"


def test_only_files_are_members(stored):
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for name, kind in (
            ("folder", tarfile.DIRTYPE),
            ("link", tarfile.SYMTYPE),
            ("pipe", tarfile.FIFOTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
    assert members(stored(sink.getvalue())) == []


def test_joined_archives_are_read_to_the_end(stored):
    uri = stored(archive() + archive({"later.wav": b"later"}))
    assert [member.name for member in members(uri)] == [*FILES, "later.wav"]
    with open_audio(f"{uri}#later.wav") as file:
        assert file.read() == b"later"


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_compressed_archive_is_refused(stored, mode):
    with pytest.raises(TarError, match=r"compressed.*store it uncompressed"):
        members(stored(archive(mode=mode)))


@pytest.mark.parametrize("size", [400, 600, 1500])
def test_an_archive_that_is_cut_off_is_refused(stored, size):
    with pytest.raises(TarError):
        members(stored(archive()[:size]))


def test_a_damaged_header_is_refused_and_does_not_end_the_archive(stored):
    data = bytearray(archive())
    second = members(stored(bytes(data)))[1].start - 512
    data[second + 20] ^= 0xFF
    with pytest.raises(TarError, match=f"byte {second}"):
        members(stored(bytes(data)))


def test_what_is_no_archive_is_refused(stored):
    with pytest.raises(TarError, match="not a readable tar archive"):
        members(stored(os.urandom(4096)))
    with pytest.raises(TarError):
        members(stored(b""))


def test_a_slice_beyond_the_end_of_its_file_is_changed_audio(stored):
    uri = stored(archive())
    with pytest.raises(RowError, match="planned in a longer file") as raised:
        open_file(str(Slice(uri, 0, 10**9)))
    assert raised.value.code == "audio_changed"


def test_addresses_of_parts_name_their_file():
    part = Slice("s3://b/x.tar", 512, 600)
    assert parse_slice(str(part)) == part
    assert parse_slice("s3://b/x.tar") is None
    assert parse_member("s3://b/x.TAR#a/b#c.flac") == ("s3://b/x.TAR", "a/b#c.flac")
    assert parse_member("take#3.wav") is None
    assert file_of(str(part)) == file_of("s3://b/x.tar#m") == file_of("s3://b/x.tar") == "s3://b/x.tar"
    assert file_of("cell://audio.bytes/0/17//data/x.parquet") == "/data/x.parquet"


def linked():
    """An archive in which links name a member that precedes them, and one that nothing here is named by."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        info = tarfile.TarInfo("a/one.wav")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"one"))
        for name, kind, target in (
            ("hard.wav", tarfile.LNKTYPE, "a/one.wav"),
            ("a/near.wav", tarfile.SYMTYPE, "one.wav"),
            ("b/far.wav", tarfile.SYMTYPE, "../a/./one.wav"),
            ("chain.wav", tarfile.SYMTYPE, "hard.wav"),
            ("gone.wav", tarfile.SYMTYPE, "/data/one.wav"),
        ):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, target
            tar.addfile(link)
    return sink.getvalue()


def test_a_link_to_a_member_is_that_member_under_its_own_name(stored, caplog):
    found = members(stored(linked()))
    assert [member.name for member in found] == [
        "a/one.wav",
        "hard.wav",
        "a/near.wav",
        "b/far.wav",
        "chain.wav",
    ]
    assert len({(member.start, member.end) for member in found}) == 1
    assert "1 members passed over: links to other files" in caplog.text
