"""A table of finished transcripts for a terminal, as `scriptorium transcribe --show` prints it."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from pipelines.execution.progress import clock
from pipelines.output import transcripts
from pipelines.schema import TRANSCRIPT
from pipelines.storage import files

ROWS = 100


def table(out: str) -> Table:
    """The first transcripts with length, language, text, word times and status, then the dead letters."""
    rows = files.read_tables(files.join(out, "transcripts"), schema=TRANSCRIPT).slice(0, ROWS).to_pylist()
    shown = Table(title=Text(out), show_lines=True)
    for name in ("recording", "length", "language", "text", "words", "status"):
        shown.add_column(name, overflow="fold")
    for row in sorted(rows, key=lambda row: row["recording_id"]):
        cells = (
            row["recording_id"],
            clock(row["duration"]),
            row["language"] or "-",
            _short(row["text"]),
            _words(row),
            row["status"],
        )
        shown.add_row(*map(Text, cells))
    for row in transcripts.dead_letters(out)[:ROWS]:
        shown.add_row(
            *map(
                Text,
                (row["recording_id"], "-", "-", row["error_message"], "-", f"failed: {row['error_code']}"),
            )
        )
    return shown


def _short(text: str, longest: int = 160) -> str:
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text):,} characters)"


def _words(row: dict[str, Any]) -> str:
    words = [word for segment in row["segments"] for word in segment["words"] or []]
    first = " ".join(f"{word['text']}@{word['start']:.2f}" for word in words[:4])
    return f"{len(words)}: {first} …" if len(words) > 4 else first or "-"
