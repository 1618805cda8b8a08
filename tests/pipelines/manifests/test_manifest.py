"""Manifests of every kind read alike; wrong ones say where and what to do."""

from __future__ import annotations

import gzip
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.errors import UsageError
from pipelines.manifests.manifest import Recording, read_manifest
from pipelines.storage import files

ROWS: list[dict[str, Any]] = [
    {
        "id": "one",
        "audio": "sub/a.wav",
        "language": "German",
        "text": "eins",
        "context": "Zahlen",
        "duration": 1.5,
        "channel": "left",
        "who": "x",
    },
    {"id": "two", "audio": "s3://elsewhere/b.mp3", "who": "y"},
    {"id": "three", "audio": "/data/c.flac", "language": "yue", "channel": "1", "who": "z"},
]


def _jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _array(rows: list[dict[str, Any]]) -> bytes:
    return json.dumps(rows, indent=2).encode()


def _delimited(delimiter: str) -> Callable[[list[dict[str, Any]]], bytes]:
    return lambda rows: pd.DataFrame(rows).to_csv(index=False, sep=delimiter).encode()


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pd.DataFrame(rows).to_parquet(sink)
    return sink.getvalue()


KINDS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "m.jsonl": _jsonl,
    "m.json": _array,
    "lines.json": _jsonl,
    "m.csv": _delimited(","),
    "semicolons.csv": _delimited(";"),
    "m.tsv": _delimited("\t"),
    "m.parquet": _parquet,
    "m.jsonl.gz": lambda rows: gzip.compress(_jsonl(rows)),
    "m.jsonl.zst": lambda rows: b"".join(
        pa.Codec("zstd").compress(_jsonl([row]), asbytes=True) for row in rows
    ),  # many frames
    "m.csv.gz": lambda rows: gzip.compress(_delimited(",")(rows)),
    "no_suffix": _jsonl,
}


def _read(path: Path | str) -> list[Recording]:
    return list(read_manifest(str(path)))


def _write(folder: Path, data: bytes | str, name: str = "m.jsonl") -> Path:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.mark.parametrize("name", KINDS)
def test_kinds_read_alike(name: str, tmp_path: Path) -> None:
    one, two, three = _read(_write(tmp_path, KINDS[name](ROWS), name))
    assert (one.id, one.audio, one.language, one.text) == ("one", str(tmp_path / "sub/a.wav"), "de", "eins")
    assert (one.context, one.duration, one.channel, one.metadata) == ("Zahlen", 1.5, "left", {"who": "x"})
    assert (two.id, two.audio, two.metadata) == ("two", "s3://elsewhere/b.mp3", {"who": "y"})
    assert (two.language, two.context, two.text, two.duration, two.channel) == (None, None, None, None, None)
    assert (three.audio, three.language, three.channel) == ("/data/c.flac", "yue", "1")


