"""Malicious manifests are refused in one line before anything starts, or read safely: no traceback, hang or
foreign file.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import resource
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from actors.errors import UsageError
from pipelines.config import RunConfig
from pipelines.manifests.manifest import read_manifest
from pipelines.planning import planner
from tests.faults.harness import checker
from tests.faults.harness.jobs import Job

pytestmark = pytest.mark.faults


def collect(path: Path, **plan: Any) -> list[dict[str, Any]]:
    return planner.collect(read_manifest(str(path)), RunConfig.model_validate({"plan": plan})).to_pylist()


def refusal(path: Path, **plan: Any) -> str:
    """The one line that is reported about the manifest; it names the manifest."""
    with pytest.raises(UsageError) as error:
        collect(path, **plan)
    assert path.name in error.value.message and len(error.value.message) < 2000
    return error.value.message


def deep(levels: int) -> str:
    return '{"audio": "a.wav", "x": ' + "[" * levels + "]" * levels + "}\n"


# A line of JSON -> the message about it.
JSON = {
    deep(10_000): "line 2: JSON nested too deeply",
    '{"audio": "a.wav", "x": ' + '{"a":' * 10_000 + "1" + "}" * 10_001: "line 2: JSON nested too deeply",
    deep(900): ":2: nested more than 100 levels deep",
    '{"audio": "a.wav", "duration": -1}': ":2: `duration` must be a number of seconds",
    '{"audio": "a.wav", "duration": Infinity}': ":2: `duration` must be a number of seconds",
    '{"audio": "a.wav", "duration": 1e999}': ":2: `duration` must be a number of seconds",
    '{"audio": "a.wav", "duration": ' + "9" * 400 + "}": ":2: `duration` must be a number of seconds",
    '{"audio": "a.wav", "duration": ' + "9" * 5000 + "}": "line 2: not JSON",
    '{"audio": "a.wav", "duration": [1]}': ":2: `duration` must be a number of seconds",
    '{"audio": "a.wav", "channel": "' + "9" * 5000 + '"}': ":2: `channel` must be one of",
    '{"audio": "a.wav", "channel": "²"}': ":2: `channel` must be one of",
    '{"audio": "a.wav", "channel": 99999999999999999999}': ":2: `channel` must be one of",
    '{"audio": "a.wav", "language": "' + "x" * 100_000 + '"}': ":2: unknown language",
    '{"audio": "a.wav", "text": {"a": 1}}': ":2: `text` must be text",
    '{"audio": "a.wav", "id": []}': ":2: empty id",
    '{"audio": "a.wav", "id": "\\ud800"}': ":2: the id '\\ud800' has half a character",
    '{"audio": "a.wav", "id": "' + "x" * 200_000 + '"}': ":2: the id has 200,000 characters",
    '{"audio": "' + "x" * 200_000 + '"}': ":2: `audio` has 200,000 characters",
    '{"audio": "a\\u0000.wav"}': ":2: `audio` has characters that no address can have",
    '{"audio": "\\udfff"}': ":2: `audio` has characters that no address can have",
    '{"audio": 17}': ":2: `audio` must be the audio's path or URI",
    '{"audio": {"path": ["a"]}}': ":2: `audio` must be the audio's path or URI",
    '{"type": "MonoCut", "start": "0", "recording": {"duration": [], "sources": [{"type": "file"}]}}': (
        "line 2: this looks like a lhotse entry"
    ),
    '{"type": "MonoCut", "recording": {"sources": 3}}': "line 2: this looks like a lhotse entry",
    '{"sources": [7]}': "line 2: a lhotse recording must have one source",
    "[1, 2]": "line 2: a JSON list, not an object",
    "null": "line 2: a JSON NoneType, not an object",
    '{"audio": "a.wav"': "line 2: not JSON",
}


@pytest.mark.parametrize("line", JSON, ids=range(len(JSON)))
def test_hostile_json_is_refused_with_its_line(line: str, tmp_path: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"audio": "good.wav"}\n' + line)
    assert JSON[line] in refusal(manifest)


CSV = {
    b"audio,id\na.wav,x\0y\n": "line 2: contains NUL bytes",
    "audio,id\na.wav,x\n".encode("utf-16"): "line 1: the file is UTF-16",
    "audio,id\na.wav,x\n".encode("utf-16-le"): "line 1: contains NUL bytes",
    b"audio,id\na\xff.wav,x\n": "line 2: not UTF-8",
    b'audio,id\na.wav,x\n"b.wav,y\n' + b"c.wav,z\n" * 1000: "line 3: not valid CSV",
    b'audio,id\n"a"b.wav,x\n': "line 2: not valid CSV",
    b"audio,id\ra.wav,x\rb.wav,y\r": "line 1: the lines end in bare carriage returns",
    b"audio,audio\na,b\n": "line 1: the header has audio more than once",
    b"audio,id\n" + b"a" * (200 << 20): "line 2: longer than 64 MiB",
    b'audio,x\na.wav,"' + b"y" * (17 << 20) + b'"\n': "line 2: not valid CSV",
    b"audio,id\n" + b",".join([b"a.wav"] * 50_000): "line 2: 50000 cells where the header has 2",
    b"audio,id\n" + b"\n" * 200_000 + b"a.wav,x\n": "100000 blank lines in a row",
}


@pytest.mark.parametrize("content", CSV, ids=range(len(CSV)))
def test_hostile_csv_is_refused_with_its_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(content)
    assert CSV[content] in refusal(tmp_path / "m.csv")


def test_what_only_looks_hostile_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "bom.csv").write_bytes(b"\xef\xbb\xbfaudio,id\r\na.wav,x\r\n")
    assert collect(tmp_path / "bom.csv")[0]["recording_id"] == "x"
    columns = [f"c{number}" for number in range(20_000)]
    (tmp_path / "wide.csv").write_text(
        ",".join(["audio", *columns]) + "\n" + ",".join(["a.wav", *columns]) + "\n"
    )
    assert len(json.loads(collect(tmp_path / "wide.csv")[0]["metadata"])) == 20_000
    (tmp_path / "array.json").write_text(
        '[{"audio": "a.wav", "duration": NaN},\n {"audio": "b.wav", "n": ' + "9" * 4000 + "}]"
    )
    assert [row["claimed"] for row in collect(tmp_path / "array.json")] == [None, None]


def test_ids_are_data(tmp_path: Path) -> None:
    """Whatever an id contains, it stays unchanged."""
    ids = [
        "../../etc/passwd",
        "/etc/passwd",
        "a\0b",
        "line\nbreak",
        "\r\x1b[2J",
        "x" * 10_000,
        "😀",
        "\u202egpj.exe",
        "C:\\x",
        " ",
        "NaN",
        "''; --",
    ]
    manifest = tmp_path / "m.jsonl"
    manifest.write_text(
        "".join(
            json.dumps({"audio": f"{n}.wav", "id": one}) + "\n" for n, one in enumerate(ids) if one.strip()
        )
    )
    assert [row["recording_id"] for row in collect(manifest)] == [one for one in ids if one.strip()]
    manifest.write_text(
        json.dumps({"audio": "a.wav", "id": "x" * 10_000})
        + "\n"
        + json.dumps({"audio": "b.wav", "id": "x" * 10_000})
    )
    assert "m.jsonl:2: the id 'xxx" in refusal(manifest)


def blocks(block: bytes, count: int) -> Iterator[bytes]:
    return (block for _ in range(count))


@pytest.mark.parametrize(
    ("block", "count", "said"),
    [
        (b" " * (1 << 20), 300, "line 1: longer than 64 MiB"),
        (b"\n" * (1 << 20), 300, "blank lines in a row"),
        (b'{"audio": "a.wav"}\n' * 50_000, 20, ":2: the audio 'a.wav' is already listed"),
        (b'[{"audio": "a.wav", "x": "' + b"y" * (1 << 20), 100, "line 1: longer than 64 MiB"),
        (b'[{"audio": "a.wav", "x": [\n' + b"[\n" * (1 << 19), 60, "JSON nested too deeply"),
    ],
)
def test_bombs_are_refused_early(block: bytes, count: int, said: str, tmp_path: Path) -> None:
    """A file of kilobytes that unpacks to a gigabyte is refused after a small part of it."""
    bomb = tmp_path / "m.jsonl.gz"
    with gzip.open(bomb, "wb", 1) as file:
        for one in blocks(block, count):
            file.write(one)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert said in refusal(bomb)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600 << 10, "KiB"
    bomb.write_bytes(bomb.read_bytes()[:100])
    refusal(bomb)


def test_parquet_with_wrong_metadata_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = tmp_path / "good.parquet", tmp_path / "bad.parquet"
    pq.write_table(pa.table({"audio": ["a.wav", "b.wav"], "n": [1, 2]}), good)
    data = good.read_bytes()
    for wrong in (
        data[:-8] + struct.pack("<I", 0xFFFFFFFF) + b"PAR1",
        data[:-8] + struct.pack("<I", 5) + b"PAR1",
        data[: len(data) // 2],
        b"PAR1",
        data[:20] + bytes(byte ^ 0x5A for byte in data[20:-8]) + data[-8:],
    ):
        bad.write_bytes(wrong)
        assert "row 1: not a readable Parquet file" in refusal(bad)
    taken = 0
    for seed in range(150):
        chance = random.Random(seed)
        damaged = bytearray(data)
        for _ in range(chance.choice((1, 3, 10))):
            damaged[chance.randrange(4, len(data))] = chance.randrange(256)
        bad.write_bytes(damaged)
        try:
            taken += len(collect(bad)) > 0
        except UsageError as error:
            assert "bad.parquet" in error.message and "\n" not in error.message
    assert taken < 100
    pq.write_table(
        pa.table({"audio": pa.DictionaryArray.from_arrays(np.zeros(300, np.int32), ["a" * (2 << 20)])}), bad
    )
    assert bad.stat().st_size < 1 << 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "`audio` has 2,097,152 characters" in refusal(bad)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10, (
        "KiB, not the 600 MiB that the rows spell out"
    )
    monkeypatch.setattr("pipelines.manifests.formats.parquet_rows.PARQUET_LIMIT", 1 << 20)
    pq.write_table(pa.table({"audio": ["a" * (1 << 20), "b" * (1 << 20)]}), bad)
    assert "row 1: the next 2 rows take 2 MiB; this is not a manifest" in refusal(bad)


@pytest.mark.timeout(300)
def test_the_command_refuses_before_ray_starts(tmp_path: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"audio": "good.wav"}\n' + deep(10_000))
    job = Job("transcribe", manifest, tmp_path / "out", log=tmp_path / "log")
    assert job.wait(120) == 2
    assert (
        f"scriptorium: {manifest}: line 2: JSON nested too deeply" in job.said()
        and "Traceback" not in job.said()
    )
    assert "ray" not in job.said().lower() and not (tmp_path / "out").exists()
    manifest.write_text('{"audio": "http://169.254.169.254/latest/meta-data/"}\n')
    job = Job("transcribe", manifest, tmp_path / "out", log=tmp_path / "log2")
    assert job.wait(120) == 2 and "hands out credentials" in job.said() and not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_hostile_ids_pass_through_the_whole_job(tmp_path: Path) -> None:
    """Ids that are paths, markup and control characters give rows like all others, and nothing is written
    outside OUT.
    """
    ids = [
        "../../escaped",
        "/tmp/escaped",
        "a\0b",
        "two\nlines",
        "x" * 10_000,
        "😀",
        "\u202egpj.exe",
        "<script>alert(1)</script>",
        "a%2fb",
        ".",
    ]
    noise = np.random.default_rng(1).normal(0, 0.1, 32_000)
    folder = tmp_path / "deep" / "er" / "audio"
    folder.mkdir(parents=True)
    soundfile.write(folder / "good.wav", noise, 16_000)
    (folder / "bad.wav").write_bytes(b"")
    manifest = folder / "m.jsonl"
    rows = [
        {"audio": "bad.wav" if number % 3 == 0 else "good.wav", "id": one} for number, one in enumerate(ids)
    ]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = sorted(os.listdir("/tmp"))
    job = Job("transcribe", manifest, tmp_path / "deep" / "out", log=tmp_path / "log")
    assert job.wait(400) == 3, job.said()
    transcripts, letters = checker.check(tmp_path / "deep" / "out", ids)
    assert set(letters) == {ids[number] for number in range(0, len(ids), 3)} and all(
        row["text"] for row in transcripts.values()
    )
    checker.nobody_left(job.mark)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "log"] and not [
        name for name in os.listdir("/tmp") if "escaped" in name
    ]
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["er", "out"] and before
    assert "<script>alert" not in (tmp_path / "deep" / "out" / "report.html").read_text()
