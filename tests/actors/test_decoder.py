"""Decoded rows: shards meet exactly, and errors stay in their row."""

import itertools
import json
import os
import shutil
import struct

import numpy as np
import pytest
import soundfile

from actors.audio.probing import probe
from actors.audio.recordings.tracks import open_tracks
from actors.audio.sources import etag_of, open_audio
from actors.config import AudioConfig, SegmenterConfig
from actors.decoder import Decoder, border, decode_shard
from actors.errors import CODES

AUDIO, SEGMENTER = AudioConfig(isolate=False, retries=0), SegmenterConfig(backend="energy", max_duration=10)
SHARDED = [
    "pcm.wav",
    "pcm44.wav",
    "lossless.flac",
    "constant.mp3",
    "tagless.mp3",
    "lossy.m4a",
    "lossy.opus",
    "lossy.webm",
    "vorbis.ogg",
]


def plan(path, start=0.0, end=None, index=0, **more):
    row = {
        "shard_id": f"s{index}",
        "recording_id": "r",
        "audio": str(path),
        "index": index,
        "shard_count": 1,
        "start": start,
        "end": end,
    }
    row |= {
        "duration": None,
        "channel": "",
        "etag": "",
        "audio_bytes": 0,
        "language": "de",
        "metadata": "{}",
        "attempt": 1,
    }
    return row | more


def decode(path, *, audio=AUDIO, segmenter=SEGMENTER, **more):
    return decode_shard(plan(path, **more), audio, segmenter)


def samples_of(rows):
    return np.concatenate(
        [np.frombuffer(segment["samples"], "<i2") for row in rows for segment in row["segments"]]
    )


@pytest.mark.parametrize("name", SHARDED)
def test_shards_tile_the_recording(encoded, name):
    path, length = encoded(name), 12.0
    keep_all = SegmenterConfig(backend="energy", max_duration=1200)
    whole = decode(path, segmenter=keep_all)
    rows = [
        decode(
            path,
            segmenter=keep_all,
            start=k * length,
            end=(k + 1) * length if k < 3 else None,
            index=k,
            duration=40.0,
        )
        for k in (3, 2, 1, 0)  # so that both shards at a border compute it
    ][::-1]
    assert [row["status"] for row in rows] == ["ok"] * 4
    assert rows[0]["decoded_start"] == 0
    assert rows[-1]["decoded_end"] == whole["decoded_end"]
    for k, (left, right) in enumerate(itertools.pairwise(rows), 1):
        assert left["decoded_end"] == right["decoded_start"]
        assert abs(left["decoded_end"] - k * length) <= 2.5
    pieces, one = samples_of(rows).astype(float), samples_of([whole]).astype(float)
    assert len(pieces) == len(one)
    if name == "lossy.m4a":
        assert np.sqrt(np.mean((pieces - one) ** 2)) < 0.02 * one.std()
    else:
        assert np.array_equal(pieces, one)


def test_borders_are_quiet(encoded):
    with open_audio(str(encoded("pcm.wav"))) as file:
        tracks = open_tracks(file, "auto")
        wave, _ = soundfile.read(encoded("pcm.wav"), dtype="int16")
        for nominal in (12.0, 24.0, 36.0):
            cut = border(tracks, nominal)
            assert np.abs(wave[cut - 400 : cut + 400]).max() < 200
        assert border(tracks, 100.0) is None


def test_a_decoded_row_is_the_plan_row_with_an_outcome(encoded):
    row = plan(encoded("pcm.wav"))
    got = decode_shard(row, AUDIO, SEGMENTER)
    assert {name: got[name] for name in row} == row
    assert (got["status"], got["error_code"], got["error_stage"], got["error_message"], got["flags"]) == (
        "ok",
        None,
        None,
        None,
        [],
    )
    assert (got["decoded_start"], got["decoded_end"]) == (0.0, 40.0)
    for segment in got["segments"]:
        assert segment["end"] - segment["start"] <= 10
        assert segment["channel"] is None
        assert len(segment["samples"]) == 2 * round((segment["end"] - segment["start"]) * 16_000)


def test_each_channel_has_its_segments(tmp_path, speech):
    waves = np.stack([speech(8, 16_000, 1), np.zeros(8 * 16_000), speech(8, 16_000, 2)], axis=1)
    soundfile.write(tmp_path / "a.wav", waves, 16_000)
    got = decode(tmp_path / "a.wav", channel="each")
    assert {segment["channel"] for segment in got["segments"]} == {0, 2}
    assert {
        segment["channel"]
        for segment in decode(tmp_path / "a.wav", audio=AudioConfig(isolate=False, channel="2"))["segments"]
    } == {2}


