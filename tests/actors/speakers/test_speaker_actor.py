"""Turns and voices of rows, with the fake model."""

import numpy as np
import pytest

from actors.config.speakers import SpeakersConfig
from actors.errors import FatalError
from actors.speakers import create_speakers
from actors.speakers.actor import SpeakerActor
from tests.actors.speakers.tones import alternating, conversation, decoded

CONFIG = SpeakersConfig(backend="fake")


def rows(people=(0, 1, 0), **columns):
    tones, seconds = alternating(people)
    return decoded(conversation(tones, seconds), **columns)


def test_rows_keep_their_columns_and_get_turns_and_voices():
    [before] = rows()
    [after] = SpeakerActor(CONFIG)([before])
    assert {name: after[name] for name in before} == before
    assert after["speaker_model"] == "fake 1"
    assert len(after["turns"]) == 3 and len(after["voices"]) >= 3


def test_embeddings_are_float16_unit_vectors():
    [row] = SpeakerActor(CONFIG)(rows())
    vectors = np.stack([np.frombuffer(voice["embedding"], "<f2") for voice in row["voices"]])
    assert np.allclose(np.linalg.norm(vectors.astype(float), axis=1), 1, atol=0.01)


def test_a_row_does_not_depend_on_the_others_of_its_batch():
    first, second = rows((0, 1))[0], rows((2, 3, 4))[0]
    actor = SpeakerActor(CONFIG)
    assert actor([first, second]) == [*actor([first]), *actor([second])]


def test_segments_make_no_difference():
    tones, seconds = alternating((0, 1, 2))
    samples = conversation(tones, seconds)
    actor = SpeakerActor(CONFIG)
    long, short = actor(decoded(samples))[0], actor(decoded(samples, longest=3.0))[0]
    assert long["turns"] == short["turns"] and long["voices"] == short["voices"]


@pytest.mark.parametrize("columns", [{"status": "error"}, {"segments": []}])
def test_rows_without_speech_are_left_alone(columns):
    [row] = rows(**columns)
    assert SpeakerActor(CONFIG)([row]) == [row]


@pytest.mark.parametrize(("channel", "setting"), [("each", "mix"), (None, "each")])
def test_channels_that_are_speakers_need_no_model(channel, setting):
    [row] = rows(channels=2) if channel is None else [rows(channels=2)[0] | {"channel": channel}]
    assert SpeakerActor(CONFIG, setting)([row]) == [row]


def test_a_failure_costs_the_speakers_of_one_row_and_no_text(monkeypatch):
    actor = SpeakerActor(CONFIG)
    good, bad = rows((0, 1))[0], rows((2, 3))[0] | {"shard_id": "bad"}
    embed = actor.backend.embed

    def fragile(windows):
        if any(actor.backend.embed_fails(window) for window in windows):
            raise ValueError("the fault that was asked for")
        return embed(windows)

    def fails(window):  # the third pitch
        return embed(window[None])[0].argmax() == 2

    monkeypatch.setattr(actor.backend, "embed_fails", fails, raising=False)
    monkeypatch.setattr(actor.backend, "embed", fragile)
    after = actor([good, bad])
    assert len(after[0]["turns"]) == 2
    assert after[1]["flags"] == ["speakers_failed"] and after[1]["segments"] == bad["segments"]
    assert "turns" not in after[1]


def test_a_model_that_is_not_asked_for_cannot_be_loaded():
    with pytest.raises(FatalError, match=r"speakers\.backend is none"):
        create_speakers(SpeakersConfig())
