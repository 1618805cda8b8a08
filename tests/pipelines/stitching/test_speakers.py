"""Speakers of a recording: the same people however it was cut, with voices that are tones."""

import json
import time

import numpy as np
import pytest

from actors.config.speakers import SpeakersConfig
from actors.speakers.actor import SpeakerActor
from actors.speakers.clustering import Bounds
from pipelines.output.speakers import rows_of
from pipelines.schema import RECORDING_SPEAKER
from pipelines.stitching import stitch_with_speakers
from pipelines.stitching.speakers import KnownVoice, SpeakerSettings, find_speakers
from pipelines.stitching.voices import joined_spans
from tests.actors.speakers.tones import alternating, conversation, decoded
from tests.pipelines.stitching.stitching_rows import segment, shard, word

PEOPLE = [0, 1, 0, 2, 1, 3, 0, 2, 3, 1, 0, 1]


def found(rows, settings=None):
    rows = [{**row, "segments": []} for row in SpeakerActor(SpeakersConfig(backend="fake"))(rows)]
    return find_speakers(rows, [], settings or SpeakerSettings())[1]


def spoken(speakers):
    turns = sorted((turn.start, turn.end, turn.speaker) for one in speakers for turn in one.turns)
    return [speaker for _, _, speaker in turns], np.array([(start, end) for start, end, _ in turns])


def recording(**columns):
    tones, seconds = alternating(PEOPLE)
    return decoded(conversation(tones, seconds), **columns)


def test_speakers_are_numbered_by_appearance():
    names, _ = spoken(found(recording()))
    assert names == [f"S{person + 1}" for person in PEOPLE]


@pytest.mark.parametrize("shards", [2, 3, 12])
def test_the_same_people_whether_a_recording_is_one_shard_or_twelve(shards):
    whole, parts = spoken(found(recording())), spoken(found(recording(shards=shards)))
    assert whole[0] == parts[0]
    assert np.allclose(whole[1], parts[1], atol=0.1)


def test_the_order_of_shards_in_batches_makes_no_difference():
    rows = recording(shards=4)
    actor = SpeakerActor(SpeakersConfig(backend="fake"))
    together, alone = actor(rows), [actor([row])[0] for row in reversed(rows)][::-1]
    assert together == alone


def test_one_speaker_is_one():
    tones, seconds = alternating([0] * 5)
    assert len(found(decoded(conversation(tones, seconds)))) == 1


def test_a_recording_without_speech_has_no_speakers():
    assert found(decoded(conversation([], 5.0))) == []


def test_speakers_that_were_not_asked_for_are_null():
    rows = [shard(segments=[segment(0, 1, "a", words=[word("a", 0, 1)])])]
    row, speakers = stitch_with_speakers(rows, SpeakerSettings(), config_hash="h", version="v")
    assert row["speakers"] is None and speakers == []
    assert row["segments"][0]["speaker"] is None


def test_the_number_of_speakers_can_be_fixed():
    assert len(found(recording(), SpeakerSettings(Bounds(2, 2)))) == 2


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"speakers": 2}, 2),
        ({"speakers": "3"}, 3),
        ({"speakers_max": 3}, 3),
        ({"speakers": ["Anna", "Ben"]}, 4),
        ({"speakers": 0}, 4),
        ({"speakers": True}, 4),
    ],
)
def test_the_manifest_may_say_how_many_there_are(metadata, expected):
    rows = recording(metadata=json.dumps(metadata))
    assert len(found(rows, SpeakerSettings(Bounds(1, 6)))) == expected


def test_two_channels_are_two_speakers_exactly_and_need_no_model():
    rows = [
        shard(
            0, 0.0, 10.0, channel="each",
            segments=[
                segment(0.5, 3.0, "hello there", channel=1, words=[word("hello", 0.5, 1.0)]),
                segment(3.0, 5.0, "yes", channel=0, words=[word("yes", 3.0, 3.5)]),
                segment(4.0, 6.0, "good", channel=1, words=[word("good", 4.0, 4.5)]),
            ],
        )
    ]  # fmt: skip
    row, speakers = stitch_with_speakers(rows, SpeakerSettings(), config_hash="h", version="v")
    assert [part["speaker"] for part in row["segments"]] == ["S1", "S2", "S1"]
    assert [part["words"][0]["speaker"] for part in row["segments"]] == ["S1", "S2", "S1"]
    assert [(one["speaker"], one["duration"]) for one in row["speakers"]] == [("S1", 4.5), ("S2", 2.0)]
    assert all(one.centroid is None and one.model is None for one in speakers)