@pytest.mark.parametrize("name", ["m.jsonl", "m.csv.gz", "m.parquet"])
@pytest.mark.parametrize("kind", ["s3", "memory"])
def test_remote_manifests(name: str, kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    base = (
        request.getfixturevalue("s3_bucket") if kind == "s3" else "memory://manifests"
    ) + f"/{tmp_path.name}"
    files.write_atomic(f"{base}/{name}", KINDS[name](ROWS))
    assert [recording.audio for recording in _read(f"{base}/{name}")] == [
        f"{base}/sub/a.wav",
        "s3://elsewhere/b.mp3",
        "/data/c.flac",
    ]


def test_remote_folder_and_glob(s3_bucket: str, tmp_path: Path) -> None:
    base = f"{s3_bucket}/{tmp_path.name}"
    for name in ("x/b.MP3", "x/y/c d.ogg", "a.wav", "notes.txt", ".hidden.wav"):
        files.write_atomic(f"{base}/{name}", b"")
    for folder in (base, f"{base}/"):
        assert [(r.id, r.audio) for r in _read(folder)] == [
            (n, f"{base}/{n}") for n in ("a.wav", "x/b.MP3", "x/y/c d.ogg")
        ]
    assert [r.id for r in _read(f"{base}/x/**/*.ogg")] == ["y/c d.ogg"]
    with pytest.raises(UsageError, match=r"no such file, folder or prefix"):
        _read(f"{base}/nope.jsonl")
    with pytest.raises(UsageError, match=r"no such file, folder or prefix|cannot be reached"):
        _read("s3://scriptorium-nowhere/m.jsonl")


def test_local_folder_glob_and_single_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.mkv", "deep/er/a.opus", "readme.md", "._b.mkv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [r.id for r in _read(tmp_path)] == ["b.mkv", "deep/er/a.opus"]
    assert [r.id for r in _read(tmp_path / "**" / "*.opus")] == ["deep/er/a.opus"]
    assert [(r.id, r.audio) for r in _read(tmp_path / "b.mkv")] == [("b.mkv", str(tmp_path / "b.mkv"))]
    monkeypatch.chdir(tmp_path)
    assert [r.audio for r in _read("deep")] == [str(tmp_path / "deep/er/a.opus")]


def test_folder_of_parquet_and_glob_of_manifests(tmp_path: Path) -> None:
    (tmp_path / "year=2024").mkdir()
    _write(tmp_path, _parquet(ROWS[:1]), "0.parquet")
    _write(tmp_path / "year=2024", _parquet(ROWS[1:]), "1.parquet")
    assert [r.id for r in _read(tmp_path)] == ["one", "two", "three"]
    assert _read(tmp_path)[0].audio == str(tmp_path / "sub/a.wav")
    _write(tmp_path, _jsonl(ROWS[:2]), "p1.jsonl")
    _write(tmp_path, _jsonl(ROWS[2:]), "p2.jsonl")
    assert [r.id for r in _read(tmp_path / "p*.jsonl")] == ["one", "two", "three"]
    _write(tmp_path, _jsonl(ROWS[1:]), "p2.jsonl")
    with pytest.raises(UsageError, match=r"p2\.jsonl:1: the id 'two' is already taken by p1\.jsonl:2"):
        _read(tmp_path / "p*.jsonl")


def test_nemo(tmp_path: Path) -> None:
    rows = [
        {"audio_filepath": "a.wav", "duration": 2.0, "text": "hi", "lang": "en", "offset": 0},
        {"audio_filepath": "b.wav", "duration": 3},
    ]
    first, second = _read(_write(tmp_path, _jsonl(rows), "train_manifest.json"))
    assert (first.id, first.duration, first.text, first.language, first.metadata) == (
        "a.wav",
        2.0,
        "hi",
        "en",
        {"offset": 0},
    )
    assert second.duration == 3.0
    with pytest.raises(UsageError, match=r"m\.jsonl:1: `offset` 1\.5: this entry is a part of a file"):
        _read(_write(tmp_path, _jsonl([{"audio_filepath": "a.wav", "offset": 1.5, "duration": 1}])))


@pytest.fixture
def lhotse_recordings(tmp_path: Path) -> Any:
    lhotse = pytest.importorskip("lhotse", reason="writes its manifests with lhotse itself (extra `lhotse`)")
    import numpy as np
    import soundfile

    soundfile.write(tmp_path / "a.wav", np.zeros(16000), 16000)
    soundfile.write(tmp_path / "st.wav", np.zeros((16000, 2)), 16000)
    return lhotse.RecordingSet.from_recordings(
        [lhotse.Recording.from_file(tmp_path / "a.wav"), lhotse.Recording.from_file(tmp_path / "st.wav")]
    )


def test_lhotse_recordings(tmp_path: Path, lhotse_recordings: Any) -> None:
    lhotse_recordings.to_file(tmp_path / "recordings.jsonl.gz")
    mono, stereo = _read(tmp_path / "recordings.jsonl.gz")
    assert (mono.id, mono.audio, mono.duration, mono.channel) == ("a", str(tmp_path / "a.wav"), 1.0, None)
    assert (stereo.id, stereo.channel) == ("st", None)


def test_lhotse_cuts(tmp_path: Path, lhotse_recordings: Any) -> None:
    import lhotse

    mono, stereo = (recording.to_cut() for recording in lhotse_recordings)
    mono.supervisions = [
        lhotse.SupervisionSegment("2", "a", 0.5, 0.5, text="world", language="English"),
        lhotse.SupervisionSegment("1", "a", 0.0, 0.5, text="hello", language="English", speaker="s"),
    ]
    right = lhotse.MonoCut("right", 0, 1.0, 1, recording=stereo.recording)
    lhotse.CutSet.from_cuts([mono.with_id("cut"), stereo, right]).to_file(tmp_path / "cuts.jsonl")
    first, both, second = _read(tmp_path / "cuts.jsonl")
    assert (first.id, first.audio, first.text, first.language) == (
        "cut",
        str(tmp_path / "a.wav"),
        "hello world",
        "en",
    )
    assert first.metadata["supervisions"][0]["speaker"] == "s"
    assert (both.channel, second.channel) == (None, "1")
    lhotse.CutSet.from_cuts([mono.truncate(offset=0.25, duration=0.5)]).to_file(tmp_path / "part.jsonl")
    with pytest.raises(
        UsageError, match=r"line 1: the cut .* is only 0\.25 to 0\.75 s of a recording of 1 s"
    ):
        _read(tmp_path / "part.jsonl")
    lhotse.CutSet.from_cuts([mono.append(mono.with_id("m"))]).to_file(tmp_path / "mixed.jsonl")
    with pytest.raises(UsageError, match=r"line 1: a lhotse MixedCut"):
        _read(tmp_path / "mixed.jsonl")


def test_corpus(tmp_path: Path) -> None:
    corpus = Path(os.environ.get("CORPUS_DIR", Path(__file__).parents[3].parent / "shared" / "corpus"))
    if not (corpus / "manifest.jsonl").exists():
        pytest.skip("no corpus: set CORPUS_DIR to a folder with manifest.jsonl")
    recordings = _read(corpus / "manifest.jsonl")
    lines = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]
    assert len(recordings) == len(lines)
    assert {r.id for r in recordings} == {line["audio"] for line in lines}
    assert all(os.path.isfile(r.audio) for r in recordings)
    for recording, line in zip(recordings, lines, strict=True):
        if line["language"] == "English+Chinese":
            assert recording.language is None
            assert recording.metadata["language"] == "English+Chinese"
        else:
            assert (recording.language is None) == (line["language"] is None)


