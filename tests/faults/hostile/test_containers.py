"""Containers made to hurt: wrong positions, box sizes, tags, pictures and streams are bounded."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import av
import numpy as np
import pytest

from actors.config import AudioConfig, SegmenterConfig
from actors.decoder import Decoder
from tests.faults.harness.crc import crc
from tests.faults.harness.hostile_audio import (
    DEMO,
    PCM,
    REFUSALS,
    boxes,
    decode,
    outcome,
    peak_mib,
    planned,
)
from tests.faults.harness.wave_files import wave


def ogg_pages(data: bytes, granule: int) -> bytes:
    """All pages after the headers with this position and correct checksums."""
    result, place = bytearray(data), 0
    while (place := data.find(b"OggS", place)) >= 0:
        segments = data[place + 26]
        size = 27 + segments + sum(data[place + 27 : place + 27 + segments])
        if data[place + 6 : place + 14] != bytes(8):
            result[place + 6 : place + 14] = struct.pack("<Q", granule)
            result[place + 22 : place + 26] = bytes(4)
            result[place + 22 : place + 26] = struct.pack(
                "<I", crc(bytes(result[place : place + size]), 0x04C11DB7, 32)
            )
        place += size
    return bytes(result)


@pytest.mark.parametrize("granule", [2**62, 2**63, 2**64 - 2, 1, 2**40])
@pytest.mark.parametrize("name", ["voice-note.ogg", "announcement.opus"])
def test_wrong_ogg_positions_do_not_mislead(
    granule: int, name: str, tmp_path: Path, decoder: Decoder
) -> None:
    healthy = decode(decoder, DEMO / name)
    (tmp_path / name).write_bytes(ogg_pages((DEMO / name).read_bytes(), granule))
    (shard,) = planned(tmp_path / name)
    row = decode(decoder, tmp_path / name, duration=shard["duration"])
    assert outcome(row) in ("ok", "partial", "no_samples", "no_speech", "corrupt_audio"), row["error_message"]
    if outcome(row) == "ok":
        assert row["decoded_end"] <= healthy["decoded_end"] + 1


def test_wrong_sizes_of_mp4_boxes_are_bounded(tmp_path: Path, decoder: Decoder) -> None:
    """Each box in turn claims to be empty, 4 GiB or slightly too long; each table claims 4e9 entries."""
    data = (DEMO / "memo.m4a").read_bytes()
    found = [*boxes(data, 0, len(data))]
    assert {b"moov", b"stsz", b"stsc", b"mdat"} <= {name for _, name in found}
    seen = set()
    for place, name in found:
        for offset, value in (
            (0, 0),
            (0, 1),
            (0, 9),
            (0, 0xFFFFFFFF),
            (0, 0x7FFFFFFF),
            (12, 0xFFFFFFFF),
            (16, 0xFFFFFFFF),
        ):
            damaged = bytearray(data)
            damaged[place + offset : place + offset + 4] = struct.pack(">I", value)
            (tmp_path / "a.m4a").write_bytes(damaged)
            row = decode(decoder, tmp_path / "a.m4a")
            assert outcome(row) in REFUSALS | {"ok", "partial", "no_speech", "no_audio_stream", "too_long"}, (
                name,
                offset,
                value,
                row["error_message"],
            )
            seen.add(outcome(row))
    assert {"ok", "bad_header"} <= seen and peak_mib(decoder) < 900


def test_tags_larger_than_their_file_are_refused(tmp_path: Path, decoder: Decoder) -> None:
    sound = (DEMO / "message.mp3").read_bytes()
    assert sound[:3] == b"ID3"
    sound = sound[10 + (sound[8] << 7 | sound[9]) :]
    healthy = decode(decoder, DEMO / "message.mp3")

    def tag(size: int) -> bytes:
        return b"ID3\x03\x00\x00" + bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))

    path = tmp_path / "a.mp3"
    # More than there is.
    path.write_bytes(tag(2**28 - 1) + sound)
    assert outcome(decode(decoder, path)) in REFUSALS
    path.write_bytes(tag(30 << 20) + bytes(30 << 20) + sound)
    row = decode(decoder, path)
    assert outcome(row) == "ok" and row["decoded_end"] == pytest.approx(healthy["decoded_end"], abs=0.06)
    path.write_bytes((tag(10) + bytes(10)) * 20_000 + sound)
    assert outcome(decode(decoder, path)) in REFUSALS | {"ok", "partial"}
    picture = png(30_000, 30_000)
    frame = b"APIC" + struct.pack(">IH", len(picture) + 13, 0) + b"\0image/png\0\3\0" + picture
    path.write_bytes(tag(len(frame)) + frame + sound)
    row = decode(decoder, path)
    assert outcome(row) == "ok" and row["decoded_end"] == pytest.approx(healthy["decoded_end"], abs=0.06)
    assert peak_mib(decoder) < 900


def png(width: int, height: int) -> bytes:
    """The first bytes of a picture that takes gigabytes to render."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    rows = zlib.compress(bytes(4 * width + 1) * 20)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0))
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )


def test_video_is_never_decoded(tmp_path: Path) -> None:
    """A frame of 8,000 by 8,000 pixels beside the sound: its 190 MB are never allocated."""
    path = tmp_path / "a.mov"
    with av.open(str(path), "w") as container:
        video, sound = (
            container.add_stream("png", rate=1),
            container.add_stream("pcm_s16le", rate=16_000, layout="mono"),
        )
        video.width, video.height, video.pix_fmt = 8000, 8000, "rgb24"
        picture = av.VideoFrame(8000, 8000, "rgb24")
        picture.pts = 0
        container.mux(video.encode(picture))
        frame = av.AudioFrame.from_ndarray(np.frombuffer(PCM, "<i2")[None], "s16", "mono")
        frame.sample_rate, frame.pts = 16_000, 0
        container.mux(sound.encode(frame))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    decoder = Decoder(AudioConfig(timeout=120, retries=0), SegmenterConfig(backend="energy"))
    decode(decoder, DEMO / "message.mp3")
    before = peak_mib(decoder)
    row = decode(decoder, path)
    assert outcome(row) == "ok" and row["decoded_end"] == pytest.approx(2, abs=0.01)
    assert peak_mib(decoder) - before < 100
    decoder.close()


def test_a_thousand_streams_are_bounded(tmp_path: Path, decoder: Decoder) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in range(900)]
        for number, stream in enumerate(streams):
            frame = av.AudioFrame.from_ndarray(
                np.frombuffer(PCM, "<i2")[None, : 1600 if number else None], "s16", "mono"
            )
            frame.sample_rate, frame.pts = 16_000, 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    row = decode(decoder, path)
    assert (
        outcome(row) == "ok"
        and "several_audio_streams" in row["flags"]
        and row["decoded_end"] == pytest.approx(2, abs=0.01)
    )


def test_zip_and_gzip_are_not_unpacked(tmp_path: Path, decoder: Decoder) -> None:
    import gzip
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.wav", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.wav", wave(data=bytes(50 << 20)))
    (tmp_path / "b.wav").write_bytes(gzip.compress(wave(data=bytes(50 << 20))))
    assert [outcome(decode(decoder, tmp_path / name)) for name in ("a.wav", "b.wav")] == [
        "not_audio",
        "not_audio",
    ]
