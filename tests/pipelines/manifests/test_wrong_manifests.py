"""Wrong manifests are refused with the file, the line and advice."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from actors.errors import UsageError
from tests.pipelines.manifests.samples import GOOD, ROWS, jsonl, parquet, read, write

WRONG: dict[str, tuple[str, str | bytes, str]] = {
    "not JSON on line 17": (
        "m.jsonl",
        "".join(GOOD % i for i in range(16)) + "{oops\n",
        r"m\.jsonl: line 17: not JSON .*one JSON object",
    ),
    "not an object": ("m.jsonl", GOOD % 1 + '"a.wav"\n', r"line 2: a JSON str, not an object"),
    "no audio column": (
        "m.jsonl",
        '{"file": "a.wav", "n": 1}',
        r"m\.jsonl:1: no column .* audio, audio_filepath, uri, url, path \(found: file, n\)",
    ),
    "no audio column, CSV": ("m.csv", "file,text\na,b\n", r"line 1: no column .* audio, .*found: file, text"),
    "audio empty": (
        "m.jsonl",
        GOOD % 1 + '{"audio": ""}',
        r"m\.jsonl:2: `audio` must be the audio's path or URI, not ''",
    ),
    "audio null": ("m.jsonl", '{"audio": null}', r"m\.jsonl:1: `audio` must be"),
    "audio NUL": ("m.jsonl", r'{"audio": "a\u0000b"}', r"m\.jsonl:1: `audio` has characters"),
    "audio surrogate": ("m.jsonl", r'{"audio": "a\ud800"}', r"m\.jsonl:1: `audio` has characters"),
    "id twice": (
        "m.jsonl",
        '{"audio": "a", "id": "x"}\n{"audio": "b", "id": "y"}\n{"audio": "c", "id": "x"}',
        r"m\.jsonl:3: the id 'x' .* line 1",
    ),
    "id twice, CSV": ("m.csv", "id,audio\nx,a\nx,b\n", r"m\.csv:3: the id 'x' is already taken by line 2"),
    "audio twice": (
        "m.jsonl",
        GOOD % 1 + GOOD % 1,
        r"m\.jsonl:2: the audio '1\.wav' is already listed by line 1.*`id`",
    ),
    "id empty": ("m.jsonl", '{"audio": "a", "id": " "}', r"m\.jsonl:1: empty id"),
    "id null": ("m.jsonl", '{"audio": "a", "id": null}', r"m\.jsonl:1: empty id"),
    "id empty, CSV": ("m.csv", "id,audio\n,a\n", r"m\.csv:2: empty id"),
    "id a list": ("m.jsonl", '{"audio": "a", "id": []}', r"m\.jsonl:1: empty id"),
    "id surrogate": ("m.jsonl", r'{"audio": "a", "id": "\ud800"}', r"m\.jsonl:1: the id .*surrogate"),
    "text surrogate": ("m.jsonl", r'{"audio": "a", "text": "\ud800"}', r"m\.jsonl:1: `text` .*surrogate"),
    "empty": ("m.jsonl", "", r"no rows: the file is empty"),
    "blank": ("m.jsonl", " \n\n", r"no rows: .*blank"),
    "empty array": ("m.json", "[ ]", r"no rows"),
    "header only": ("m.csv", "id,audio\n", r"no rows"),
    "typo": (
        "m.jsonl",
        '{"audio": "a", "language": "Germna"}',
        r"m\.jsonl:1: unknown language 'Germna'; did you mean German\?",
    ),
    "typo of several": (
        "m.jsonl",
        '{"audio": "a", "language": "English+Germna"}',
        r"m\.jsonl:1: unknown language .*German\?",
    ),
    "unknown language": (
        "m.jsonl",
        '{"audio": "a", "lang": "Klingon"}',
        r"unknown language 'Klingon'.*Macedonian \(mk\)",
    ),
    "language a number": ("m.jsonl", '{"audio": "a", "language": 3}', r"m\.jsonl:1: `language` must be"),
    "duration": (
        "m.jsonl",
        '{"audio": "a", "duration": "1:30"}',
        r"m\.jsonl:1: `duration` must be a number of seconds, not '1:30'",
    ),
    "duration below zero": ("m.jsonl", '{"audio": "a", "duration": -1}', r"m\.jsonl:1: `duration`"),
    "duration infinite": ("m.jsonl", '{"audio": "a", "duration": Infinity}', r"m\.jsonl:1: `duration`"),
    "duration true": ("m.jsonl", '{"audio": "a", "duration": true}', r"m\.jsonl:1: `duration`"),
    "channel": (
        "m.jsonl",
        '{"audio": "a", "channel": "both"}',
        r"m\.jsonl:1: `channel` must be one of mix, left, right, each or a number",
    ),
    "channel below zero": ("m.jsonl", '{"audio": "a", "channel": -1}', r"m\.jsonl:1: `channel`"),
    "context": ("m.jsonl", '{"audio": "a", "context": {"x": 1}}', r"m\.jsonl:1: `context` must be text"),
    "NUL bytes": ("m.jsonl", GOOD.encode() % 1 + b"\0\0\n", r"line 2: contains NUL bytes"),
    "UTF-16": ("m.csv", "audio\na\n".encode("utf-16"), r"line 1: the file is UTF-16; save it as UTF-8"),
    "Latin-1": (
        "m.jsonl",
        GOOD.encode() % 1 + '{"audio": "é"}'.encode("latin-1"),
        r"line 2: not UTF-8 \(byte 12 of the line: 0xe9\)",
    ),
    "deep": (
        "m.jsonl",
        '{"audio": "a", "x": ' + "[" * 100_000 + "]" * 100_000 + "}",
        r"line 1: JSON nested too deeply",
    ),
    "deep array": ("m.json", "[" * 100_000, r"line 1: JSON nested too deeply"),
    "huge number": ("m.jsonl", '{"audio": "a", "x": ' + "1" * 5000 + "}", r"line 1: not JSON"),
    "id twice in an array of one line": (
        "m.json",
        '[{"id": 1, "audio": "a"}, {"id": 1, "audio": "b"}]',
        r"m\.json:1: the id '1' is already taken by another",
    ),
    "audio twice in an array of one line": (
        "m.json",
        '[{"audio": "a"}, {"audio": "a"}]',
        r"'a' is already listed by another entry of this line",
    ),
    "two arrays": (
        "m.json",
        '[{"audio": "a"}]\n\n[{"audio": "b"}]',
        r"m\.json: line 3: the array ends before '\[{",
    ),
    "two arrays in a line": (
        "m.json",
        '[{"audio": "a"},\n{"audio": "b"}][{"audio": "c"}]',
        r"m\.json: line 2: the array ends before",
    ),
    "lines behind an array": ("m.json", '[]\n{"audio": "b"}', r"m\.json: line 2: the array ends before"),
    "array cut off": ("m.json", '[{"audio": "a"},\n{"audio": "b"', r"m\.json: line 2: not JSON"),
    "ragged": ("m.csv", "audio,text\na,b\nc,d,e\n", r"line 3: 3 cells where the header has 2 columns"),
    "ragged after a long cell": ("m.csv", 'audio,text\na,"b\nc"\nd\n', r"line 4: 1 cells"),
    "quote not closed": ("m.csv", 'audio,text\na,b\nc,"d\n', r"line 3: not valid CSV"),
    "header twice": ("m.csv", "audio,x,x\na,b,c\n", r"line 1: the header has x more than once"),
    "gzip cut off": ("m.jsonl.gz", gzip.compress(jsonl(ROWS * 50))[:60], r"cannot be read to its end"),
    "Parquet cut off": ("m.parquet", parquet(ROWS)[:300], r"m\.parquet: row 1: not a readable Parquet file"),
    "Parquet null id": (
        "m.parquet",
        parquet([{"id": "a", "audio": "x"}, {"id": None, "audio": "y"}]),
        r"m\.parquet:2: empty id",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_manifest_is_refused_with_its_line_and_advice(case: str, tmp_path: Path) -> None:
    name, data, message = WRONG[case]
    with pytest.raises(UsageError, match=message) as caught:
        read(write(tmp_path, data, name))
    assert str(caught.value).startswith(str(tmp_path / name))
