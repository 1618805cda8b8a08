"""What is no recording is refused with its kind; what is one is not."""

import gzip
import io
import json
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from actors.audio.formats.raw_pcm import raw_format
from actors.config import AudioConfig, SegmenterConfig
from actors.decoder import decode_shard

FIELD = Path(__file__).parents[4] / "shared" / "field"


def decoded(path, **columns):
    row = {"audio": str(path), "start": 0.0, "end": None, "duration": None, **columns}
    return decode_shard(row, AudioConfig(), SegmenterConfig(backend="energy"))


def mp3(tmp_path, speech, write, seconds=4):
    return write(tmp_path / "inner.mp3", speech(seconds, 16_000), "libmp3lame", 16_000).read_bytes()


def tar(data, format=tarfile.USTAR_FORMAT):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        member = tarfile.TarInfo("a.mp3")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def old_tar(data):
    head = bytearray(tar(data))
    head[257:265] = bytes(8)
    head[148:156] = b" " * 8
    head[148:156] = f"{sum(head[:512]):06o}".encode() + b"\0 "
    return bytes(head)


def stored_zip(data):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a.mp3", data)
    return buffer.getvalue()


OTHERS = {
    "a tar archive": tar,
    "a tar archive ": old_tar,
    "a tar archive  ": lambda data: tar(data, tarfile.PAX_FORMAT),
    "a zip archive": stored_zip,
    "gzip": gzip.compress,
    "a PDF document": lambda data: b"%PDF-1.7\n1 0 obj\n<</Type/Filespec>>stream\n" + data,
    "an e-mail": lambda data: b"From: a@b.c\r\nTo: d@e.f\r\nSubject: x\r\n\r\n" + data,
    "an HTML page": lambda data: b"\n<!DOCTYPE html>\n<html><body>404</body></html>" + data[:0],
    "an error message in XML": lambda data: b'<?xml version="1.0"?>\n<Error><Code>NoSuchKey</Code></Error>',
    "a Git LFS pointer": lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
    "JSON": lambda data: json.dumps({"error": "not found"}).encode(),
    "an empty page": lambda data: b"\r\n \r\n",
    "text": lambda data: b"This is the transcript of a talk, not the talk.\n" * 20,
    "nothing but zeros": lambda data: bytes(300_000),
    "a playlist": lambda data: b"#EXTM3U\na.mp3\n",
    "bzip2": lambda data: b"BZh91AY" + data,
    "captured network traffic": lambda data: b"\xd4\xc3\xb2\xa1\2\0\4\0" + bytes(16) + data,
    "Parquet": lambda data: b"PAR1" + data + b"PAR1",
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_recording_is_refused_by_its_kind(tmp_path, speech, write, kind):
    path = tmp_path / "a.mp3"
    path.write_bytes(OTHERS[kind](mp3(tmp_path, speech, write)))
    row = decoded(path)
    assert row["error_code"] == "not_audio"
    assert kind.strip() in row["error_message"]


def test_frames_in_the_middle_of_something_else_are_no_recording(tmp_path, speech, write):
    noise = np.random.default_rng(3).integers(0, 256, 120_000, np.uint8).tobytes()
    for codec, name in (("libmp3lame", "a.mp3"), ("aac", "a.aac"), ("ac3", "a.ac3"), ("mp2", "a.ts")):
        data = write(tmp_path / name, speech(8, 48_000), codec, 48_000).read_bytes()
        (tmp_path / f"in-{name}").write_bytes(b"ARCHIVE\0" + noise + data)
        row = decoded(tmp_path / f"in-{name}")
        assert row["error_code"] == "not_audio", (name, row["status"])


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp3", "libmp3lame"), ("a.aac", "aac"), ("a.ac3", "ac3"), ("a.ts", "mp2"), ("a.mpg", "mp2")],
)
def test_frames_behind_tags_and_pieces_of_frames_are_a_recording(tmp_path, speech, write, name, codec):
    data = write(tmp_path / name, speech(8, 48_000), codec, 48_000).read_bytes()
    tag = b"ID3\x04\0\0" + bytes([0, 0, 0x10, 0]) + bytes(2048)
    fronts = [b"", data[len(data) // 2 : len(data) // 2 + 700]]
    fronts += [tag, tag * 3, tag + bytes(5000)] if name in ("a.mp3", "a.aac") else []
    for front in fronts:
        (tmp_path / f"x-{name}").write_bytes(front + data)
        row = decoded(tmp_path / f"x-{name}")
        assert row["status"] in ("ok", "partial"), (len(front), row["error_message"])
        assert row["decoded_end"] > 7.5


@pytest.mark.parametrize(
    "encoding", ["s16le", "s16be", "s24le", "s24be", "s32le", "f32le", "f32be", "u8", "s8", "f64le"]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_without_a_header_are_read_as_described(tmp_path, speech, encoding, channels):
    wave = np.repeat(speech(5, 16_000)[:, None], channels, 1)
    path = tmp_path / "a.raw"
    kind, bits, order = encoding[0], int(encoding[1:3].strip("lb")), ">" if encoding.endswith("be") else "<"
    if kind == "f":
        data = wave.astype(f"{order}f{bits // 8}").tobytes()
    elif bits == 8:
        data = (
            (wave * 127).astype(np.int8) if kind == "s" else (wave * 127 + 128).astype(np.uint8)
        ).tobytes()
    elif bits == 24:
        whole = (wave * (2**31 - 1)).astype(np.int32).astype(f"{order}i4").tobytes()
        rows = np.frombuffer(whole, np.uint8).reshape(-1, 4)
        data = (rows[:, 1:] if order == "<" else rows[:, :3]).tobytes()
    else:
        data = (wave * (2 ** (bits - 1) - 1)).astype(f"{order}i{bits // 8}").tobytes()
    path.write_bytes(data + b"\1" * (encoding != "u8" and encoding != "s8"))
    row = decoded(path, raw_format=raw_format(encoding, 16_000, channels))
    assert row["status"] == "ok", row["error_message"]
    assert row["decoded_end"] == pytest.approx(5.0, abs=0.001)
    first = row["segments"][0]
    got = np.frombuffer(first["samples"], np.int16).astype(float)
    begin = round(first["start"] * 16_000)
    assert np.corrcoef(got, wave[begin : begin + len(got), 0])[0, 1] > 0.98


def test_a_description_does_not_apply_to_files_with_a_header(tmp_path, speech, write):
    path = tmp_path / "a.mp3"
    path.write_bytes(tar(mp3(tmp_path, speech, write)))
    row = decoded(path, raw_format="s16le:16000:1")
    assert "a tar archive" in row["error_message"]
    flac = write(tmp_path / "a.flac", speech(5, 16_000), "flac", 16_000)
    row = decoded(flac, raw_format="s16le:8000:2")
    assert row["decoded_end"] == pytest.approx(5.0, abs=0.01)


def test_samples_without_a_description_are_named(tmp_path, speech):
    (tmp_path / "a.pcm").write_bytes((speech(5, 16_000) * 32767).astype("<i2").tobytes())
    row = decoded(tmp_path / "a.pcm")
    assert row["error_code"] == "not_audio"
    assert "raw PCM" in row["error_message"]


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        (("s16le", 16_000, 1), "s16le:16000:1"),
        (("pcm_s16le", "8000", "2"), "s16le:8000:2"),
        (("ulaw", 8000.0, 1), "mulaw:8000:1"),
        (("wav", 16_000, 1), None),
        (("s16le", None, 1), None),
        ((None, 16_000, 1), None),
        (("s16le", 0, 1), None),
    ],
)
def test_columns_describe_samples_only_where_all_fit(columns, wanted):
    assert raw_format(*columns) == wanted


def test_encrypted_audio_is_refused(tmp_path, speech, write):
    path = write(tmp_path / "a.mp4", speech(5, 48_000), "aac", 48_000)
    data = bytearray(path.read_bytes())
    place = data.find(b"mp4a", data.find(b"stsd"))
    data[place : place + 4] = b"enca"
    path.write_bytes(data)
    row = decoded(path)
    assert row["error_code"] == "unsupported_codec"
    assert "encrypted" in row["error_message"]


def test_dsd_of_any_rate_is_read(tmp_path):
    for factor in (64, 256, 512):
        rate = 44_100 * factor
        bits = np.tile(np.array([0x69], np.uint8), rate // 8 // 4096 * 4096)
        body = b"fmt " + struct.pack("<QIIIIIIQII", 52, 1, 0, 1, 1, rate, 1, len(bits) * 8, 4096, 0)
        body += b"data" + struct.pack("<Q", 12 + len(bits)) + bits.tobytes()
        (tmp_path / "a.dsf").write_bytes(b"DSD " + struct.pack("<QQQ", 28, 28 + len(body), 0) + body)
        row = decoded(tmp_path / "a.dsf")
        assert row["error_code"] is None, row["error_message"]
        assert row["decoded_end"] == pytest.approx(1.0, abs=0.05)


def test_raw_dts_and_others_have_exact_spans(tmp_path, speech, write):
    for name, codec in (("a.dts", "dca"), ("a.ac3", "ac3"), ("a.eac3", "eac3")):
        options = {"strict": "experimental"}
        try:
            path = write(tmp_path / name, np.stack([speech(20, 48_000)] * 2, 1), codec, 48_000, options)
        except Exception:
            continue
        whole = decoded(path)
        assert whole["status"] == "ok"
        first, second = decoded(path, end=10.0, duration=20.0), decoded(path, start=10.0, duration=20.0)
        assert first["decoded_end"] == second["decoded_start"]
        assert second["decoded_end"] == pytest.approx(whole["decoded_end"], abs=0.01)


def test_the_archive_of_the_field_is_refused():
    path = FIELD / "shard_mp3.tar"
    if not path.exists():
        pytest.skip("the field is not here")
    assert "a tar archive" in decoded(path)["error_message"]
