"""Chains of files: each link is heard, with times that run on, in spans as in one piece."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from actors.audio.decoding import decode_span
from actors.audio.probing import probe
from actors.audio.recordings.chained_reader import open_recording
from actors.audio.sources import open_audio
from actors.config import AudioConfig, SegmenterConfig
from actors.decoder import decode_shard

FIELD = Path(__file__).parents[4] / "shared" / "field"


def link(folder, name, speech, write, codec, rate, channels, seed, seconds=5):
    wave = np.stack([speech(seconds, rate, seed)] * channels, axis=1)
    path = folder / f"{seed}-{channels}-{rate}-{name}"
    if codec == "flac" and name.endswith(".flac"):
        soundfile.write(path, wave, rate)
        return path
    return write(path, wave, codec, rate)


def joined(path, *links):
    path.write_bytes(b"".join(one.read_bytes() for one in links))
    return path


def shard(path, start=0.0, end=None):
    row = {"audio": str(path), "start": start, "end": end, "duration": probe(str(path)).duration}
    return decode_shard(row, AudioConfig(), SegmenterConfig(backend="energy"))


CHAINS = [
    ("a.opus", [("libopus", 48_000, 2), ("libopus", 48_000, 1), ("libopus", 48_000, 2)]),
    ("a.ogg", [("vorbis", 16_000, 1), ("vorbis", 44_100, 2)]),
    ("a.flac", [("flac", 16_000, 1), ("flac", 44_100, 2), ("flac", 16_000, 1)]),
    ("a.oga", [("flac", 16_000, 1), ("flac", 16_000, 1)]),
    ("a.mka", [("libopus", 48_000, 2), ("aac", 16_000, 1)]),
    ("a.m4a", [("aac", 16_000, 1), ("aac", 48_000, 2)]),
]


@pytest.mark.parametrize(("name", "kinds"), CHAINS)
def test_every_link_of_a_chain_is_heard(tmp_path, speech, write, name, kinds):
    links = [link(tmp_path, name, speech, write, *kind, seed) for seed, kind in enumerate(kinds)]
    path = joined(tmp_path / name, *links)
    found = probe(str(path))
    assert found.duration == pytest.approx(5 * len(kinds), abs=0.1 * len(kinds))
    row = shard(path)
    assert (row["status"], row["flags"]) == ("ok", [])
    assert row["decoded_end"] == pytest.approx(found.duration, abs=0.1)
    sent = sum(segment["end"] - segment["start"] for segment in row["segments"])
    apart = [shard(one) for one in links]
    assert sent == pytest.approx(
        sum(segment["end"] - segment["start"] for one in apart for segment in one["segments"]), abs=2
    )


@pytest.mark.parametrize(("name", "kinds"), CHAINS)
def test_spans_of_a_chain_equal_the_whole(tmp_path, speech, write, name, kinds):
    links = [link(tmp_path, name, speech, write, *kind, seed, 14) for seed, kind in enumerate(kinds)]
    path = joined(tmp_path / name, *links)
    with open_audio(str(path)) as file:
        recording = open_recording(file)
        whole = decode_span(recording, 0, None)
        for start, end in ((3, 6), (12, 16), (13.5, 14.5), (20, 23), (24, None)):
            first = round(start * 16_000)
            part = decode_span(recording, first, None if end is None else round(end * 16_000))
            expected = whole.samples[0, first : first + part.samples.shape[1]].astype(float)
            difference = part.samples[0].astype(float) - expected
            assert np.sqrt(np.mean(difference**2)) < 0.03 * whole.samples.std(), (start, end)


@pytest.mark.parametrize(("name", "codec"), [("a.opus", "libopus"), ("a.ogg", "vorbis"), ("a.flac", "flac")])
def test_a_file_appended_to_itself_is_heard_twice(tmp_path, speech, write, name, codec):
    one = link(tmp_path, name, speech, write, codec, 48_000, 1, 0)
    path = joined(tmp_path / name, one, one)
    row = shard(path)
    assert (row["status"], row["flags"]) == ("ok", [])
    assert row["decoded_end"] == pytest.approx(10, abs=0.1)
    assert probe(str(path)).duration == pytest.approx(10, abs=0.1)


def test_shards_of_a_chain_meet(tmp_path, speech, write):
    links = [
        link(tmp_path, "a.opus", speech, write, "libopus", 48_000, 1 + seed, seed, 12) for seed in (0, 1)
    ]
    path = joined(tmp_path / "a.opus", *links)
    first, second, third = shard(path, 0, 8), shard(path, 8, 16), shard(path, 16)
    assert first["decoded_end"] == second["decoded_start"]
    assert second["decoded_end"] == third["decoded_start"]
    assert third["decoded_end"] == pytest.approx(24, abs=0.1)


def test_a_link_that_cannot_be_read_is_flagged(tmp_path, speech, write):
    links = [link(tmp_path, "a.flac", speech, write, "flac", 16_000, 1, seed) for seed in (0, 1)]
    path = joined(tmp_path / "a.flac", *links)
    data = bytearray(path.read_bytes())
    size = links[0].stat().st_size
    data[size + 42 :] = bytes(len(data) - size - 42)
    path.write_bytes(data)
    row = shard(path)
    assert row["status"] == "partial" or row["flags"]
    assert row["decoded_end"] >= 4.9


@pytest.mark.parametrize(
    ("name", "duration"), [("chain_opus_2_1.opus", 14.07), ("opus_joined_late.opus", 29.0)]
)
def test_the_ogg_files_of_the_field_are_whole(name, duration):
    path = FIELD / name
    if not path.exists():
        pytest.skip("the field is not here")
    row = shard(path)
    assert (row["status"], row["flags"]) == ("ok", [])
    assert row["decoded_end"] == pytest.approx(duration, abs=0.02)
    assert probe(str(path)).duration == pytest.approx(duration, abs=0.02)


def test_a_stream_joined_midway_has_its_own_duration(tmp_path, speech, write):
    """The first pages after the headers are missing, as in a recording of a web radio."""
    for name, codec in (("a.opus", "libopus"), ("a.ogg", "vorbis"), ("a.oga", "flac")):
        data = write(tmp_path / name, speech(30, 48_000), codec, 48_000).read_bytes()
        places = [place for place in range(len(data)) if data.startswith(b"OggS", place)]
        path = tmp_path / f"late-{name}"
        middle = places[len(places) // 2]
        path.write_bytes(data[: places[2]] + data[middle:])
        row = shard(path)
        assert "truncated" not in row["flags"], name
        assert probe(str(path)).duration == pytest.approx(row["decoded_end"], abs=0.3), name


def test_flac_in_ogg_is_whole_although_its_first_sample_is_read_while_it_is_open(tmp_path, write):
    """ffmpeg reads on where the file is: a look at another place must not move it."""
    wave = 0.01 * np.random.default_rng(1).standard_normal((39_360, 1))
    one = write(tmp_path / "one.oga", wave, "flac", 16_000)
    assert probe(str(joined(tmp_path / "two.oga", one, one))).duration == pytest.approx(4.92, abs=0.01)
