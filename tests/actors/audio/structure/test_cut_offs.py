"""Files that were cut off are truncated and partial in every container that says how long it is."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile

from actors.config import AudioConfig, SegmenterConfig
from actors.decoder import decode_shard

AUDIO, SEGMENTER = AudioConfig(isolate=False, retries=0), SegmenterConfig(backend="energy")
SECONDS = 13.7
FAST = {"movflags": "faststart"}
# File name -> (muxer, codec, sampling rate, options of the muxer).
CONTAINERS = {
    "a.wav": ("wav", "pcm_s16le", 16_000, {}),
    "rf64.wav": ("wav", "pcm_s24le", 16_000, {"rf64": "always"}),
    "adpcm.wav": ("wav", "adpcm_ms", 16_000, {}),
    "mp3.wav": ("wav", "libmp3lame", 16_000, {}),
    "a.w64": ("w64", "pcm_s16le", 16_000, {}),
    "a.aiff": ("aiff", "pcm_s16be", 16_000, {}),
    "ima.aiff": ("aiff", "adpcm_ima_qt", 16_000, {}),
    "a.au": ("au", "pcm_s16be", 16_000, {}),
    "a.caf": ("caf", "pcm_s16le", 16_000, {}),
    "alac.caf": ("caf", "alac", 16_000, {}),
    "a.voc": ("voc", "pcm_u8", 16_000, {}),
    "a.sox": ("sox", "pcm_s32le", 16_000, {}),
    "a.flac": ("flac", "flac", 16_000, {}),
    "a.tta": ("tta", "tta", 16_000, {}),
    "a.wv": ("wv", "wavpack", 16_000, {}),
    "a.opus": ("opus", "libopus", 48_000, {}),
    "a.ogg": ("ogg", "vorbis", 16_000, {}),
    "a.mp3": ("mp3", "libmp3lame", 16_000, {}),
    "a.m4a": ("ipod", "aac", 16_000, {}),
    "fast.m4a": ("ipod", "aac", 16_000, FAST),
    "alac.m4a": ("ipod", "alac", 16_000, FAST),
    "fragments.mp4": (
        "mp4",
        "aac",
        16_000,
        {"movflags": "frag_keyframe+empty_moov", "frag_duration": "500000"},
    ),
    "a.mov": ("mov", "pcm_s16le", 16_000, FAST),
    "a.mkv": ("matroska", "aac", 16_000, {}),
    "pcm.mkv": ("matroska", "pcm_s16le", 16_000, {}),
    "a.webm": ("webm", "libopus", 48_000, {}),
    "a.avi": ("avi", "libmp3lame", 16_000, {}),
    "pcm.avi": ("avi", "pcm_s16le", 16_000, {}),
    "a.wma": ("asf", "wmav2", 44_100, {}),
    "a.flv": ("flv", "libmp3lame", 44_100, {}),
    "aac.flv": ("flv", "aac", 44_100, {}),
    "a.nut": ("nut", "libmp3lame", 16_000, {}),
    "a.rm": ("rm", "ac3", 48_000, {}),
}


def write(path, muxer, codec, rate, options, wave):
    if codec == "vorbis":
        soundfile.write(path, wave, rate, format="OGG", subtype="VORBIS")
        return
    with av.open(str(path), "w", format=muxer, options=options) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        if codec in ("aac", "wmav2", "libmp3lame", "libopus", "ac3"):
            stream.bit_rate = 96_000
        frame = av.AudioFrame.from_ndarray((wave * 32767).astype(np.int16)[None], "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        fifo = av.AudioFifo()
        for piece in av.AudioResampler(stream.format.name, "mono", rate).resample(frame):
            fifo.write(piece)
        while (piece := fifo.read(stream.codec_context.frame_size or 1024, partial=True)) is not None:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))


def decode(path, start=0.0, end=None, duration=None):
    row = {"shard_id": "s", "recording_id": "r", "audio": str(path), "index": 0, "shard_count": 1}
    row |= {"start": start, "end": end, "duration": duration, "channel": "", "etag": "", "audio_bytes": 0}
    return decode_shard(row | {"language": None, "metadata": "{}", "attempt": 1}, AUDIO, SEGMENTER)


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_file_that_was_cut_off_is_truncated_and_a_healthy_one_is_not(tmp_path, speech, name):
    muxer, codec, rate, options = CONTAINERS[name]
    path, cut = tmp_path / name, tmp_path / f"cut_{name}"
    write(path, muxer, codec, rate, options, speech(SECONDS, rate))
    healthy = decode(path)
    assert (healthy["status"], healthy["flags"]) == ("ok", [])
    assert healthy["decoded_end"] == pytest.approx(SECONDS, abs=0.15)
    content = path.read_bytes()
    for share in (0.95, 0.7, 0.4):
        cut.write_bytes(content[: int(share * len(content))])
        row = decode(cut)
        # Some indexes are at the end of the file, and some blocks are as long as the file.
        assert row["error_code"] in ("bad_header", "no_samples") or (
            row["status"] == "partial" and "truncated" in row["flags"]
        ), share
        if row["status"] == "partial":
            assert 0.2 * SECONDS < row["decoded_end"] <= healthy["decoded_end"]
            assert row["segments"]


@pytest.mark.parametrize("samples", [53 * 4096 + 32, 54 * 4096])
def test_a_last_frame_of_few_samples_is_no_loss(tmp_path, speech, samples):
    """FFmpeg counts the last frame of ALAC as whole in the index of a CAF file."""
    wave = speech(samples / 16_000 + 0.1, 16_000)[:samples]
    write(tmp_path / "a.caf", "caf", "alac", 16_000, {}, wave)
    row = decode(tmp_path / "a.caf")
    assert (row["status"], row["flags"]) == ("ok", [])
    assert row["decoded_end"] == pytest.approx(samples / 16_000)


def test_an_ogg_stream_without_its_last_page_is_truncated(tmp_path, encoded):
    content = encoded("lossy.opus").read_bytes()
    last = content.rindex(b"OggS")
    (tmp_path / "a.opus").write_bytes(content[:last])
    row = decode(tmp_path / "a.opus")
    assert (row["status"], row["flags"]) == ("partial", ["truncated"])


def test_ogg_by_firefox_never_has_a_last_page(corpus_dir):
    for number in (572, 573, 574, 579):
        path = corpus_dir / "audio" / f"kerstin_de_rhasspy-0{number}.webm"
        assert path.read_bytes()[:4] == b"OggS"
        assert decode(path)["flags"] == []


def test_streams_of_unknown_length_are_not_truncated(tmp_path, encoded):
    assert decode(encoded("live.webm"))["flags"] == []
    content = bytearray(encoded("pcm.wav").read_bytes())
    place = content.index(b"data") + 4
    for size in (0, 0xFFFF_FFFF):
        content[place : place + 4] = size.to_bytes(4, "little")
        (tmp_path / "a.wav").write_bytes(content)
        row = decode(tmp_path / "a.wav")
        assert (row["status"], row["flags"], row["decoded_end"]) == ("ok", [], 40.0)


def test_only_the_shard_with_the_end_is_partial(tmp_path, encoded):
    content = encoded("pcm.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(content[: int(0.7 * len(content))])
    rows = [decode(tmp_path / "a.wav", *span) for span in ((0.0, 12.0), (12.0, 24.0), (24.0, None))]
    assert [row["status"] for row in rows] == ["ok", "ok", "partial"]
    assert rows[-1]["flags"] == ["truncated"]
    assert rows[-1]["decoded_end"] == pytest.approx(28.0, abs=0.01)


def test_sound_that_could_not_be_read_makes_the_last_shard_partial(tmp_path, encoded):
    content = encoded("pcm.wav").read_bytes() + np.random.default_rng(0).bytes(300_000)
    (tmp_path / "a.wav").write_bytes(content)
    rows = [decode(tmp_path / "a.wav", *span) for span in ((0.0, 12.0), (12.0, None))]
    assert [row["status"] for row in rows] == ["ok", "partial"]
    assert all(row["flags"] == ["audio_unread"] for row in rows)
