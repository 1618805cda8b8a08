"""Files behind others that say where they end, or whose kind begins again, are heard."""

import struct

import numpy as np
import pytest

from actors.audio.decoding import decode_span
from actors.audio.formats.links import find_links
from actors.audio.probing import probe
from actors.audio.recordings.chained_reader import open_recording
from actors.audio.sources import open_audio
from actors.config import AudioConfig, SegmenterConfig
from actors.decoder import decode_shard

SECONDS = 6
TAG = b"TAG" + bytes(125)
APE = b"APETAGEX" + struct.pack("<IIII", 2000, 32 + 60, 1, 0xA000_0000) + bytes(8) + bytes(60)
APE += b"APETAGEX" + struct.pack("<IIII", 2000, 32 + 60, 1, 0x8000_0000) + bytes(8)
# Name, codec, sampling rate of files that are appended to each other.
KINDS = {
    "tta": ("a.tta", "tta", 16_000),
    "wv": ("a.wv", "wavpack", 16_000),
    "wv 44": ("b.wv", "wavpack", 44_100),
    "asf": ("a.asf", "libmp3lame", 44_100),
    "avi": ("a.avi", "libmp3lame", 44_100),
    "flv": ("a.flv", "libmp3lame", 44_100),
    "voc": ("a.voc", "pcm_u8", 16_000),
    "mp3": ("a.mp3", "libmp3lame", 44_100),
    "mp3 22": ("b.mp3", "libmp3lame", 22_050),
    "ts mp2": ("a.ts", "mp2", 48_000),
    "ts aac": ("b.ts", "aac", 48_000),
    "flac": ("a.flac", "flac", 16_000),
}


@pytest.fixture
def made(tmp_path, speech, write):
    """`made(kind, seed)`: the bytes of a file with sound of its own."""

    def build(kind, seed=0, channels=1):
        name, codec, rate = KINDS[kind]
        wave = np.stack([speech(SECONDS, rate, seed)] * channels, 1)
        path = tmp_path / f"{seed}-{channels}-{name}"
        return write(path, wave, codec, rate).read_bytes()

    return build


def shard(path, start=0.0, end=None):
    row = {"audio": str(path), "start": start, "end": end, "duration": probe(str(path)).duration}
    return decode_shard(row, AudioConfig(isolate=False), SegmenterConfig(backend="energy"))


@pytest.mark.parametrize(
    "kinds",
    [("tta", "tta"), ("tta", "flac"), ("wv", "wv"), ("wv", "wv 44", "wv"), ("asf", "asf"), ("avi", "avi"),
     ("avi", "mp3"), ("flv", "flv"), ("voc", "voc"), ("mp3", "mp3"), ("mp3", "mp3 22", "mp3"), ("mp3", "wv"),
     ("ts mp2", "ts aac"), ("ts aac", "ts mp2", "ts aac")],
    ids=" + ".join,
)  # fmt: skip
def test_every_joined_file_is_heard(tmp_path, made, kinds):
    path = tmp_path / "joined.bin"
    path.write_bytes(b"".join(made(kind, seed) for seed, kind in enumerate(kinds)))
    row = shard(path)
    assert (row["status"], row["flags"]) == ("ok", [])
    assert row["decoded_end"] == pytest.approx(SECONDS * len(kinds), abs=0.1 * len(kinds))
    assert probe(str(path)).duration == pytest.approx(row["decoded_end"], abs=0.1)


@pytest.mark.parametrize("kind", ["tta", "avi", "mp3", "voc"])
@pytest.mark.parametrize("between", [TAG, APE, APE + TAG, bytes(700)], ids=["TAG", "APE", "both", "zeros"])
def test_tags_and_zeros_may_lie_between(tmp_path, made, kind, between):
    path = tmp_path / "joined.bin"
    path.write_bytes(made(kind) + between + made(kind, 1))
    row = shard(path)
    assert row["status"] == "ok"
    assert row["decoded_end"] == pytest.approx(2 * SECONDS, abs=0.2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_file_is_no_chain_whatever_follows(tmp_path, made, kind):
    content = made(kind)
    for behind in (b"", TAG, APE, bytes(700), b"<?xml version='1.0'?><note/>" * 50):
        path = tmp_path / "single.bin"
        path.write_bytes(content + behind)
        with open_audio(str(path)) as file:
            assert len(find_links(file)) == 1


def test_mp3s_with_another_number_of_channels_are_a_chain_whose_spans_equal_the_whole(tmp_path, made):
    path = tmp_path / "joined.mp3"
    path.write_bytes(made("mp3") + made("mp3 22", 1, 2) + made("mp3", 2))
    with open_audio(str(path)) as file:
        recording = open_recording(file)
        whole = decode_span(recording, 0, None).samples[0]
        for start, end in ((5, 7), (7, 11.5), (11, 13)):
            part = decode_span(recording, round(start * 16_000), round(end * 16_000)).samples[0]
            expected = whole[round(start * 16_000) : round(end * 16_000)].astype(float)
            assert np.sqrt(np.mean((part - expected) ** 2)) < 0.03 * whole.std(), start
