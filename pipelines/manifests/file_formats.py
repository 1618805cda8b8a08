"""The files that manifests come in, read as a stream of (line, columns): JSON lines, JSON arrays, CSV, TSV, Parquet.

Lines count from 1 as editors show them; Parquet rows and array items too, where there are no lines.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from actors.errors import ScriptoriumError, UsageError
from actors.records import Row
from pipelines.manifests.columns import ALL_COLUMNS, AUDIO_COLUMNS
from pipelines.manifests.lhotse import flatten_lhotse
from pipelines.storage import files

MANIFEST_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".pq")
LINE_LIMIT = 64 * 2**20  # bytes: a "line" longer than this is not a manifest but some other file
FIELD_LIMIT = 16 * 2**20  # characters of one CSV cell
BLANK_LIMIT = 100_000  # blank lines in a row: a bomb of a few kilobytes unpacks to a thousand million of them
PARQUET_ROWS = 512  # read at once: a dictionary makes a small file of huge cells
PARQUET_LIMIT = 512 * 2**20  # bytes of so many rows
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZ": "bz2",
    b"\xfd7": "xz",
    b"(\xb5": "zstd",
}  # by the first two bytes of the file


def read_file(uri: str) -> Iterator[tuple[int, Row]]:
    """The rows of one manifest file, whose kind shows in its first bytes.

    Raises:
        UsageError: naming the file, the line and what to do.
    """
    try:
        with files.open(uri) as file:
            head = file.read(8)
        if not head:
            raise UsageError(f"{uri}: no rows: the file is empty")
        if head.startswith(b"PAR1"):
            yield from _parquet_rows(uri)
            return
        packed = _PACKED.get(head[:2])
        with files.open(uri, compression=packed if packed != "zstd" else None) as file:
            # Arrow's reader goes on behind the first frame, of which `cat a.zst b.zst` and parallel packers make several.
            yield from _text_rows(
                uri, pa.CompressedInputStream(pa.PythonFile(file), "zstd") if packed == "zstd" else file
            )
    except UsageError:
        raise
    except ScriptoriumError as error:  # the store's, after all retries
        raise UsageError(
            f"{uri}: cannot be read to its end ({error.message}); check the store, the rights and the credentials"
        ) from error
    except PermissionError as error:
        raise UsageError(
            f"{uri}: no permission to read it ({error}); check the rights or the credentials in the environment"
        ) from error
    except FileNotFoundError as error:
        raise UsageError(f"{uri}: there is no such file") from error
    except (
        Exception
    ) as error:  # whatever a decompressor or a Parquet reader finds to raise about a strange file
        raise UsageError(
            f"{uri}: cannot be read to its end ({type(error).__name__}: {' '.join(str(error).split())}); is the file whole?"
        ) from error


def _text_rows(uri: str, file: BinaryIO) -> Iterator[tuple[int, Row]]:
    lines = _lines(uri, file)
    number, first = next(((number, text) for number, text in lines if text.strip()), (0, ""))
    if not first:
        raise UsageError(f"{uri}: no rows: the file has nothing but blank lines")
    start = first.lstrip()[0]
    if start == "[":
        yield from _array_rows(uri, number, first, lines)
    elif start == "{":
        yield from _json_rows(uri, number, first, lines)
    else:
        yield from _csv_rows(uri, number, first, lines)


def _lines(uri: str, file: BinaryIO) -> Iterator[tuple[int, str]]:
    """Numbered lines as text, line ends kept; a byte order mark is dropped, everything that is not UTF-8 is refused."""
    number, blank = 0, 0
    # fsspec's files know no limit on a line's length.
    buffered = io.BufferedReader(cast(io.RawIOBase, file), 2**20)
    while raw := buffered.readline(LINE_LIMIT):
        number += 1
        blank = 0 if raw.strip() else blank + 1
        if blank > BLANK_LIMIT:
            raise UsageError(
                f"{uri}: line {number}: {BLANK_LIMIT} blank lines in a row; this is not a manifest"
            )
        if number == 1:
            if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise UsageError(f"{uri}: line 1: the file is UTF-16; save it as UTF-8")
            raw = raw.removeprefix(codecs.BOM_UTF8)
        if len(raw) == LINE_LIMIT and not raw.endswith(b"\n"):
            raise UsageError(
                f"{uri}: line {number}: longer than {LINE_LIMIT // 2**20} MiB; this is not a manifest with one entry a line"
            )
        if b"\0" in raw:
            raise UsageError(
                f"{uri}: line {number}: contains NUL bytes; the file is binary, damaged, or UTF-16: save it as UTF-8 text"
            )
        try:
            yield number, raw.decode()
        except UnicodeDecodeError as error:
            raise UsageError(
                f"{uri}: line {number}: not UTF-8 (byte {error.start + 1} of the line: 0x{raw[error.start]:02x}); convert the file to UTF-8"
            ) from None


def _json_rows(
    uri: str, number: int, first: str, lines: Iterator[tuple[int, str]]
) -> Iterator[tuple[int, Row]]:
    text = first
    while True:
        if text.strip():
            try:
                value = json.loads(text)
            except RecursionError:
                raise _too_deep(uri, number) from None
            except ValueError as error:
                raise UsageError(
                    f"{uri}: line {number}: not JSON ({error}); each line must be one JSON object, or the file one array of them"
                ) from None
            yield number, _as_row(uri, number, value)
        number, text = next(lines, (0, ""))
        if not number:
            return


def _array_rows(
    uri: str, number: int, first: str, lines: Iterator[tuple[int, str]]
) -> Iterator[tuple[int, Row]]:
    """The objects of one JSON array, however it is laid out over lines, without holding the whole array."""
    decoder = json.JSONDecoder()
    text, position, ended, wanted = first[first.index("[") + 1 :], 0, False, 1
    while True:
        position = _skip(text, position, " \t\r\n,")
        if text[position : position + 1] == "]":
            number += text.count("\n", 0, position)
            return _must_end(uri, number, text[position + 1 :], lines)
        try:
            value, end = decoder.raw_decode(text, position)
        except RecursionError:
            raise _too_deep(uri, number) from None
        except ValueError as error:
            if ended:
                raise UsageError(
                    f"{uri}: line {number}: not JSON ({error}); a JSON manifest is one array of objects"
                ) from None
            # The object goes on: take in twice as many lines each time, so that long objects are not parsed over and over.
            number += text.count("\n", 0, position)
            text, position = text[position:], 0
            if len(text) > LINE_LIMIT:
                raise UsageError(
                    f"{uri}: line {number}: an object of more than {LINE_LIMIT // 2**20} MiB; is a bracket or a quote not closed?"
                ) from None
            parts = [text]
            for _ in range(wanted):
                _, more = next(lines, (0, ""))
                ended = ended or not more
                parts.append(more)
                if ended:
                    break
            text = "".join(parts)
            wanted *= 2
            continue
        yield (
            number + text.count("\n", 0, position),
            _as_row(uri, number + text.count("\n", 0, position), value),
        )
        position, wanted = end, 1
        if position > 2**20:
            number += text.count("\n", 0, position)
            text, position = text[position:], 0


def _must_end(uri: str, number: int, rest: str, lines: Iterator[tuple[int, str]]) -> None:
    """Refuse whatever stands behind an array: somebody put two files together, and half of the recordings would be passed over."""
    following = itertools.chain(enumerate(rest.splitlines(keepends=True), number), lines)
    for line, text in following:
        if text.strip():
            raise UsageError(
                f"{uri}: line {line}: the array ends before {text.strip()[:40]!r}; a JSON manifest is one array, or one object a line: "
                "put all entries between one pair of brackets"
            )


def _csv_rows(
    uri: str, number: int, first: str, lines: Iterator[tuple[int, str]]
) -> Iterator[tuple[int, Row]]:
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
            f"{uri}: line {start}: not valid CSV ({error}); is a double quote not closed, or not doubled?"
        ) from None


def _delimiter(uri: str, header: str) -> str:
    """The sign that cuts an audio column out of the header line."""
    if "\r" in header.strip():
        raise UsageError(
            f"{uri}: line 1: its lines end in bare carriage returns; save it with the line ends of Unix or Windows"
        )
    for delimiter in "\t,;|":
        names = next(csv.reader([header], delimiter=delimiter), [])
        if any(name.strip().lower() in AUDIO_COLUMNS for name in names):
            return delimiter
    columns = ", ".join(header.strip()[:200].split("\t" if "\t" in header else ","))
    raise UsageError(
        f"{uri}: line 1: no column with the audio's address: name one of {', '.join(AUDIO_COLUMNS)} (found: {columns}). "
        "A manifest is JSON lines, a JSON array, CSV or TSV with a header line, or Parquet"
    )


def _header(uri: str, number: int, cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    # Our own columns are found in whatever case; everybody else's keep their spelling.
    names = [
        name.lower() if name.lower() in ALL_COLUMNS else name or f"column_{index}"
        for index, name in enumerate(names, 1)
    ]
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise UsageError(
            f"{uri}: line {number}: the header has {', '.join(twice)[:200]} more than once; rename or remove a column"
        )
    return names


def _parquet_rows(uri: str) -> Iterator[tuple[int, Row]]:
    number = 0
    store, path = files.arrow_filesystem(uri)
    try:
        with store.open_input_file(path) as file:
            for batch in pq.ParquetFile(file).iter_batches(batch_size=PARQUET_ROWS):
                if batch.nbytes > PARQUET_LIMIT:
                    raise UsageError(
                        f"{uri}: row {number + 1}: the {batch.num_rows} rows from here take {batch.nbytes >> 20} MiB; "
                        "this is not a manifest: it lists files, not their content"
                    )
                # A few rows at a time: a dictionary's value is one in the table, and one in every row of a list.
                for first in range(0, batch.num_rows, 16):
                    for row in batch.slice(first, 16).to_pylist():
                        number += 1
                        yield number, row
    except (pa.ArrowException, OSError, ValueError, ArithmeticError) as error:
        said = " ".join(str(error).split())
        raise UsageError(
            f"{uri}: row {number + 1}: not a readable Parquet file ({said}); was it written to its end?"
        ) from error


def _as_row(uri: str, number: int, value: Any) -> Row:
    if not isinstance(value, dict):
        raise UsageError(
            f'{uri}: line {number}: a JSON {type(value).__name__}, not an object such as {{"audio": "a.wav"}}'
        )
    return flatten_lhotse(value, uri, number)


def _too_deep(uri: str, number: int) -> UsageError:
    return UsageError(f"{uri}: line {number}: JSON nested too deeply; flatten this entry")


def _skip(text: str, position: int, signs: str) -> int:
    while position < len(text) and text[position] in signs:
        position += 1
    return position
