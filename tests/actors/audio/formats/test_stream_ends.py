"""Streams without a header that end in the middle of a frame or packet are truncated; whole ones are not."""

import numpy as np
import pytest

from actors.audio.formats.stream_ends import ends_within_a_frame, ends_within_a_pack, ends_within_a_packet
from actors.audio.sources import open_audio
from actors.config import AudioConfig, SegmenterConfig
from actors.decoder import decode_shard

# File name -> (codec, sampling rate, options of the muxer).
STREAMS = {
    "bare.mp3": ("libmp3lame", 44_100, {"write_xing": "0", "id3v2_version": "0"}),
    "low.mp3": ("libmp3lame", 16_000, {"write_xing": "0"}),
    "a.mp2": ("mp2", 48_000, {}),
    "a.aac": ("aac", 44_100, {}),
    "a.ac3": ("ac3", 48_000, {}),
    "a.eac3": ("eac3", 48_000, {}),
    "a.ts": ("aac", 48_000, {}),
    "b.ts": ("mp2", 48_000, {}),
    "a.m2ts": ("ac3", 48_000, {"mpegts_m2ts_mode": "1"}),
    "a.mpg": ("mp2", 48_000, {}),
}
BEHIND = [b"", b"TAG" + bytes(125), b"APETAGEX" + bytes(24), bytes(900)]


@pytest.fixture(scope="module")
def streams(tmp_path_factory, speech, write):
    folder = tmp_path_factory.mktemp("streams")
    return {
        name: write(folder / name, speech(9, kind[1]), *kind).read_bytes() for name, kind in STREAMS.items()
    }


def decoded(path):
    row = {"audio": str(path), "start": 0.0, "end": None, "duration": None}
    return decode_shard(row, AudioConfig(isolate=False, retries=0), SegmenterConfig(backend="energy"))


@pytest.mark.parametrize("name", STREAMS)
def test_a_whole_stream_is_not_truncated(tmp_path, streams, name):
    path = tmp_path / name
    for behind in BEHIND if name.endswith(("mp3", "mp2", "aac", "ac3")) else BEHIND[:1]:
        path.write_bytes(streams[name] + behind)
        row = decoded(path)
        assert "truncated" not in row["flags"], behind[:8]
        assert row["status"] == "ok"


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_was_cut_in_a_frame_is_truncated(tmp_path, streams, name):
    path, rng = tmp_path / name, np.random.default_rng(3)
    for lost in (1, 3, *rng.integers(4, len(streams[name]) // 2, 6)):
        content = streams[name][: len(streams[name]) - int(lost)]
        path.write_bytes(content)
        row = decoded(path)
        if row["status"] == "ok":
            # Cut between two frames, which nobody can see.
            assert _borders(path, name), lost
            continue
        assert (row["status"], "truncated" in row["flags"]) == ("partial", True), lost
        assert row["decoded_end"] > 4


def _borders(path, name):
    """Whether the file ends with a whole frame: then more bytes of a frame make it end within one."""
    with open(path, "ab") as file:
        file.write(path.read_bytes()[:1] if name.endswith("mpg") else b"\xff")
    with open_audio(str(path)) as file:
        if name.endswith("ts"):
            return ends_within_a_packet(file)
        return ends_within_a_pack(file) if name.endswith("mpg") else True


def test_amr_that_was_cut_in_a_frame_is_truncated(tmp_path):
    frame = b"\x3c" + bytes(31)
    for magic, size in ((b"#!AMR\n", 32), (b"#!AMR-WB\n", 24)):
        frame = (b"\x3c" if size == 32 else b"\x0c") + bytes(size - 1)
        for rest in (0, 1, 20):
            content = magic + frame * 200 + frame[:rest]
            (tmp_path / "a.amr").write_bytes(content)
            row = decoded(tmp_path / "a.amr")
            assert ("truncated" in row["flags"]) == (rest > 0), (magic, rest, row)


def test_bytes_that_look_like_a_header_once_are_no_chain(tmp_path):
    content = np.random.default_rng(1).bytes(60_000) + b"\xff\xfb\x90\x00"
    (tmp_path / "a.mp3").write_bytes(content)
    with open_audio(str(tmp_path / "a.mp3")) as file:
        assert not ends_within_a_frame(file, "mp3")
