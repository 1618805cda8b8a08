"""ID3 tags in front of any format do not change what is decoded."""

from __future__ import annotations

import numpy as np
import pytest

from actors.audio.decoding import decode_span
from actors.audio.probing import probe
from actors.audio.sources import open_audio
from actors.audio.timeline import SampleReader
from tests.actors.audio.structure.pcm_builders import CONTAINERS, noise, pcm_file


def tag(size: int = 4096, footer: bool = False) -> bytes:
    head = (
        b"3\x04\x00"
        + (b"\x10" if footer else b"\x00")
        + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    )
    return b"ID" + head + bytes(size) + (b"3D" + head if footer else b"")


def decode(path):
    with open_audio(str(path)) as file:
        reader = SampleReader(file)
        return decode_span(reader, 0, None), reader


@pytest.mark.parametrize(
    "front",
    [
        tag(),
        tag(7),
        tag(300_000),
        tag() + tag(50),
        tag(100, footer=True),
        tag() + bytes(1000),
        bytes(100_000),
    ],
    ids=["usual", "odd", "picture", "two", "footer", "padded", "zeros"],
)
@pytest.mark.parametrize(
    "name",
    [
        "lossless.flac",
        "lossy.opus",
        "lossy.webm",
        "lossy.m4a",
        "lossy.mkv",
        "vorbis.ogg",
        "constant.mp3",
        "raw.aac",
    ],
)
def test_a_file_begins_behind_its_tags(encoded, tmp_path, name, front):
    healthy, reader = decode(encoded(name, 8))
    path = tmp_path / name
    path.write_bytes(front + encoded(name, 8).read_bytes())
    if front[-1000:] == bytes(1000) and name.endswith(("mp3", "aac")):
        pytest.skip("ffmpeg looks for frames by itself")
    got, tagged = decode(path)
    assert np.array_equal(got.samples, healthy.samples)
    assert (got.flags, tagged.flags, tagged.is_cut_off) == (healthy.flags, reader.flags, False)
    assert probe(str(path)).size_bytes == path.stat().st_size
    if name.endswith(("flac", "opus", "webm", "m4a", "mkv", "ogg")):
        # Places are reached by seeking, too.
        with open_audio(str(path)) as file:
            span = decode_span(SampleReader(file), 100_000, 120_000)
        # AAC fills bands with noise, which depends on what was decoded before.
        difference = np.abs(span.samples.astype(int) - healthy.samples[:, 100_000:120_000]).max()
        assert difference <= (300 if name in ("lossy.m4a", "lossy.mkv") else 0)


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_pcm_file_begins_behind_its_tags(tmp_path, container):
    samples = noise(2.0)
    for front in (tag(), tag(10) + tag(11)):
        (tmp_path / "a.wav").write_bytes(front + pcm_file(container, samples))
        got, reader = decode(tmp_path / "a.wav")
        assert np.array_equal(got.samples, samples.T)
        assert reader.flags == []


def test_a_broadcast_begins_behind_zeros_and_tags(tmp_path, write, speech):
    path = write(tmp_path / "a.ts", speech(6.0, 48_000), "aac", 48_000)
    healthy, content = decode(path)[0], path.read_bytes()
    for front in (bytes(1), bytes(5_000), bytes(100_000), tag(), tag(300) + bytes(900)):
        path.write_bytes(front + content)
        got, _ = decode(path)
        assert np.array_equal(got.samples, healthy.samples), len(front)


def test_other_containers_begin_behind_their_tags(tmp_path, write, speech):
    for name, codec in (
        ("a.wv", "wavpack"),
        ("a.tta", "tta"),
        ("a.caf", "alac"),
        ("a.flv", "libmp3lame"),
        ("a.asf", "libmp3lame"),
    ):
        path = write(tmp_path / name, speech(6.0, 44_100), codec, 44_100)
        healthy, _ = decode(path)
        path.write_bytes(tag() + path.read_bytes())
        got, _ = decode(path)
        assert np.array_equal(got.samples, healthy.samples), name


@pytest.mark.parametrize("front", [tag(300), bytes(512)], ids=["tag", "zeros"])
@pytest.mark.parametrize(("name", "codec"), [("a.voc", "pcm_u8"), ("a.sox", "pcm_s32le"), ("a.rm", "ac3")])
def test_rare_containers_begin_behind_their_tags(tmp_path, write, speech, name, codec, front):
    path = write(tmp_path / name, speech(4, 44_100), codec, 44_100)
    healthy, _ = decode(path)
    path.write_bytes(front + path.read_bytes())
    got, _ = decode(path)
    assert np.array_equal(got.samples, healthy.samples) and got.flags == healthy.flags
