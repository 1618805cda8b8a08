"""Manifests in delimited text: CSV, TSV, or with semicolons or bars.

In TSV a double quote is an ordinary character, as Common Voice writes it, unless the header itself is quoted.
Anywhere else, a quote that is not closed swallows the rows behind it up to the next quote. What looks like
that is refused.
"""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from actors.errors import UsageError
from actors.records import Row
from pipelines.manifests.columns import ALL_COLUMNS
from pipelines.manifests.folders import AUDIO_SUFFIXES

FIELD_LIMIT = 16 * 2**20  # characters of one cell
DELIMITERS = "\t,;|"


def read_delimited(
    uri: str,
    number: int,
    first: str,
    lines: Iterator[tuple[int, str]],
    audio_columns: Sequence[str],
    own_names: Collection[str] = (),
) -> Iterator[tuple[int, Row]]:
    """Read CSV, TSV or another delimited text with a header line.

    Args:
        uri: the manifest's address, for messages.
        number: the line of the header.
        first: the header.
        lines: the numbered lines behind it.
        audio_columns: names of the column with the audio's address.
        own_names: names that the manifest has for other columns.

    Yields:
        (line, columns) of each row.

    Raises:
        UsageError: there is no audio column, or a line is wrong.
    """
    csv.field_size_limit(FIELD_LIMIT)
    delimiter = delimiter_of(uri, first, audio_columns)
    if delimiter is None:
        raise _no_audio_column(uri, first, audio_columns)
    is_quoted = delimiter != "\t" or first.lstrip().startswith('"')
    texts = itertools.chain([first], (text for _, text in lines))
    reader = csv.reader(
        texts if is_quoted else (text.rstrip("\r\n") for text in texts),
        delimiter=delimiter,
        strict=True,
        quoting=csv.QUOTE_MINIMAL if is_quoted else csv.QUOTE_NONE,
    )
    offset = number - 1  # blank lines before the header
    start = number
    try:
        header = _header(uri, number, next(reader), {*own_names, *audio_columns})
        audio = next((index for index, name in enumerate(header) if name in audio_columns), 0)
        start = reader.line_num + 1 + offset
        for cells in reader:
            if cells and len(cells) != len(header):
                advice = f"put cells that contain {delimiter!r} or line breaks into double quotes"
                if not is_quoted:
                    advice = "cells of a TSV file cannot contain tabs or line breaks"
                raise UsageError(
                    f"{uri}: line {start}: {len(cells)} cells where the header has {len(header)} columns; "
                    f"{advice}"
                )
            if is_quoted and (reader.line_num + offset > start or delimiter == "\t"):
                _refuse_swallowed_rows(uri, start, cells, delimiter, audio)
            if cells:
                yield start, dict(zip(header, cells, strict=True))
            start = reader.line_num + 1 + offset
    except csv.Error as error:
        raise UsageError(
            f"{uri}: line {start}: not valid CSV ({error}); "
            "check for a double quote that is not closed or not doubled"
        ) from None


def delimiter_of(uri: str, header: str, audio_columns: Sequence[str]) -> str | None:
    """The delimiter with which the header line contains an audio column; None if it contains none."""
    if "\r" in header.strip():
        raise UsageError(
            f"{uri}: line 1: the lines end in bare carriage returns; "
            "save the file with the line ends of Unix or Windows"
        )
    for delimiter in DELIMITERS:
        names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
        if any(name in audio_columns or name.lower() in audio_columns for name in names):
            return delimiter
    return None


def _no_audio_column(uri: str, header: str, audio_columns: Sequence[str]) -> UsageError:
    columns = ", ".join(header.strip()[:200].split("\t" if "\t" in header else ","))
    return UsageError(
        f"{uri}: line 1: no column with the audio's address: name one of {', '.join(audio_columns[:5])} "
        f"(found: {columns}), or say which one it is: --columns audio=NAME. A manifest is JSON lines, a JSON "
        "array, CSV or TSV with a header line, a list of paths, or Parquet"
    )


def _refuse_swallowed_rows(uri: str, line: int, cells: list[str], delimiter: str, audio: int) -> None:
    """Refuse a row of which a quoted cell contains another row, because a quote was not closed.

    A cell with line breaks is a text of several lines, unless one of them, cut at the delimiters, has an
    address of audio in it. In TSV no cell has tabs or line breaks.
    """
    suffix = _suffix(cells[audio]) if audio < len(cells) else ""
    for cell in cells:
        first, *others = cell.splitlines() or [""]
        # The first part is the cell's own beginning.
        parts = [*first.split(delimiter)[1:], *(part for text in others for part in text.split(delimiter))]
        if others and any(_is_address(part.strip("\"' "), suffix) for part in parts):
            found = "another row"
        elif delimiter == "\t" and any(sign in cell for sign in "\t\r\n"):
            found = "a tab or a line break"
        else:
            continue
        shown = repr(cell if len(cell) <= 80 else f"{cell[:77]}...")
        raise UsageError(
            f"{uri}: line {line}: a quoted cell contains {found}: {shown}; check for a double quote that is "
            "not closed or not doubled"
        )


def _is_address(text: str, suffix: str) -> bool:
    """Whether a text looks like an address of audio, by its suffix or by that of the row's own audio."""
    return text.lower().endswith(AUDIO_SUFFIXES) or (bool(suffix) and _suffix(text) == suffix)


def _suffix(address: str) -> str:
    """The suffix of an address in lower case, with its dot; empty if there is none."""
    name = address.partition("?")[0].rpartition("/")[2]
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if stem and dot and suffix.isalnum() and len(suffix) <= 5 else ""


def _header(uri: str, number: int, cells: list[str], own_names: Collection[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    # Known columns are found in any case; other columns keep their spelling.
    names = [
        name.lower() if name.lower() in ALL_COLUMNS and name not in own_names else name or f"column_{index}"
        for index, name in enumerate(names, 1)
    ]
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise UsageError(
            f"{uri}: line {number}: the header has {', '.join(repeated)[:200]} more than once; "
            "rename or remove a column"
        )
    return names
