"""Files with several audio tracks: none is silently left out."""

from pathlib import Path

import av
import numpy as np
import pytest

from actors.audio.recordings.tracks import open_tracks
from actors.audio.sources import open_audio
from actors.config import AudioConfig, SegmenterConfig
from actors.decoder import border, decode_shard
from actors.records import channel_flags, track_channel

FIELD = Path(__file__).parents[4] / "shared" / "field"
RATE = 16_000
SPEECH, SILENCE = "speech", "silence"
CODECS = {"a.mov": "pcm_s16le", "a.mkv": "aac", "a.ts": "mp2", "a.mp4": "aac"}


def write_tracks(path, tracks, speech):
    codec = CODECS[path.name]
    with av.open(str(path), "w") as container:
        streams = [container.add_stream(codec, RATE, layout="mono") for _ in tracks]
        for number, (stream, kind) in enumerate(zip(streams, tracks, strict=True)):
            stream.bit_rate = 64_000
            wave = speech(8, RATE, number) if kind == SPEECH else np.zeros(8 * RATE)
            for begin in range(0, len(wave), RATE):
                part = (wave[begin : begin + RATE] * 32767).astype(np.int16)[None]
                frame = av.AudioFrame.from_ndarray(part, "s16", "mono")
                frame.sample_rate, frame.pts = RATE, begin
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


def decoded(path, track=None, start=0.0, end=None):
    row = {"audio": str(path), "start": start, "end": end, "duration": 8.0, "track": track}
    return decode_shard(row, AudioConfig(), SegmenterConfig(backend="energy"))


def tracks_of(row):
    return {flag for segment in row["segments"] for flag in channel_flags(segment["channel"])}


@pytest.mark.parametrize("name", CODECS)
def test_a_silent_track_is_replaced_by_the_next_one_with_sound(tmp_path, speech, name):
    row = decoded(write_tracks(tmp_path / name, [SILENCE, SILENCE, SPEECH], speech))
    assert row["status"] == "ok"
    assert "silent_track_replaced" in row["flags"]
    assert tracks_of(row) == {"track:2"}


@pytest.mark.parametrize("name", CODECS)
def test_a_silent_recording_is_only_silent_if_all_tracks_are(tmp_path, speech, name):
    row = decoded(write_tracks(tmp_path / name, [SILENCE, SILENCE], speech))
    assert row["status"] == "no_speech"
    assert "silent_track_replaced" not in row["flags"]


def test_the_main_track_is_taken_where_it_has_sound(tmp_path, speech):
    row = decoded(write_tracks(tmp_path / "a.mov", [SPEECH, SPEECH], speech))
    assert (row["status"], row["flags"]) == ("ok", ["several_audio_streams"])
    assert tracks_of(row) == set()


@pytest.mark.parametrize("name", CODECS)
def test_a_track_is_taken_by_its_number(tmp_path, speech, name):
    path = write_tracks(tmp_path / name, [SPEECH, SILENCE], speech)
    assert decoded(path, "0")["status"] == "ok"
    assert decoded(path, "1")["status"] == "no_speech"
    assert decoded(path, "2")["error_code"] == "no_audio_stream"


def test_each_track_is_heard_for_itself(tmp_path, speech):
    row = decoded(write_tracks(tmp_path / "a.mov", [SPEECH, SILENCE, SPEECH], speech), "each")
    assert tracks_of(row) == {"track:0", "track:2"}


def test_a_mix_has_all_tracks(tmp_path, speech):
    row = decoded(write_tracks(tmp_path / "a.mov", [SPEECH, SILENCE, SPEECH], speech), "mix")
    apart = decoded(tmp_path / "a.mov", "each")
    assert tracks_of(row) == set()
    sent = sum(segment["end"] - segment["start"] for segment in row["segments"])
    assert sent >= max(segment["end"] - segment["start"] for segment in apart["segments"])


def test_shards_of_each_track_meet(tmp_path, speech):
    path = write_tracks(tmp_path / "a.mov", [SPEECH, SPEECH], speech)
    with open_audio(str(path)) as file:
        cut = border(open_tracks(file, "each"), 4.0)
    first, second = decoded(path, "each", 0.0, 4.0), decoded(path, "each", 4.0)
    assert first["decoded_end"] == second["decoded_start"] == cut / 16_000


def test_flags_name_track_and_channel():
    assert channel_flags(None) == []
    assert channel_flags(3) == ["channel:3"]
    assert channel_flags(track_channel(0, None)) == ["track:0"]
    assert channel_flags(track_channel(12, 1)) == ["track:12", "channel:1"]


def test_the_film_of_the_field_is_heard():
    path = FIELD / "mov_first_track_silent.mov"
    if not path.exists():
        pytest.skip("the field is not here")
    row = decoded(path)
    assert row["status"] == "ok"
    assert row["decoded_end"] == pytest.approx(6.847, abs=0.01)
    assert "silent_track_replaced" in row["flags"]
