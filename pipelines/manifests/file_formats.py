"""The file formats of manifests, read as a stream of (line, columns): JSON, delimited text, Parquet.

Lines are numbered from 1, as in editors; so are the rows of Parquet files, which have no lines.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO, cast

import pyarrow as pa

from actors.errors import ScriptoriumError, UsageError
from actors.records import Row
from pipelines.manifests.columns import AUDIO_COLUMNS
from pipelines.manifests.formats.delimited import delimiter_of, read_delimited
from pipelines.manifests.formats.json_rows import LINE_LIMIT, json_rows
from pipelines.manifests.formats.parquet_rows import parquet_rows
from pipelines.manifests.formats.path_lists import LIST_SUFFIXES, is_path_list, read_path_list
from pipelines.storage import files

MANIFEST_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".pq", *LIST_SUFFIXES)
# Consecutive blank lines. A decompression bomb of a few kilobytes expands to a billion of them.
BLANK_LIMIT = 100_000
# Compression by the first two bytes of a file.
_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZ": "bz2", b"\xfd7": "xz", b"(\xb5": "zstd"}


def read_file(uri: str, names: Mapping[str, str] | None = None) -> Iterator[tuple[int, Row]]:
    """Read the rows of one manifest file, whose format is detected from its first bytes.

    Args:
        uri: its address.
        names: for columns of ours the names that the manifest has for them.

    Raises:
        UsageError: the file cannot be read; the message names the file and the line, and says what to do.
    """
    names = names or {}
    audio_columns = (names["audio"],) if "audio" in names else AUDIO_COLUMNS
    try:
        with files.open(uri) as file:
            head = file.read(8)
        if not head:
            raise UsageError(f"{uri}: no rows: the file is empty")
        if head.startswith(b"PAR1"):
            yield from parquet_rows(uri, audio_columns)
            return
        yield from _text_rows(uri, read_lines(uri, head), audio_columns, names)
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


def read_lines(uri: str, head: bytes | None = None) -> Iterator[tuple[int, str]]:
    """The numbered lines of a text file, compressed or not.

    Args:
        uri: its address.
        head: its first bytes, if they are known.
    """
    if head is None:
        with files.open(uri) as file:
            head = file.read(8)
    compression = _COMPRESSIONS.get(head[:2])
    with files.open(uri, compression=compression if compression != "zstd" else None) as file:
        # Arrow's reader continues after the first zstd frame; `cat a.zst b.zst` and parallel compressors
        # write several.
        yield from _lines(
            uri, pa.CompressedInputStream(pa.PythonFile(file), "zstd") if compression == "zstd" else file
        )


def _text_rows(
    uri: str, lines: Iterator[tuple[int, str]], audio_columns: Sequence[str], names: Mapping[str, str]
) -> Iterator[tuple[int, Row]]:
    number, first = next(((number, text) for number, text in lines if text.strip()), (0, ""))
    if not first:
        raise UsageError(f"{uri}: no rows: the file has only blank lines")
    if first.lstrip()[0] in "[{":
        yield from json_rows(uri, number, first, lines, audio_columns)
    elif delimiter_of(uri, first, audio_columns) is None and is_path_list(uri, first):
        yield from read_path_list(uri, number, first, lines)
    else:
        yield from read_delimited(uri, number, first, lines, audio_columns, names.values())


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