@pytest.mark.parametrize(
    ("value", "code", "kept"),
    [
        ("German", "de", None),
        ("zh-CN", "zh", None),
        ("EN", "en", None),
        ("auto", None, None),
        ("", None, None),
        (None, None, None),
        ("mul", None, "mul"),
        ("en, zh", None, "en, zh"),
        (["en", "de"], None, "en+de"),
        (["en"], "en", None),
        ("en/English", "en", None),
    ],
)
def test_languages(value: Any, code: str | None, kept: str | None, tmp_path: Path) -> None:
    (recording,) = _read(_write(tmp_path, _jsonl([{"audio": "a", "language": value}])))
    assert recording.language == code
    assert recording.metadata.get("language") == kept


def test_metadata_is_json(tmp_path: Path) -> None:
    table = pa.table(
        {
            "audio": ["a.wav"],
            "day": pa.array([0], pa.date32()),
            "nested": [{"a": [1.5, float("nan")], "b": {"c": None}}],
            "raw": [b"\x00\xff"],
            "money": pa.array(["1.10"]).cast(pa.decimal128(5, 2)),
        }
    )
    pq.write_table(table, tmp_path / "m.parquet")
    (recording,) = _read(tmp_path / "m.parquet")
    assert json.loads(json.dumps(recording.metadata, allow_nan=False)) == {
        "day": "1970-01-01",
        "nested": {"a": [1.5, None], "b": {"c": None}},
        "raw": "AP8=",
        "money": "1.10",
    }
    (recording,) = _read(_write(tmp_path, '{"audio": "a", "snr": NaN, "x": [Infinity]}'))
    assert recording.metadata == {"snr": None, "x": [None]}


