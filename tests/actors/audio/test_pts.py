"""Every second is decoded exactly once whatever a container's time stamps are, or a flag says so."""

import itertools
from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile

from actors.audio import probing, pts
from actors.audio.decoding import decode_span
from actors.audio.header_facts import has_constant_bit_rate
from actors.audio.probing import probe, probe_many
from actors.audio.recordings import ends
from actors.audio.sources import open_audio
from actors.audio.timeline import SampleReader
from actors.config import AudioConfig, SegmenterConfig
from actors.decoder import decode_shard

AUDIO, KEEP = AudioConfig(isolate=False, retries=0), SegmenterConfig(backend="energy", max_duration=1200)


def decode(path, start=0.0, end=None, index=0, duration=None):
    row = {
        "shard_id": f"s{index}",
        "recording_id": "r",
        "audio": str(path),
        "index": index,
        "start": start,
        "end": end,
    }
    return decode_shard(
        row | {"duration": duration, "channel": "", "etag": "", "audio_bytes": 0}, AUDIO, KEEP
    )


def shards(path, duration, count=3):
    places = [duration * number / count for number in range(count)] + [None]
    return [
        decode(path, start, end, index, duration)
        for index, (start, end) in enumerate(itertools.pairwise(places))
    ]


def samples_of(rows):
    return np.concatenate(
        [np.frombuffer(segment["samples"], "<i2") for row in rows for segment in row["segments"]]
    )


