"""Headers with a duration, without one, and with a wrong one."""

import json
import struct

import numpy as np
import pytest

from actors.audio.probing import probe
from actors.audio.sources import AudioFile
from actors.errors import CODES, RowError


@pytest.mark.parametrize(
    ("name", "codec", "container", "rate"),
    [
        ("pcm44.wav", "pcm_s16le", "wav", 44_100),
        ("lossless.flac", "flac", "flac", 44_100),
        ("constant.mp3", "mp3float", "mp3", 44_100),
        ("lossy.m4a", "aac", "mov,mp4,m4a,3gp,3g2,mj2", 44_100),
        ("lossy.opus", "opus", "ogg", 48_000),
        ("lossy.webm", "opus", "matroska,webm", 48_000),
        ("vorbis.ogg", "vorbis", "ogg", 22_050),
    ],
)
def test_probing_reads_all_facts_from_the_header(encoded, name, codec, container, rate):
    found = probe(str(encoded(name)))
    assert (found.codec, found.container, found.sampling_rate, found.channels, found.flags) == (
        codec,
        container,
        rate,
        1,
        (),
    )
    assert found.duration == pytest.approx(40.0, abs=0.05)
    assert found.size_bytes == encoded(name).stat().st_size
    assert found.etag


@pytest.mark.parametrize("name", ["tagless.mp3", "raw.aac", "live.webm"])
def test_packets_are_counted_where_the_header_has_no_duration(encoded, name):
    path = str(encoded(name))
    guess = probe(path)
    assert guess.duration is None or "duration_estimated" in guess.flags
    found = probe(path, scan=True)
    assert found.duration == pytest.approx(40.0, abs=0.1)
    assert found.flags == ("duration_scanned",)


def test_probing_reads_few_bytes(encoded, monkeypatch):
    read = []
    original = AudioFile._read
    monkeypatch.setattr(
        AudioFile, "_read", lambda self, count: read.append(data := original(self, count)) or data
    )
    assert probe(str(encoded("pcm44.wav"))).duration == 40.0
    assert sum(map(len, read)) < 200_000


@pytest.mark.parametrize("claimed", [0, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_wav_without_a_length_has_the_duration_of_its_size(encoded, tmp_path, claimed):
    data = bytearray(encoded("pcm.wav").read_bytes())
    place = data.index(b"data") + 4
    data[place : place + 4] = struct.pack("<I", claimed)
    (tmp_path / "stream.wav").write_bytes(data)
    found = probe(str(tmp_path / "stream.wav"))
    assert found.duration == pytest.approx(40.0, abs=0.01)
    assert found.flags == ("duration_from_size",)


def test_packets_are_counted_where_the_duration_is_absurd(encoded, tmp_path):
    data = bytearray(encoded("lossless.flac").read_bytes())
    # Behind the magic, the block's header and the frame sizes: rate, channels, depth, 36 bits of samples.
    place = 4 + 4 + 10
    packed = int.from_bytes(data[place : place + 8], "big") | (1 << 36) - 1
    data[place : place + 8] = packed.to_bytes(8, "big")
    (tmp_path / "a.flac").write_bytes(data)
    found = probe(str(tmp_path / "a.flac"))
    assert found.flags == ("absurd_duration", "duration_scanned")
    assert found.duration == pytest.approx(40.0)
    assert probe(str(tmp_path / "a.flac"), scan=True).duration == pytest.approx(40.0, abs=0.2)


def _wave(rate=16_000, channels=1, samples=b"\x00\x00" * 100, data=b"data"):
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * 2 * channels, 2 * channels, 16)
    return (
        b"RIFF"
        + struct.pack("<I", 36 + len(samples))
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + form
        + data
        + struct.pack("<I", len(samples))
        + samples
    )


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_file"),
        (b"this is not audio\n" * 50, "not_audio"),
        (b"1\n00:00:01,000 --> 00:00:02,000\nhello\n\n" * 20, "not_audio"),
        (np.random.default_rng(0).bytes(5000), "not_audio"),
        (_wave(samples=b""), "no_samples"),
        (_wave(data=b"HURF"), "no_samples"),
        (_wave(rate=0), "bad_header"),
        (_wave(rate=1_092_676), "bad_header"),
        (_wave(channels=200, samples=b"\0" * 4000), "bad_header"),
        (b"fLaC" + b"\0" * 300, "bad_header"),
        (b"\0\0\0\x20ftypM4A \0\0\0\0" + b"\0" * 200, "bad_header"),
    ],
)
def test_a_file_that_is_not_audio_has_the_code_of_its_defect(tmp_path, content, code):
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(RowError) as error:
        probe(str(tmp_path / "a.wav"))
    assert error.value.code == code
    assert code in CODES


def test_zeros_instead_of_chunks_are_not_read(tmp_path, monkeypatch):
    """ffmpeg reads them 8 bytes at a time, with four seeks for each."""
    seeks = []
    seek = AudioFile.seek
    monkeypatch.setattr(AudioFile, "seek", lambda self, *place: seeks.append(place) or seek(self, *place))
    (tmp_path / "behind.wav").write_bytes(_wave(samples=b"\1\2" * 16_000) + bytes(16 << 20))
    assert probe(str(tmp_path / "behind.wav")).duration == 1.0
    assert len(seeks) < 100
    (tmp_path / "instead.wav").write_bytes(_wave(data=b"HURF") + bytes(64 << 20))
    with pytest.raises(RowError) as error:
        probe(str(tmp_path / "instead.wav"))
    assert error.value.code == "no_samples"
    assert len(seeks) < 100_000


def test_a_video_without_sound_has_no_audio_stream(tmp_path):
    import av

    with av.open(str(tmp_path / "mute.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for _ in range(5):
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24"))
            )
        container.mux(stream.encode(None))
    with pytest.raises(RowError) as error:
        probe(str(tmp_path / "mute.mp4"))
    assert error.value.code == "no_audio_stream"
    assert "video" in error.value.message


def test_a_playlist_opens_no_other_file(tmp_path, encoded):
    target = encoded("pcm.wav")
    (tmp_path / "list.wav").write_text(f"ffconcat version 1.0\nfile {target}\n")
    (tmp_path / "list2.wav").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{target}\n#EXT-X-ENDLIST\n"
    )
    for name in ("list.wav", "list2.wav"):
        with pytest.raises((RowError, PermissionError)):
            probe(str(tmp_path / name))


def test_real_recordings_have_the_facts_of_the_manifest(corpus_dir):
    for line in (corpus_dir / "manifest.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        found = probe(str(corpus_dir / row["audio"]))
        assert found.duration == pytest.approx(row["duration"], abs=0.05), row["audio"]
        assert found.channels == row["channels"], row["audio"]
