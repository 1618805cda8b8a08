"""Lists in forms, in the spellings of HTTP libraries: understood, or refused, but never ignored."""

from __future__ import annotations

import json

import pytest

from pipelines.serving.web.forms.fields import list_field
from tests.pipelines.serving.conftest import Make, form, voice, wav

AUDIO = wav(voice(2))
SPELLINGS: list[list[tuple[str, str]]] = [
    [("timestamp_granularities[]", "word")],
    [("timestamp_granularities", "word")],
    [("timestamp_granularities[0]", "word")],
    [("timestamp_granularities.0", "word")],
    [("timestamp_granularities[0][]", "word")],
    [("timestampGranularities", "word")],
    [("timestamp-granularities[]", "word")],
    [("timestamp_granularity", "word")],
    [("timestamp_granularities%5B%5D", "word")],
    [("Timestamp_Granularities%5b0%5d", "word")],
    [("timestamp_granularities[]", "word"), ("timestamp_granularities[]", "segment")],
    [("timestamp_granularities[0]", "segment"), ("timestamp_granularities[1]", "word")],
    [("timestamp_granularities", '["word"]')],
    [("timestamp_granularities[]", '["segment", "word"]')],
    [("timestamp_granularities", "word,segment")],
    [("timestamp_granularities", " segment , word ")],
    [("timestamp_granularities", "['word']")],
    [("timestamp_granularities", '"word"')],
]


@pytest.mark.parametrize("fields", SPELLINGS, ids=str)
def test_words_are_returned_in_every_spelling(serve: Make, fields: list[tuple[str, str]]) -> None:
    by_name: dict[str, str | list[str]] = {"model": "fake", "response_format": "verbose_json"}
    for name, value in fields:
        by_name[name] = [*by_name.get(name, []), value]
    content_type, body = form(by_name, AUDIO)
    status, _, response = serve().ask(
        "POST", "/v1/audio/transcriptions", body, **{"Content-Type": content_type}
    )
    answer = json.loads(response)
    assert status == 200, answer
    assert len(answer["words"]) == len(answer["text"].split()) > 0
    assert ("segments" in answer) == any("segment" in value for _, value in fields)


@pytest.mark.parametrize(
    "value",
    ["words", '["word", 7]', '{"word": true}', "word;segment", "[[]]", '[["word"]]', "null", "word segment"],
)
@pytest.mark.parametrize("name", ["timestamp_granularities[0]", "timestamp_granularities"])
def test_a_list_that_is_not_understood_is_400(serve: Make, name: str, value: str) -> None:
    status, _, body = serve().transcribe(AUDIO, response_format="verbose_json", **{name: value})
    assert (status, body["error"]["param"]) == (400, "timestamp_granularities[]")


@pytest.mark.parametrize("value", ["", "[]", " , "])
def test_an_empty_list_asks_for_the_default(serve: Make, value: str) -> None:
    fields = {"timestamp_granularities": value, "include": value}
    status, _, body = serve().transcribe(AUDIO, response_format="verbose_json", **fields)
    assert status == 200 and "segments" in body and "words" not in body


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("include", "logprobs"),
        ("include[]", "logprobs"),
        ("include[0]", "logprobs"),
        ("include", '["logprobs"]'),
        ("include", "logprobs,other"),
    ],
)
def test_include_is_refused_in_every_spelling(serve: Make, name: str, value: str) -> None:
    status, _, body = serve().transcribe(AUDIO, **{name: value})
    assert (status, body["error"]["param"]) == (400, "include[]")


def test_other_fields_with_a_similar_name_are_no_part_of_a_list() -> None:
    items = [
        ("include_usage", "a"),
        ("includes", "b"),
        ("xinclude[]", "c"),
        ("include[]", "d"),
        ("include", "d"),
    ]
    assert list_field(items, "include") == ["d"]