def write_stamped(path, wave, stamp_of):
    """PCM at 16 kHz in packets of 50 ms; `stamp_of` maps the second of each to its time stamp in seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for begin in range(0, len(wave), 800):
            frame = av.AudioFrame.from_ndarray(
                (wave[begin : begin + 800] * 32767).astype(np.int16)[None], format="s16", layout="mono"
            )
            frame.sample_rate, frame.time_base = 16_000, Fraction(1, 16_000)
            frame.pts = round(stamp_of(begin / 16_000) * 16_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_film(path, wave, seconds, begin=0.0):
    """A film of `seconds` whose sound, at 16 kHz, begins at second `begin`."""
    with av.open(str(path), "w") as container:
        picture = container.add_stream("flv1" if path.suffix == ".flv" else "mpeg4", rate=10)
        picture.width = picture.height = 32
        sound = container.add_stream("aac", rate=16_000, layout="mono")
        still = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        for number in range(round(seconds * 10)):
            still.pts = number
            container.mux(picture.encode(still))
            place = round((number / 10 - begin) * 16_000)
            if 0 <= place < len(wave):
                frame = av.AudioFrame.from_ndarray(
                    (wave[place : place + 1600] * 32767).astype(np.int16)[None], format="s16", layout="mono"
                )
                frame.sample_rate, frame.time_base, frame.pts = (
                    16_000,
                    Fraction(1, 16_000),
                    round(begin * 16_000) + place,
                )
                container.mux(sound.encode(frame))
        for stream in (picture, sound):
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "codec", "rate", "lengths"),
    [
        ("a.opus", "libopus", 48_000, (8, 16)),
        ("a.ogg", "vorbis", 22_050, (12, 12)),
        ("a.ts", "mp2", 16_000, (8, 16)),
        ("b.ts", "mp2", 16_000, (12, 12)),
    ],
)
def test_concatenated_recordings_are_decoded_as_one(tmp_path, speech, write, name, codec, rate, lengths):
    parts = [
        write(tmp_path / f"{part}{name}", speech(length, rate, part), codec, rate)
        for part, length in enumerate(lengths)
    ]
    (tmp_path / name).write_bytes(b"".join(part.read_bytes() for part in parts))
    found = probe(str(tmp_path / name), scan=True)
    assert found.duration == pytest.approx(24, abs=0.2)
    whole, rows = decode(tmp_path / name), shards(tmp_path / name, found.duration)
    assert whole["decoded_end"] == pytest.approx(24, abs=0.2)
    assert [row["status"] for row in rows] == ["ok"] * 3
    assert not any("beyond_end" in row["flags"] for row in rows)
    assert all(left["decoded_end"] == right["decoded_start"] for left, right in itertools.pairwise(rows))
    assert np.array_equal(samples_of(rows), samples_of([whole]))


def test_packets_of_a_chained_ogg_file_are_always_counted(tmp_path, speech, write):
    parts = [write(tmp_path / f"{part}.ogg", speech(12, 16_000, part), "vorbis", 16_000) for part in range(2)]
    (tmp_path / "a.ogg").write_bytes(b"".join(part.read_bytes() for part in parts))
    found = probe(str(tmp_path / "a.ogg"))
    assert found.duration == pytest.approx(24, abs=0.1)
    assert found.flags == ("chained", "duration_scanned")
    assert probe(str(parts[0])).flags == ()


def test_time_stamps_slower_than_the_sound_lose_nothing_or_set_a_flag(tmp_path, speech, monkeypatch):
    path = write_stamped(tmp_path / "a.mkv", speech(36, 16_000), lambda seconds: 0.9 * seconds)
    duration = probe(str(path)).duration
    rows = shards(path, duration)
    assert duration == pytest.approx(32.4, abs=0.1)
    assert [row["status"] for row in rows] == ["ok"] * 3
    assert np.array_equal(samples_of(rows), samples_of([decode(path)]))
    assert rows[-1]["decoded_end"] == 36.0
    # As if the file were too large for its packets to be read.
    monkeypatch.setattr(pts, "_MAX_WALKED_BYTES", {})
    rows = shards(path, duration)
    assert rows[0]["status"] == "partial"
    assert "stamps_unreliable" in rows[0]["flags"]
    assert decode(path)["status"] == "ok", "a shard without neighbours loses nothing"


def test_a_long_hole_is_filled_in_every_shard(tmp_path, speech, monkeypatch):
    monkeypatch.setattr(pts, "MAX_GAP", 5.0)
    path = write_stamped(
        tmp_path / "a.mkv", speech(36, 16_000), lambda seconds: seconds + (20 if seconds >= 10 else 0)
    )
    assert probe(str(path)).duration == pytest.approx(56, abs=0.1)
    rows = shards(path, 56.0, 4)
    assert rows[-1]["decoded_end"] == 56.0
    assert np.array_equal(samples_of(rows), samples_of([decode(path)]))


def test_a_jump_beyond_the_header_duration_is_not_filled(tmp_path, speech, monkeypatch):
    monkeypatch.setattr(pts, "MAX_GAP", 5.0)
    path = write_stamped(
        tmp_path / "a.mkv", speech(12, 16_000), lambda seconds: seconds + (20 if seconds >= 6 else 0)
    )
    monkeypatch.setattr("actors.audio.timeline.max_hole_end", lambda opened, file: 0.0)
    assert decode(path)["decoded_end"] == 12.0


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.flv"])
def test_a_film_that_ends_without_sound_is_complete(tmp_path, speech, name):
    path = write_film(tmp_path / name, speech(6, 16_000), 14)
    row = decode(path, duration=probe(str(path)).duration)
    assert row["status"] == "ok"
    assert row["flags"] == []
    assert row["decoded_end"] == pytest.approx(6, abs=0.2)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_sound_that_begins_late_has_the_times_of_the_film(tmp_path, speech, name):
    path = write_film(tmp_path / name, speech(16, 16_000), 21, begin=5.0)
    duration = probe(str(path)).duration
    assert duration == pytest.approx(21, abs=0.2)
    whole, rows = decode(path, duration=duration), shards(path, duration, 2)
    assert whole["status"] == "ok"
    assert whole["flags"] == []
    assert whole["decoded_end"] == pytest.approx(21, abs=0.2)
    assert 4.5 <= whole["segments"][0]["start"] <= 5.2
    assert [row["status"] for row in rows] == ["ok"] * 2
    assert rows[-1]["decoded_end"] == whole["decoded_end"]
    assert all(left["decoded_end"] == right["decoded_start"] for left, right in itertools.pairwise(rows))
    assert len(samples_of(rows)) == len(samples_of([whole]))


def test_a_matroska_audio_file_that_was_cut_off_is_truncated(encoded, tmp_path):
    data = encoded("lossy.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(data[: len(data) // 2])
    row = decode(tmp_path / "a.mkv", duration=probe(str(tmp_path / "a.mkv")).duration)
    assert row["status"] == "partial"
    assert "truncated" in row["flags"]


def write_changing_bit_rate(path, speech):
    """An mp3 without a tag: 16 s at 160 kbit/s, then 44 s at 16 kbit/s."""
    with open(path, "wb") as file:
        for seed, (seconds, bit_rate) in enumerate(((16, 160_000), (44, 16_000))):
            part = path.with_name(f"{seed}.mp3")
            with av.open(str(part), "w", options={"write_xing": "0", "id3v2_version": "0"}) as container:
                stream = container.add_stream("libmp3lame", rate=16_000, layout="mono")
                stream.bit_rate = bit_rate
                wave = (speech(seconds, 16_000, seed) * 32767).astype(np.int16)[None]
                frame = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
                frame.sample_rate, frame.pts = 16_000, 0
                container.mux(stream.encode(frame))
                container.mux(stream.encode(None))
            file.write(part.read_bytes())
    return path


def test_an_mp3_that_begins_at_a_high_bit_rate_is_decoded_to_its_end(tmp_path, speech, monkeypatch):
    path = write_changing_bit_rate(tmp_path / "a.mp3", speech)
    guess = probe(str(path))
    assert guess.duration < 32
    assert guess.flags == ("duration_estimated",)
    monkeypatch.setattr(ends, "_MAX_BEYOND", 5.0)
    row = decode(path, 12.0, None, 1, guess.duration)
    assert row["status"] == "ok"
    assert row["decoded_end"] == pytest.approx(60, abs=0.3)
    monkeypatch.setattr(probing, "SCAN_BYTES", 256 << 10)
    assert probe_many([str(path)], 1, None)[0].duration == pytest.approx(60, abs=0.3)


def test_packets_of_an_mp3_with_a_constant_bit_rate_are_not_counted(encoded, monkeypatch):
    path = encoded("tagless.mp3")
    monkeypatch.setattr(probing, "SCAN_BYTES", 256 << 10)
    monkeypatch.setattr(probing, "walk_packets", lambda *_: pytest.fail("all packets were read"))
    found = probe_many([str(path)], 1, None)[0]
    assert found.flags == ("duration_estimated", "constant_rate")
    assert found.duration == pytest.approx(40, abs=0.2)
    with open_audio(str(encoded("pcm.wav"))) as file:
        assert not has_constant_bit_rate(file)


@pytest.mark.parametrize("codec", ["adpcm_ima_wav", "adpcm_ms"])
def test_a_wave_file_with_a_wrong_byte_rate_is_decoded_without_seeking(tmp_path, speech, write, codec):
    """ffmpeg seeks by the byte rate, and writes a wrong one for all ADPCM."""
    path = write(tmp_path / "a.wav", speech(40, 16_000), codec, 16_000)
    with open_audio(str(path)) as file:
        assert not pts.can_be_sought(file, "wav")
    parts, whole = samples_of(shards(path, 40.0)), samples_of([decode(path)])
    assert len(parts) == len(whole)
    assert np.abs(parts.astype(int) - whole).max() <= 2


def test_a_wave_file_can_be_sought_only_if_its_byte_rate_is_right(tmp_path, speech):
    path = tmp_path / "a.wav"
    soundfile.write(path, speech(20, 16_000), 16_000)
    data = bytearray(path.read_bytes())
    for change, right in ((b"", True), ((16_000).to_bytes(4, "little"), False), (bytes(4), False)):
        data[28 : 28 + len(change)] = change
        path.write_bytes(data)
        with open_audio(str(path)) as file:
            assert pts.can_be_sought(file, "wav") == right
    # A file that was cut off.
    path.write_bytes(data[:28] + (32_000).to_bytes(4, "little") + data[32:-100_000])
    with open_audio(str(path)) as file:
        assert pts.can_be_sought(file, "wav")


def test_a_seek_in_an_mp3_of_a_low_rate_finds_the_right_frame(tmp_path, speech, write):
    """Its tag counts one frame too few, which once shifted positions near the end by a frame."""
    path = write(tmp_path / "a.mp3", speech(60, 11_025), "libmp3lame", 11_025, {"b": "24k"})
    with open_audio(str(path)) as file:
        recording = SampleReader(file)
        whole = decode_span(recording, 0, None).samples[0].astype(int)
        for second in (20, 40, 57):
            part = decode_span(recording, second * 16_000, (second + 2) * 16_000).samples[0]
            assert np.abs(part - whole[second * 16_000 :][: len(part)]).max() <= 2
