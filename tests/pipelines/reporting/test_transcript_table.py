"""The table of transcripts for a terminal."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from pipelines.reporting import transcript_table
from pipelines.schema import TRANSCRIPT


def test_names_and_texts_are_shown_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As markup, brackets would vanish, or end a finished run with an error."""
    out = tmp_path / "out [v2]"
    (out / "transcripts").mkdir(parents=True)
    row = dict.fromkeys(TRANSCRIPT.names) | {
        "recording_id": "interview [final].wav",
        "text": "hello [laughs] you [/b]",
        "duration": 1.0,
        "status": "ok",
    }
    row |= {"segments": [], "flags": [], "languages": []}
    pq.write_table(pa.Table.from_pylist([row], schema=TRANSCRIPT), out / "transcripts" / "t.parquet")
    Console(width=300).print(transcript_table.table(str(out)))
    said = capsys.readouterr().out
    assert all(text in said for text in ("out [v2]", "interview [final].wav", "hello [laughs] you [/b]"))
