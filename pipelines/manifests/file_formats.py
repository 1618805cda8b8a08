"""The file formats of manifests, read as a stream of (line, columns): JSON, delimited text, Parquet.

Lines are numbered from 1, as in editors; so are the rows of Parquet files, which have no lines.
"""

from __future__ import annotations

import codecs
import io
import itertools
import json
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from actors.errors import ScriptoriumError, UsageError
from actors.records import Row
from pipelines.manifests.delimited import read_delimited
from pipelines.manifests.lhotse import flatten_lhotse
from pipelines.storage import files

MANIFEST_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".pq")
LINE_LIMIT = 64 * 2**20  # bytes; a file with longer "lines" is not a manifest
# Consecutive blank lines. A decompression bomb of a few kilobytes expands to a billion of them.
BLANK_LIMIT = 100_000
# Rows read at once. With a dictionary, a small Parquet file can contain huge cells.
PARQUET_ROWS = 512
PARQUET_LIMIT = 512 * 2**20  # bytes of PARQUET_ROWS rows
# Compression by the first two bytes of a file.
_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZ": "bz2", b"\xfd7": "xz", b"(\xb5": "zstd"}


def read_file(uri: str) -> Iterator[tuple[int, Row]]:
    """Read the rows of one manifest file, whose format is detected from its first bytes.

    Raises:
        UsageError: the file cannot be read; the message names the file and the line, and says what to do.
    """
    try:
        with files.open(uri) as file:
            head = file.read(8)
        if not head:
            raise UsageError(f"{uri}: no rows: the file is empty")
        if head.startswith(b"PAR1"):
            yield from _parquet_rows(uri)
            return
        compression = _COMPRESSIONS.get(head[:2])
        with files.open(uri, compression=compression if compression != "zstd" else None) as file:
            # Arrow's reader continues after the first zstd frame; `cat a.zst b.zst` and parallel compressors
            # write several.
            yield from _text_rows(
                uri, pa.CompressedInputStream(pa.PythonFile(file), "zstd") if compression == "zstd" else file
            )
    except UsageError:
        raise
    except ScriptoriumError as error:  # an error of the store, after all retries
        raise UsageError(
            f"{uri}: cannot be read to its end ({error.message}); "
            "check the store, the rights and the credentials"
        ) from error
    except PermissionError as error:
        raise UsageError(
            f"{uri}: no permission to read it ({error}); "
            "check the rights or the credentials in the environment"
        ) from error
    except FileNotFoundError as error:
        raise UsageError(f"{uri}: there is no such file; check the address") from error
    # Decompressors and Parquet readers raise all kinds of errors about damaged files.
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UsageError(
            f"{uri}: cannot be read to its end ({reason}); check that the file is complete"
        ) from error


def _text_rows(uri: str, file: BinaryIO) -> Iterator[tuple[int, Row]]:
    lines = _lines(uri, file)
    number, first = next(((number, text) for number, text in lines if text.strip()), (0, ""))
    if not first:
        raise UsageError(f"{uri}: no rows: the file has only blank lines")
    start = first.lstrip()[0]
    if start == "[":
        yield from _array_rows(uri, number, first, lines)
    elif start == "{":
        yield from _json_rows(uri, number, first, lines)
    else:
        yield from read_delimited(uri, number, first, lines)


def _lines(uri: str, file: BinaryIO) -> Iterator[tuple[int, str]]:
    """Numbered lines as text, with their line ends. A byte order mark is removed; only UTF-8 is accepted."""
    number, blank = 0, 0
    # fsspec's files cannot limit the length of a line.
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
                f"{uri}: line {number}: longer than {LINE_LIMIT // 2**20} MiB; "
                "this is not a manifest with one entry per line"
            )
        if b"\0" in raw:
            raise UsageError(
                f"{uri}: line {number}: contains NUL bytes; "
                "the file is binary, damaged, or UTF-16: save it as UTF-8 text"
            )
        try:
            yield number, raw.decode()
        except UnicodeDecodeError as error:
            raise UsageError(
                f"{uri}: line {number}: not UTF-8 (byte {error.start + 1} of the line: "
                f"0x{raw[error.start]:02x}); convert the file to UTF-8"
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
                    f"{uri}: line {number}: not JSON ({error}); "
                    "each line must be one JSON object, or the file one array of objects"
                ) from None
            yield number, _as_row(uri, number, value)
        number, text = next(lines, (0, ""))
        if not number:
            return


def _array_rows(
    uri: str, number: int, first: str, lines: Iterator[tuple[int, str]]
) -> Iterator[tuple[int, Row]]:
    """The objects of one JSON array in any layout, without holding the whole array in memory."""
    decoder = json.JSONDecoder()
    text, position, at_end, more_lines = first[first.index("[") + 1 :], 0, False, 1
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
            if at_end:
                raise UsageError(
                    f"{uri}: line {number}: not JSON ({error}); a JSON manifest is one array of objects"
                ) from None
            # The object is incomplete. Twice as many lines are added each time, so that a long object is
            # parsed only a few times.
            number += text.count("\n", 0, position)
            text, position = text[position:], 0
            if len(text) > LINE_LIMIT:
                raise UsageError(
                    f"{uri}: line {number}: an object of more than {LINE_LIMIT // 2**20} MiB; "
                    "check for a bracket or a quote that is not closed"
                ) from None
            parts = [text]
            for _ in range(more_lines):
                _, line = next(lines, (0, ""))
                at_end = at_end or not line
                parts.append(line)
                if at_end:
                    break
            text = "".join(parts)
            more_lines *= 2
            continue
        yield (
            number + text.count("\n", 0, position),
            _as_row(uri, number + text.count("\n", 0, position), value),
        )
        position, more_lines = end, 1
        if position > 2**20:
            number += text.count("\n", 0, position)
            text, position = text[position:], 0


def _must_end(uri: str, number: int, rest: str, lines: Iterator[tuple[int, str]]) -> None:
    """Refuse text behind an array: in two concatenated files, half of the recordings would be ignored."""
    following = itertools.chain(enumerate(rest.splitlines(keepends=True), number), lines)
    for line, text in following:
        if text.strip():
            raise UsageError(
                f"{uri}: line {line}: the array ends before {text.strip()[:40]!r}; a JSON manifest is one "
                "array, or one object per line: put all entries between one pair of brackets"
            )


def _parquet_rows(uri: str) -> Iterator[tuple[int, Row]]:
    number = 0
    store, path = files.arrow_filesystem(uri)
    try:
        with store.open_input_file(path) as file:
            for batch in pq.ParquetFile(file).iter_batches(batch_size=PARQUET_ROWS):
                if batch.nbytes > PARQUET_LIMIT:
                    raise UsageError(
                        f"{uri}: row {number + 1}: the next {batch.num_rows} rows take "
                        f"{batch.nbytes >> 20} MiB; this is not a manifest, which lists files and not their "
                        "content"
                    )
                # A few rows at a time: a dictionary value exists once in the table, but once per row in a
                # list.
                for first in range(0, batch.num_rows, 16):
                    for row in batch.slice(first, 16).to_pylist():
                        number += 1
                        yield number, row
    except (pa.ArrowException, OSError, ValueError, ArithmeticError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(
            f"{uri}: row {number + 1}: not a readable Parquet file ({reason}); "
            "check that the file is complete"
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
