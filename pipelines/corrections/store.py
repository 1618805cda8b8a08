"""OUT/corrections: what people corrected, in files that are only ever added.

The transcripts stay as the model made them. Readers lay the newest correction of each segment over them.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache

import pyarrow as pa
import pyarrow.parquet as pq

from actors.records import Row, WordRow
from pipelines.corrections.overlay import Corrections, newest
from pipelines.corrections.words import carried_words
from pipelines.schema import CORRECTION
from pipelines.storage import files
from pipelines.storage.parquet import conform, read_all


def folder(out: str) -> str:
    """The folder of the table."""
    return files.join(out, "corrections")


def correction_of(
    row: Row,
    number: int,
    text: str,
    *,
    who: str,
    source: str,
    language: str | None = None,
    speaker: str | None = None,
    words: Sequence[WordRow] | None = None,
) -> Row:
    """A CORRECTION row.

    Args:
        row: the TRANSCRIPT row as the person saw it: with earlier corrections.
        number: of the segment.
        text: the right text; empty: nothing is said there.
        who: corrected it.
        source: where it was corrected.
        language: ISO code, if it was corrected.
        speaker: name, or `speaker`, if it was corrected.
        words: of the new text, with times; None: words that stayed keep theirs, and new ones have none.
    """
    segment = row["segments"][number]
    text = text.strip()
    earlier = segment.get("corrected") or {}
    source_of_words = "aligner"
    if words is None:
        words = carried_words(segment["words"] or (), text, language or segment["language"])
        source_of_words = "carried"
    timed = any(word["start"] is not None for word in words)
    return {
        "recording_id": row["recording_id"],
        "segment": number,
        "start": segment["start"],
        "end": segment["end"],
        "original": earlier.get("original", segment["text"]),
        "before": segment["text"],
        "after": text,
        "language": language,
        "speaker": speaker,
        "words": list(words),
        "word_source": source_of_words if timed else "none",
        "who": who,
        "source": source,
        "created_at": datetime.now(UTC),
    }


def add(out: str, corrections: Sequence[Row]) -> str | None:
    """Store corrections as a new file; nothing that is stored is ever changed.

    Args:
        out: the output directory.
        corrections: rows of `correction_of`.

    Returns:
        The address of the file; None where there is nothing to store.
    """
    if not corrections:
        return None
    table = pa.Table.from_pylist(list(corrections), schema=CORRECTION)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    # Names in the order of time.
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{uuid.uuid4().hex[:8]}.parquet"
    uri = files.join(folder(out), name)
    files.write_atomic(uri, sink.getvalue().to_pybytes())
    return uri


def exists(out: str) -> bool:
    """Whether anything in an output directory was corrected."""
    return files.exists(folder(out))


def read(out: str) -> Corrections:
    """The newest correction of each segment. All corrections are in memory: people made them.

    Files are listed each time, but read once.
    """
    return _read(tuple(files.list(folder(out), ".parquet", recursive=False)))


def apply(out: str, rows: Sequence[Row]) -> list[Row]:
    """TRANSCRIPT rows with their corrections; see `overlay.corrected_row`."""
    corrections = read(out)
    return [corrections.apply(row) for row in rows]


def recording_ids(uri: str) -> list[str]:
    """The recordings that a file of corrections is about."""
    table = next(iter(read_all([uri], ["recording_id"])))
    return list(dict.fromkeys(table["recording_id"].to_pylist()))


@lru_cache(maxsize=4)
def _read(uris: tuple[str, ...]) -> Corrections:
    rows: list[Row] = []
    for table in read_all(uris):
        rows += conform(table, CORRECTION).to_pylist()
    return newest(rows)
