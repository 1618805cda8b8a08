"""Manifests in delimited text: CSV, TSV, or with semicolons or bars."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator

from actors.errors import UsageError
from actors.records import Row
from pipelines.manifests.columns import ALL_COLUMNS, AUDIO_COLUMNS

FIELD_LIMIT = 16 * 2**20  # characters of one cell


def read_delimited(
    uri: str, number: int, first: str, lines: Iterator[tuple[int, str]]
) -> Iterator[tuple[int, Row]]:
    """Read CSV, TSV or another delimited text with a header line.

    Args:
        uri: the manifest's address, for messages.
        number: the line of the header.
        first: the header.
        lines: the numbered lines behind it.

    Yields:
        (line, columns) of each row.

    Raises:
        UsageError: there is no audio column, or a line is wrong.
    """
    csv.field_size_limit(FIELD_LIMIT)
    delimiter = _delimiter(uri, first)

    def feed() -> Iterator[str]:
        yield first
        for _, text in lines:
            yield text

    reader = csv.reader(feed(), delimiter=delimiter, strict=True)
    offset = number - 1  # blank lines before the header
    start = number
    try:
        header = _header(uri, number, next(reader))
        start = reader.line_num + 1 + offset
        for cells in reader:
            if cells and len(cells) != len(header):
                raise UsageError(
                    f"{uri}: line {start}: {len(cells)} cells where the header has {len(header)} columns; "
                    f"put cells that contain {delimiter!r} or line breaks into double quotes"
                )
            if cells:
                yield start, dict(zip(header, cells, strict=True))
            start = reader.line_num + 1 + offset
    except csv.Error as error:
        raise UsageError(
            f"{uri}: line {start}: not valid CSV ({error}); "
            "check for a double quote that is not closed or not doubled"
        ) from None


def _delimiter(uri: str, header: str) -> str:
    """The delimiter with which the header line contains an audio column."""
    if "\r" in header.strip():
        raise UsageError(
            f"{uri}: line 1: the lines end in bare carriage returns; "
            "save the file with the line ends of Unix or Windows"
        )
    for delimiter in "\t,;|":
        names = next(csv.reader([header], delimiter=delimiter), [])
        if any(name.strip().lower() in AUDIO_COLUMNS for name in names):
            return delimiter
    columns = ", ".join(header.strip()[:200].split("\t" if "\t" in header else ","))
    raise UsageError(
        f"{uri}: line 1: no column with the audio's address: name one of {', '.join(AUDIO_COLUMNS)} "
        f"(found: {columns}). A manifest is JSON lines, a JSON array, CSV or TSV with a header line, "
        "or Parquet"
    )


def _header(uri: str, number: int, cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    # Known columns are found in any case; other columns keep their spelling.
    names = [
        name.lower() if name.lower() in ALL_COLUMNS else name or f"column_{index}"
        for index, name in enumerate(names, 1)
    ]
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise UsageError(
            f"{uri}: line {number}: the header has {', '.join(repeated)[:200]} more than once; "
            "rename or remove a column"
        )
    return names
