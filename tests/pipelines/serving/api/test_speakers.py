"""Speakers in responses, with the fake speaker model: a pitch is a person."""

import json
from typing import Any

import jsonschema
import pytest

from pipelines.serving.api.responses import diarized_json_body
from pipelines.serving.openapi import TRANSCRIPTION
from tests.actors.speakers.tones import alternating, conversation
from tests.pipelines.serving.conftest import Make, wav

TONES, SECONDS = alternating([0, 1, 0])
AUDIO = wav(conversation(TONES, SECONDS))


@pytest.fixture
def served(serve: Make) -> Any:
    return serve(speakers="fake")


def test_diarized_json_has_a_segment_for_each_turn(served: Any) -> None:
    status, _, body = served.transcribe(AUDIO, response_format="diarized_json")
    assert status == 200
    assert [segment["speaker"] for segment in body["segments"]] == ["A", "B", "A"]
    assert " ".join(segment["text"] for segment in body["segments"]) == body["text"]
    assert [segment["id"] for segment in body["segments"]] == ["seg_001", "seg_002", "seg_003"]
    jsonschema.validate(body, TRANSCRIPTION["content"]["application/json"]["schema"]["anyOf"][1])


def test_verbose_json_has_speakers_of_words_and_of_the_recording(served: Any) -> None:
    fields = {"response_format": "verbose_json", "timestamp_granularities": "word,segment"}
    body = served.transcribe(AUDIO, **fields)[2]
    assert [speaker["speaker"] for speaker in body["speakers"]] == ["S1", "S2"]
    assert {word["speaker"] for word in body["words"]} == {"S1", "S2"}
    assert body["segments"][0]["speaker"] is None  # several people have words in it
    jsonschema.validate(body, TRANSCRIPTION["content"]["application/json"]["schema"]["anyOf"][0])


def test_a_stream_ends_with_a_segment_for_each_turn(served: Any) -> None:
    _, _, data = served.transcribe(AUDIO, response_format="diarized_json", stream="true")
    events = [json.loads(line[6:]) for line in data.decode().splitlines() if line.startswith("data: {")]
    turns = [event["speaker"] for event in events if event["type"] == "transcript.text.segment"]
    assert turns == ["A", "B", "A"] and events[-1]["type"] == "transcript.text.done"


def test_a_server_without_a_speaker_model_says_so(serve: Make) -> None:
    status, _, body = serve().transcribe(AUDIO, response_format="diarized_json")
    assert status == 400 and "speakers.backend" in body["error"]["message"]


def test_overlapped_speech_is_nobodys_and_known_voices_have_their_names() -> None:
    row = {
        "duration": 3.0, "text": "a b",
        "speakers": [{"speaker": "S1", "name": "Anna"}, {"speaker": "S2", "name": None}],
        "segments": [
            {"start": 0, "end": 1, "text": "a", "words": [], "speaker": "S1"},
            {"start": 1, "end": 2, "text": "b", "words": [], "speaker": "S2"},
            {"start": 2, "end": 3, "text": "c", "words": [], "speaker": None},
        ],
    }  # fmt: skip
    assert [part["speaker"] for part in diarized_json_body(row)["segments"]] == ["Anna", "B", "unknown"]
