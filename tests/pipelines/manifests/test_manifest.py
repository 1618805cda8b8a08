"""Manifests of every form are read alike, from local paths and from stores."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from actors.errors import UsageError
from pipelines.manifests.manifest import read_manifest
from pipelines.storage import files
from tests.pipelines.manifests.samples import FORMATS, GOOD, ROWS, jsonl, parquet, read, write


@pytest.mark.parametrize("name", FORMATS)
def test_all_file_formats_give_the_same_recordings(name: str, tmp_path: Path) -> None:
    one, two, three = read(write(tmp_path, FORMATS[name](ROWS), name))
    assert (one.id, one.audio, one.language, one.text) == ("one", str(tmp_path / "sub/a.wav"), "de", "eins")
    assert (one.context, one.duration, one.channel, one.metadata) == ("Zahlen", 1.5, "left", {"who": "x"})
    assert (two.id, two.audio, two.metadata) == ("two", "s3://elsewhere/b.mp3", {"who": "y"})
    assert (two.language, two.context, two.text, two.duration, two.channel) == (None, None, None, None, None)
    assert (three.audio, three.language, three.channel) == ("/data/c.flac", "yue", "1")


@pytest.mark.parametrize("name", ["m.jsonl", "m.csv.gz", "m.parquet"])
@pytest.mark.parametrize("kind", ["s3", "memory"])
def test_remote_manifests_are_read(
    name: str, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    base = (
        request.getfixturevalue("s3_bucket") if kind == "s3" else "memory://manifests"
    ) + f"/{tmp_path.name}"
    files.write_atomic(f"{base}/{name}", FORMATS[name](ROWS))
    assert [recording.audio for recording in read(f"{base}/{name}")] == [
        f"{base}/sub/a.wav",
        "s3://elsewhere/b.mp3",
        "/data/c.flac",
    ]


def test_a_remote_folder_and_a_remote_glob_list_their_audio(s3_bucket: str, tmp_path: Path) -> None:
    base = f"{s3_bucket}/{tmp_path.name}"
    for name in ("x/b.MP3", "x/y/c d.ogg", "a.wav", "notes.txt", ".hidden.wav"):
        files.write_atomic(f"{base}/{name}", b"")
    for folder in (base, f"{base}/"):
        assert [(r.id, r.audio) for r in read(folder)] == [
            (n, f"{base}/{n}") for n in ("a.wav", "x/b.MP3", "x/y/c d.ogg")
        ]
    assert [r.id for r in read(f"{base}/x/**/*.ogg")] == ["y/c d.ogg"]
    with pytest.raises(UsageError, match=r"no such file, folder or prefix"):
        read(f"{base}/nope.jsonl")
    with pytest.raises(UsageError, match=r"no such file, folder or prefix|cannot be reached"):
        read("s3://scriptorium-nowhere/m.jsonl")


def test_a_local_folder_a_glob_and_a_single_file_list_their_audio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b.mkv", "deep/er/a.opus", "readme.md", "._b.mkv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [r.id for r in read(tmp_path)] == ["b.mkv", "deep/er/a.opus"]
    assert [r.id for r in read(tmp_path / "**" / "*.opus")] == ["deep/er/a.opus"]
    assert [(r.id, r.audio) for r in read(tmp_path / "b.mkv")] == [("b.mkv", str(tmp_path / "b.mkv"))]
    monkeypatch.chdir(tmp_path)
    assert [r.audio for r in read("deep")] == [str(tmp_path / "deep/er/a.opus")]


def test_a_folder_of_parquet_files_and_a_glob_of_manifests_are_joined(tmp_path: Path) -> None:
    (tmp_path / "year=2024").mkdir()
    write(tmp_path, parquet(ROWS[:1]), "0.parquet")
    write(tmp_path / "year=2024", parquet(ROWS[1:]), "1.parquet")
    assert [r.id for r in read(tmp_path)] == ["one", "two", "three"]
    assert read(tmp_path)[0].audio == str(tmp_path / "sub/a.wav")
    write(tmp_path, jsonl(ROWS[:2]), "p1.jsonl")
    write(tmp_path, jsonl(ROWS[2:]), "p2.jsonl")
    assert [r.id for r in read(tmp_path / "p*.jsonl")] == ["one", "two", "three"]
    write(tmp_path, jsonl(ROWS[1:]), "p2.jsonl")
    with pytest.raises(UsageError, match=r"p2\.jsonl:1: the id 'two' is already taken by p1\.jsonl:2"):
        read(tmp_path / "p*.jsonl")


def test_a_nemo_manifest_is_read(tmp_path: Path) -> None:
    rows = [
        {"audio_filepath": "a.wav", "duration": 2.0, "text": "hi", "lang": "en", "offset": 0},
        {"audio_filepath": "b.wav", "duration": 3},
    ]
    first, second = read(write(tmp_path, jsonl(rows), "train_manifest.json"))
    assert (first.id, first.duration, first.text, first.language, first.metadata) == (
        "a.wav#t=0,2",
        2.0,
        "hi",
        "en",
        {},
    )
    assert first.window == (0.0, 2.0)
    assert (second.id, second.duration, second.window) == ("b.wav", 3.0, None)


def test_the_manifest_of_the_corpus_is_read(tmp_path: Path) -> None:
    corpus = Path(os.environ.get("CORPUS_DIR", Path(__file__).parents[3].parent / "shared" / "corpus"))
    if not (corpus / "manifest.jsonl").exists():
        pytest.skip("no corpus: set CORPUS_DIR to a folder with manifest.jsonl")
    recordings = read(corpus / "manifest.jsonl")
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
    ("value", "code", "metadata"),
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
def test_one_language_becomes_its_code_and_several_become_metadata(
    value: Any, code: str | None, metadata: str | None, tmp_path: Path
) -> None:
    (recording,) = read(write(tmp_path, jsonl([{"audio": "a", "language": value}])))
    assert recording.language == code
    assert recording.metadata.get("language") == metadata


def test_other_columns_become_metadata_in_json(tmp_path: Path) -> None:
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
    (recording,) = read(tmp_path / "m.parquet")
    assert json.loads(json.dumps(recording.metadata, allow_nan=False)) == {
        "day": "1970-01-01",
        "nested": {"a": [1.5, None], "b": {"c": None}},
        "raw": "AP8=",
        "money": "1.10",
    }
    (recording,) = read(write(tmp_path, '{"audio": "a", "snr": NaN, "x": [Infinity]}'))
    assert recording.metadata == {"snr": None, "x": [None]}


def test_ids_are_strings_and_default_to_the_audio(tmp_path: Path) -> None:
    rows = [{"audio": "x/a.wav"}, {"audio": "b.wav", "id": 7}, {"audio": {"path": "c.wav", "bytes": None}}]
    assert [r.id for r in read(write(tmp_path, jsonl(rows)))] == ["x/a.wav", "7", "c.wav"]


def test_byte_order_marks_blank_lines_and_crlf_are_accepted(tmp_path: Path) -> None:
    assert len(read(write(tmp_path, b'\xef\xbb\xbf\r\n{"audio": "a"}\r\n\r\n{"audio": "b"}'))) == 2
    (recording,) = read(write(tmp_path, '\ufeff\nAudio,Text,Note\r\na,"two\r\nlines, ""q""",n\r\n', "m.csv"))
    assert (recording.audio, recording.text, recording.metadata) == (
        str(tmp_path / "a"),
        'two\r\nlines, "q"',
        {"Note": "n"},
    )