def test_ids(tmp_path: Path) -> None:
    rows = [{"audio": "x/a.wav"}, {"audio": "b.wav", "id": 7}, {"audio": {"path": "c.wav", "bytes": None}}]
    assert [r.id for r in _read(_write(tmp_path, _jsonl(rows)))] == ["x/a.wav", "7", "c.wav"]


def test_byte_order_mark_blank_lines_and_crlf(tmp_path: Path) -> None:
    assert len(_read(_write(tmp_path, b'\xef\xbb\xbf\r\n{"audio": "a"}\r\n\r\n{"audio": "b"}'))) == 2
    (recording,) = _read(
        _write(tmp_path, '\ufeff\nAudio,Text,Note\r\na,"two\r\nlines, ""q""",n\r\n', "m.csv")
    )
    assert (recording.audio, recording.text, recording.metadata) == (
        str(tmp_path / "a"),
        'two\r\nlines, "q"',
        {"Note": "n"},
    )


def test_long_objects_in_arrays(tmp_path: Path) -> None:
    rows = [
        {"audio": f"{index}.wav", "text": "x" * 200_000, "words": list(range(3000))} for index in range(20)
    ]
    assert [r.id for r in _read(_write(tmp_path, json.dumps(rows), "m.json"))] == [
        row["audio"] for row in rows
    ]
    assert [r.id for r in _read(_write(tmp_path, json.dumps(rows, indent=1), "m.json"))] == [
        row["audio"] for row in rows
    ]


GOOD = '{"audio": "%d.wav"}\n'
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
    "gzip cut off": ("m.jsonl.gz", gzip.compress(_jsonl(ROWS * 50))[:60], r"cannot be read to its end"),
    "Parquet cut off": ("m.parquet", _parquet(ROWS)[:300], r"m\.parquet: row 1: not a readable Parquet file"),
    "Parquet null id": (
        "m.parquet",
        _parquet([{"id": "a", "audio": "x"}, {"id": None, "audio": "y"}]),
        r"m\.parquet:2: empty id",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_manifests_say_where_and_what_to_do(case: str, tmp_path: Path) -> None:
    name, data, message = WRONG[case]
    with pytest.raises(UsageError, match=message) as caught:
        _read(_write(tmp_path, data, name))
    assert str(caught.value).startswith(str(tmp_path / name))


def test_unreachable_manifests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"nope\.jsonl: there is no such file"):
        _read(tmp_path / "nope.jsonl")
    with pytest.raises(UsageError, match=r"no file matches"):
        _read(tmp_path / "*.wav")
    _write(tmp_path, "x", "notes.txt")
    with pytest.raises(UsageError, match=r"no rows: a folder of 1 files"):
        _read(tmp_path)

    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = _write(tmp_path, GOOD % 1)
    # Not by file mode: the tests may run as a user whom no mode stops.
    monkeypatch.setattr(files, "open", deny)
    with pytest.raises(UsageError, match=r"m\.jsonl: no permission to read it"):
        _read(path)


def test_rows_stream(tmp_path: Path) -> None:
    """The first rows come before a mistake further down is read: nothing holds the whole file."""
    rows = read_manifest(str(_write(tmp_path, "".join(GOOD % i for i in range(10)) + "oops")))
    assert [next(rows).id for _ in range(10)] == [f"{i}.wav" for i in range(10)]
    with pytest.raises(UsageError, match="line 11"):
        next(rows)
