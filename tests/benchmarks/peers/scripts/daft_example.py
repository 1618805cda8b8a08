"""Daft: files, decoding with PyAV in a function of rows, a model in batches, Parquet.

    python daft_example.py MANIFEST OUT

Daft's own audio functions read no m4a (the process aborts), so decoding is ours. Files that cannot be decoded
become nulls (`on_error="ignore"`); without that, the first one ends the job.
"""

import json
import sys
from pathlib import Path

import daft
from daft import DataType, col
from pyav_decoding import decoded

BATCH = 16


@daft.func(return_dtype=DataType.list(DataType.int16()), on_error="ignore")
def decode(file: daft.File):
    """Samples of a file."""
    with file.open() as handle:
        return decoded(handle.read())


@daft.cls(max_concurrency=1)
class NoModel:
    """A model that recognises nothing."""

    def __init__(self) -> None:
        pass

    @daft.method.batch(return_dtype=DataType.string(), batch_size=BATCH)
    def transcribe(self, audio):
        """Say how long each recording is."""
        return [None if one is None else f"{len(one)} samples" for one in audio.to_pylist()]


manifest, out = sys.argv[1:]
paths = [json.loads(line)["audio"] for line in Path(manifest).read_text().splitlines()]
rows = daft.from_pydict({"path": paths}).into_batches(BATCH)
rows = rows.with_column("audio", decode(daft.functions.file(col("path"))))
rows.with_column("text", NoModel().transcribe(col("audio"))).select("path", "text").write_parquet(out)
