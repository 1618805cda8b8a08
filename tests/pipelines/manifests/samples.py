"""Manifests in every file format, for the tests of this folder."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from pipelines.manifests.manifest import Recording, read_manifest

GOOD = '{"audio": "%d.wav"}\n'
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


def jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def array(rows: list[dict[str, Any]]) -> bytes:
    return json.dumps(rows, indent=2).encode()


def delimited(delimiter: str) -> Callable[[list[dict[str, Any]]], bytes]:
    return lambda rows: pd.DataFrame(rows).to_csv(index=False, sep=delimiter).encode()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pd.DataFrame(rows).to_parquet(sink)
    return sink.getvalue()


FORMATS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "m.jsonl": jsonl,
    "m.json": array,
    "lines.json": jsonl,
    "m.csv": delimited(","),
    "semicolons.csv": delimited(";"),
    "m.tsv": delimited("\t"),
    "m.parquet": parquet,
    "m.jsonl.gz": lambda rows: gzip.compress(jsonl(rows)),
    "m.jsonl.zst": lambda rows: b"".join(
        pa.Codec("zstd").compress(jsonl([row]), asbytes=True) for row in rows
    ),  # many frames
    "m.csv.gz": lambda rows: gzip.compress(delimited(",")(rows)),
    "no_suffix": jsonl,
}


def read(path: Path | str) -> list[Recording]:
    return list(read_manifest(str(path)))


def write(folder: Path, data: bytes | str, name: str = "m.jsonl") -> Path:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path
