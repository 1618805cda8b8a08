"""Recordings made to hurt: each ends as one dead letter with the right code or as a right transcript, in
bounded time and memory.
"""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from actors.decoder import Decoder
from tests.faults.harness.crc import crc
from tests.faults.harness.hostile_audio import (
    NOISE,
    PCM,
    REFUSALS,
    decode,
    outcome,
    peak_mib,
    planned,
)
from tests.faults.harness.wave_files import wave

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


def aiff(rate: bytes, channels: int = 1, frames: int = 32_000, bits: int = 16) -> bytes:
    comm = b"COMM" + struct.pack(">IhIh", 18, channels, frames, bits) + rate
    sound = (
        b"SSND" + struct.pack(">III", 8 + len(PCM), 0, 0) + np.frombuffer(PCM, "<i2").astype(">i2").tobytes()
    )
    return b"FORM" + struct.pack(">I", 4 + len(comm) + len(sound)) + b"AIFF" + comm + sound


def w64(frames_bytes: int) -> bytes:
    tail = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
    riff = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
    form = b"fmt " + tail + struct.pack("<Q", 40) + struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16)
    return (
        riff
        + struct.pack("<Q", 104 + len(PCM))
        + b"wave"
        + tail
        + form
        + b"data"
        + tail
        + struct.pack("<Q", frames_bytes)
        + PCM
    )


# 16 000 as an 80-bit float.
RATE_16K = b"\x40\x0c\xfa" + bytes(7)
# name -> (content, outcome, seconds decoded)
HEADERS = {
    "rate 0": (wave(rate=0), "bad_header", 0),
    "rate 4 GHz": (wave(rate=4_000_000_000), "bad_header", 0),
    "rate 7 Hz": (wave(rate=7), "bad_header", 0),
    "no channels": (wave(channels=0), "bad_header", 0),
    "200 channels": (wave(channels=200), "bad_header", 0),
    "65535 channels": (wave(channels=65_535), "bad_header", 0),
    "0 bits": (wave(bits=0), None, 0),
    "2^31 bytes": (wave(size=2**31), "ok", 2),
    "2^32-1 bytes": (wave(size=2**32 - 1), "ok", 2),
    "codec 0xfffe": (wave(kind=0xFFFE), None, 0),
    "codec 0xabcd": (wave(kind=0xABCD), None, 0),
    "aiff": (aiff(RATE_16K), "ok", 2),
    "aiff 2^32-1 frames": (aiff(RATE_16K, frames=2**32 - 1), "bad_header", 0),
    "aiff 0 Hz": (aiff(bytes(10)), "bad_header", 0),
    "aiff infinite Hz": (aiff(b"\x7f\xff" + b"\xff" * 8), "bad_header", 0),
    "aiff 0 channels": (aiff(RATE_16K, channels=0), "bad_header", 0),
    "aiff 0 bits": (aiff(RATE_16K, bits=0), None, 0),
    "w64": (w64(24 + len(PCM)), "ok", 2),
    "w64 2^63 bytes": (w64(2**63 - 1), None, 2),
}


@pytest.mark.parametrize("name", HEADERS)
def test_absurd_headers_are_refused_or_decoded_right(name: str, tmp_path: Path, decoder: Decoder) -> None:
    content, expected, seconds = HEADERS[name]
    (tmp_path / "a.bin").write_bytes(content)
    row = decode(decoder, tmp_path / "a.bin")
    assert outcome(row) == expected if expected else outcome(row) in REFUSALS | {"ok"}, row["error_message"]
    if expected == "ok":
        assert row["decoded_end"] == pytest.approx(seconds, abs=0.01)
    shards = planned(tmp_path / "a.bin")
    assert len(shards) == 1, "a lie about the length makes no shards"