def test_speech_on_cancelling_channels_is_decoded(tmp_path, speech):
    wave = speech(5, 16_000)
    soundfile.write(tmp_path / "a.wav", np.stack([wave, -wave], axis=1), 16_000)
    got = decode(tmp_path / "a.wav")
    assert got["status"] == "ok"
    assert "phase_cancelled" in got["flags"]
    assert np.abs(samples_of([got])).max() > 3000


def test_silence_has_no_speech_and_a_short_file_has_one_segment(tmp_path, speech):
    soundfile.write(tmp_path / "silence.wav", np.zeros(48_000), 16_000)
    got = decode(tmp_path / "silence.wav")
    assert (got["status"], got["segments"], got["decoded_end"]) == ("no_speech", [], 3.0)
    soundfile.write(tmp_path / "short.wav", speech(1, 16_000)[4000:6000], 16_000)
    got = decode(tmp_path / "short.wav")
    assert got["status"] == "ok"
    assert len(got["segments"]) == 1
    assert got["decoded_end"] == 0.125


def test_a_truncated_file_is_partial_and_later_shards_have_the_true_end(encoded, tmp_path):
    for name in ("pcm.wav", "lossless.flac", "constant.mp3"):
        data = encoded(name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        first = decode(tmp_path / name, end=12.0, duration=40.0)
        second = decode(tmp_path / name, start=12.0, end=24.0, duration=40.0, index=1)
        third = decode(tmp_path / name, start=24.0, end=36.0, duration=40.0, index=2)
        last = decode(tmp_path / name, start=36.0, duration=40.0, index=3)
        assert first["status"] == "ok", name
        assert second["status"] == "partial", name
        assert "truncated" in second["flags"], name
        assert first["decoded_end"] == second["decoded_start"]
        assert 18 < second["decoded_end"] < 22
        for row in (third, last):
            assert row["status"] == "no_speech"
            assert "beyond_end" in row["flags"]
            assert row["segments"] == []
            assert (
                row["decoded_start"] == row["decoded_end"] == pytest.approx(second["decoded_end"], abs=0.05)
            )


def test_a_file_longer_than_its_header_is_decoded_to_its_end(encoded):
    got = decode(encoded("tagless.mp3"), start=12.0, duration=20.0, index=1)
    assert got["status"] == "ok"
    assert got["decoded_end"] == pytest.approx(40, abs=0.1)


def test_an_object_that_was_replaced_is_audio_changed(encoded, tmp_path):
    path = tmp_path / "a.wav"
    shutil.copy(encoded("pcm.wav"), path)
    etag, size = etag_of(str(path))
    assert decode(path, etag=etag, audio_bytes=size)["status"] == "ok"
    os.utime(path, ns=(5, 5))
    assert decode(path, etag=etag, audio_bytes=size)["error_code"] == "audio_changed"


def broken_files(folder, good):
    """Write files with one defect each; returns the error code of each file name."""
    header = good.read_bytes()[:78]
    garbage = np.random.default_rng(3).bytes(20_000)
    contents = {
        "empty.wav": (b"", "empty_file"),
        "text.mp3": (b"this is not audio\n" * 60, "not_audio"),
        "garbage.flac": (garbage, "not_audio"),
        "header.wav": (header[: header.index(b"data")] + b"data" + struct.pack("<I", 0), "no_samples"),
        "rate.wav": (header[:24] + struct.pack("<I", 2**31) + header[28:] + garbage, "bad_header"),
    }
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    return {name: code for name, (_, code) in contents.items()} | {"absent.wav": "audio_not_found"}


@pytest.mark.parametrize("isolate", [False, True])
def test_a_broken_file_is_one_error_row(encoded, tmp_path, isolate):
    expected = broken_files(tmp_path, encoded("pcm.wav"))
    decoder = Decoder(AudioConfig(isolate=isolate, retries=0), SEGMENTER)
    rows = decoder([*(plan(tmp_path / name) for name in expected), plan(encoded("pcm.wav"))])
    decoder.close()
    assert {os.path.basename(row["audio"]): row["error_code"] for row in rows[:-1]} == expected
    for row in rows[:-1]:
        assert row["status"] == "error"
        assert row["error_stage"] == "decode"
        assert row["error_message"]
        assert row["segments"] == []
        assert row["error_code"] in CODES
    assert rows[-1]["status"] == "ok"


def test_isolation_does_not_change_the_result(encoded):
    decoder = Decoder(AudioConfig(), SEGMENTER)
    row = plan(encoded("lossy.opus"), start=12.0, end=24.0)
    assert decoder([row]) == [decode_shard(row, AUDIO, SEGMENTER)]
    decoder.close()


def test_a_crash_or_a_hang_costs_one_row(encoded, tmp_path, monkeypatch):
    decoder = Decoder(AudioConfig(timeout=60), SEGMENTER)
    good, pipe = plan(encoded("pcm.wav")), tmp_path / "pipe.wav"
    assert decoder([good])[0]["status"] == "ok"
    call, crashes = decoder._child.call, []

    def crash(function, *arguments, timeout):
        if arguments[0]["shard_id"] == "bad":
            crashes.append(1)
            return call("os:abort", timeout=timeout)
        return call(function, *arguments, timeout=timeout)

    monkeypatch.setattr(decoder._child, "call", crash)
    rows = decoder([good, good | {"shard_id": "bad"}, good])
    assert [row["error_code"] for row in rows] == [None, "decoder_crashed", None]
    assert len(crashes) == 2
    monkeypatch.undo()
    # Opening the pipe waits for a writer that never comes.
    os.mkfifo(pipe)
    impatient = Decoder(AudioConfig(timeout=0.5), SEGMENTER)
    assert impatient([plan(pipe)])[0]["error_code"] == "decode_timeout"
    impatient.close()
    decoder.close()


def test_a_shard_in_s3_equals_the_local_one(s3_bucket, encoded):
    import s3fs

    uri = f"{s3_bucket}/decoder/a b.mp3"
    s3fs.S3FileSystem().put_file(str(encoded("constant.mp3")), uri)
    etag, size = etag_of(uri)
    found = probe(uri)
    assert (found.etag, found.size_bytes) == (etag, size)
    decoder = Decoder(AudioConfig(), SEGMENTER)
    remote = decoder([plan(uri, start=12.0, etag=etag, audio_bytes=size)])[0]
    decoder.close()
    local = decode(encoded("constant.mp3"), start=12.0)
    assert remote["status"] == "ok"
    assert remote["segments"] == local["segments"]


def test_broken_files_of_the_corpus_have_their_codes(corpus_dir):
    codes = {
        "empty.wav": "empty_file",
        "header_only.wav": "no_samples",
        "not_audio.mp3": "not_audio",
        "random.flac": "not_audio",
        "ps_awful.wav": "bad_header",
        "ps_bad.wav": "bad_header",
        "ps_evil.wav": "no_samples",
        "ps_null.wav": "no_samples",
    }
    for line in (corpus_dir / "manifest_broken.jsonl").read_text("utf-8").splitlines():
        path = corpus_dir / json.loads(line)["audio"]
        if path.name == "truncated.flac":
            row = decode(path, duration=probe(str(path)).duration)
            assert row["status"] == "partial"
            assert "truncated" in row["flags"]
            assert 1 < row["decoded_end"] < 11
        else:
            assert decode(path)["error_code"] == codes[path.name], path.name


@pytest.mark.slow
def test_shards_of_long_real_recordings_tile_them(corpus_dir):
    """The long recordings of the corpus in shards of 120 s: nothing is lost, and nothing is decoded twice."""
    keep = SegmenterConfig(backend="energy", max_duration=1200)
    for name in (
        "long_de_kerstin_24min.opus",
        "long_dutch_dialogue_22min.mp3",
        "long_en_so762_6min.m4a",
        "long_en_lj001_4min.ogg",
    ):
        path = corpus_dir / "audio" / name
        duration = probe(str(path)).duration
        count = int(duration // 120) + 1
        rows = [
            decode(
                path,
                segmenter=keep,
                start=k * 120.0,
                end=(k + 1) * 120.0 if k < count - 1 else None,
                index=k,
                duration=duration,
            )
            for k in reversed(range(count))
        ][::-1]
        whole = decode(path, segmenter=keep, duration=duration)
        assert rows[-1]["decoded_end"] == whole["decoded_end"] == pytest.approx(duration, abs=0.05)
        assert all(left["decoded_end"] == right["decoded_start"] for left, right in itertools.pairwise(rows))