def test_channels_and_voices_are_never_mixed():
    rows = SpeakerActor(SpeakersConfig(backend="fake"))(recording(channel=None, channels=2))
    assert rows[0]["speaker_model"] == "fake 1"
    segments = [segment(1.0, 2.0, "a", channel=0), segment(2.0, 3.0, "b", channel=1)]
    _, speakers = find_speakers(rows, segments, SpeakerSettings(channel="each"))
    assert [one.speaker for one in speakers] == ["S1", "S2"] and speakers[0].centroid is None


def test_known_voices_get_their_names_once_with_the_score():
    first, second, *_ = found(recording())
    known = (KnownVoice("Anna", second.centroid), KnownVoice("Ben", np.eye(8)[7]))
    named = found(recording(), SpeakerSettings(known=known))
    assert [one.name for one in named] == [None, "Anna", None, None]
    assert named[1].score == pytest.approx(1.0)
    assert first.name is None


def test_rows_of_speakers_have_the_columns_of_their_table():
    tones, seconds = alternating([0, 1])
    actor = SpeakerActor(SpeakersConfig(backend="fake"))
    [row] = actor(decoded(conversation(tones, seconds)))
    row = shard(0, 0.0, seconds, segments=[segment(0.5, 4.0, "a", words=[word("a", 1, 2)])], channels=1) | {
        name: row[name] for name in ("turns", "voices", "speaker_model")
    }
    transcript, speakers = stitch_with_speakers([row], SpeakerSettings(), config_hash="h", version="v")
    rows = rows_of(transcript, speakers)
    assert all(set(one) == set(RECORDING_SPEAKER.names) for one in rows)
    assert [one["speaker"] for one in rows] == ["S1", "S2"] and rows[0]["model"] == "fake 1"
    assert rows[0]["quality"] > 0.9 and len(rows[0]["centroid"]) == 8
    assert transcript["segments"][0]["words"][0]["speaker"] == "S1"


def test_a_short_pause_does_not_end_a_turn():
    assert joined_spans({0: [(0.0, 1.0), (2.0, 3.0), (6.0, 7.0)]}, 1.5) == {0: [(0.0, 3.0), (6.0, 7.0)]}


def test_a_pause_in_which_another_one_speaks_ends_a_turn():
    spans = {0: [(0.0, 1.0), (2.0, 3.0)], 1: [(1.2, 1.8)]}
    assert joined_spans(spans, 1.5) == spans


def test_spans_of_one_speaker_do_not_overlap():
    assert joined_spans({0: [(0.0, 2.0), (1.0, 3.0)]}, 0.5) == {0: [(0.0, 3.0)]}


def test_a_long_lecture_takes_little_time():
    rng = np.random.default_rng(0)
    voice = np.eye(192)[0]
    voices = []
    for second in range(3600):
        vector = voice + 0.5 * rng.normal(size=192) / np.sqrt(192)
        embedding = (vector / np.linalg.norm(vector)).astype("<f2").tobytes()
        span = {"start": float(second), "end": second + 1.5, "seconds": 1.5, "stretch": 0}
        voices.append(span | {"embedding": embedding})
    turn = {"start": 0.0, "end": 3601.0, "channel": None, "track": 0, "stretch": 0}
    row = {"index": 0, "metadata": None, "channel": None, "channels": 1, "speaker_model": "fake 1"}
    began = time.process_time()
    _, [speaker] = find_speakers([{**row, "turns": [turn], "voices": voices}], [], SpeakerSettings())
    assert [(one.start, one.end) for one in speaker.turns] == [(0.0, 3601.0)]
    assert time.process_time() - began < 10