def test_every_sample_format_gives_the_same_sound(tmp_path: Path, decoder: Decoder) -> None:
    """8 to 64 bits, 8 to 192 kHz: the same sound at the same level."""
    for rate, subtype in (
        (192_000, "DOUBLE"),
        (192_000, "PCM_24"),
        (16_000, "PCM_U8"),
        (8_000, "FLOAT"),
        (96_000, "PCM_32"),
        (16_000, "ULAW"),
    ):
        tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate)
        soundfile.write(tmp_path / "a.wav", tone, rate, subtype=subtype)
        row = decode(decoder, tmp_path / "a.wav")
        heard = np.frombuffer(row["segments"][0]["samples"], "<i2") / 32768
        assert outcome(row) == "ok" and row["decoded_end"] == pytest.approx(2, abs=0.001), subtype
        assert np.sqrt(np.mean(heard**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.03), subtype
    strange = NOISE.copy()
    strange[100::1000], strange[101::1000], strange[102::1000], strange[103::1000] = (
        np.nan,
        np.inf,
        -np.inf,
        1e300,
    )
    soundfile.write(tmp_path / "a.wav", strange, 16_000, subtype="DOUBLE")
    row = decode(decoder, tmp_path / "a.wav")
    assert outcome(row) == "ok" and "non_finite_samples" in row["flags"]


def silent_flac(hours: float, claimed: int | None = None) -> bytes:
    """Digital silence, 16 kHz mono, in frames of 65 535 samples that take 17 bytes each: an hour in 15 KB."""
    frames = round(hours * 3600 * 16_000 / 65_535)
    total = frames * 65_535 if claimed is None else claimed
    info = (
        struct.pack(">HH", 65_535, 65_535)
        + bytes(6)
        + (16_000 << 44 | 0 << 41 | 15 << 36 | total).to_bytes(8, "big")
        + bytes(16)
    )
    parts = [b"fLaC\x80\x00\x00\x22" + info]
    for number in range(frames):
        # A number in UTF-8 style coding; 0x78: size in 16 bits, rate from the header; then one constant
        # subframe.
        head = b"\xff\xf8\x70\x08" + chr(number).encode("utf-8", "surrogatepass") + struct.pack(">H", 65_534)
        head += bytes([crc(head, 0x07, 8)])
        body = head + b"\x00\x00\x00"
        parts.append(body + struct.pack(">H", crc(body, 0x8005, 16)))
    return b"".join(parts)


@pytest.mark.slow
def test_a_hundred_hours_of_silence_become_ordinary_shards(tmp_path: Path, decoder: Decoder) -> None:
    """1.5 MB that unpack to 11 GB become shards of ten minutes, each of which reads only its own span."""
    path = tmp_path / "a.flac"
    path.write_bytes(silent_flac(100))
    assert path.stat().st_size < 2 << 20
    shards = planned(path)
    assert len(shards) == 600 and shards[-1]["duration"] == pytest.approx(360_000, abs=10)
    ends = []
    for number in (0, 1, 300):
        shard = shards[number]
        row = decode(decoder, path, shard["start"], shard["end"], shard["duration"])
        assert (outcome(row), row["segments"]) == ("no_speech", []), (number, row["error_message"])
        ends.append((row["decoded_start"], row["decoded_end"]))
    assert ends[0][1] == ends[1][0] and 0 < ends[2][1] - ends[2][0] < 606
    assert peak_mib(decoder) < 700


@pytest.mark.slow
def test_a_bomb_without_a_length_is_bounded(tmp_path: Path, decoder: Decoder) -> None:
    """A file without a length is counted; decoding it as a short file stops after an hour of audio."""
    path = tmp_path / "a.flac"
    path.write_bytes(silent_flac(10, claimed=0))
    assert len(planned(path)) == 60
    assert outcome(decode(decoder, path)) == "too_long"
    path.write_bytes(silent_flac(0.05, claimed=2**36 - 1))
    (shard,) = planned(path)
    assert shard["duration"] == pytest.approx(180, abs=10)
    row = decode(decoder, path, duration=shard["duration"])
    assert outcome(row) == "no_speech" and row["decoded_end"] == pytest.approx(180, abs=10)
    with open(tmp_path / "sparse.wav", "wb") as file:
        file.write(wave(size=2**32 - 100, data=b""))
        file.truncate(1 << 30)
    assert outcome(decode(decoder, tmp_path / "sparse.wav")) == "too_long"
    assert peak_mib(decoder) < 900


@pytest.mark.slow
def test_time_stamps_that_jump_give_silence_shard_by_shard(tmp_path: Path, decoder: Decoder) -> None:
    """Two seconds of sound whose stamps spread over two days: the silence between is generated shard by
    shard.
    """
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for number in range(100):
            frame = av.AudioFrame.from_ndarray(
                np.frombuffer(PCM, "<i2")[None, number * 320 : number * 320 + 320], "s16", "mono"
            )
            frame.sample_rate, frame.pts = 16_000, number * 1700 * 16_000
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    shards = planned(path)
    assert 250 < len(shards) < 300
    assert outcome(decode(decoder, path)) == "too_long"
    row = decode(decoder, path, shards[100]["start"], shards[100]["end"], shards[100]["duration"])
    assert row["error_code"] is None and 590 < row["decoded_end"] - row["decoded_start"] < 610
    assert peak_mib(decoder) < 900