def test_arrays_of_long_objects_are_read(tmp_path: Path) -> None:
    rows = [
        {"audio": f"{index}.wav", "text": "x" * 200_000, "words": list(range(3000))} for index in range(20)
    ]
    assert [r.id for r in read(write(tmp_path, json.dumps(rows), "m.json"))] == [row["audio"] for row in rows]
    assert [r.id for r in read(write(tmp_path, json.dumps(rows, indent=1), "m.json"))] == [
        row["audio"] for row in rows
    ]


def test_manifests_that_cannot_be_opened_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"nope\.jsonl: there is no such file"):
        read(tmp_path / "nope.jsonl")
    with pytest.raises(UsageError, match=r"no file matches"):
        read(tmp_path / "*.wav")
    write(tmp_path, "x", "notes.txt")
    with pytest.raises(UsageError, match=r"no rows: the folder contains 1 file, none"):
        read(tmp_path)

    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = write(tmp_path, GOOD % 1)
    # Not by file mode: the tests may run as root.
    monkeypatch.setattr(files, "open", deny)
    with pytest.raises(UsageError, match=r"m\.jsonl: no permission to read it"):
        read(path)


def test_rows_are_streamed(tmp_path: Path) -> None:
    """The first rows are available before a later mistake is read: nothing holds the whole file."""
    rows = read_manifest(str(write(tmp_path, "".join(GOOD % i for i in range(10)) + "oops")))
    assert [next(rows).id for _ in range(10)] == [f"{i}.wav" for i in range(10)]
    with pytest.raises(UsageError, match="line 11"):
        next(rows)
