"""Manifests in JSON: an object per line, objects over many lines, one array, or an array within an object."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any

from actors.errors import UsageError
from actors.records import Row
from pipelines.manifests.formats.lhotse import flatten_lhotse

# Bytes of a line or of an object; a file with longer ones is not a manifest.
LINE_LIMIT = 64 * 2**20
# Keys of lhotse's entries, which have lists of objects of their own.
_LHOTSE = {"sources", "recording", "supervisions", "tracks"}


def json_rows(
    uri: str, number: int, first: str, lines: Iterator[tuple[int, str]], audio_columns: Sequence[str]
) -> Iterator[tuple[int, Row]]:
    """The rows of a JSON manifest.

    Args:
        uri: the manifest's address, for messages.
        number: the number of the first line.
        first: the first line, which begins with a brace or a bracket.
        lines: the numbered lines behind it.
        audio_columns: names of the column with the audio's address.

    Yields:
        (line, columns) of each row.

    Raises:
        UsageError: a line is wrong.
    """
    if first.lstrip()[0] == "[":
        for line, value in _values(uri, number, first[first.index("[") + 1 :], lines, in_array=True):
            yield line, _as_row(uri, line, value)
        return
    for line, value in _objects(uri, number, first, lines):
        for row in _rows_within(value, audio_columns):
            yield line, _as_row(uri, line, row)


def _objects(uri: str, number: int, text: str, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, Any]]:
    """The values of lines with one each; from the first one over many lines on, of text in any layout."""
    while True:
        if text.strip():
            try:
                value = json.loads(text)
            except RecursionError:
                raise _too_deep(uri, number) from None
            except ValueError as error:
                if isinstance(error, json.JSONDecodeError) and error.pos >= len(text.rstrip()):
                    yield from _values(uri, number, text, lines, in_array=False)
                    return
                raise UsageError(
                    f"{uri}: line {number}: not JSON ({error}); "
                    "each line must be one JSON object, or the file one array of objects"
                ) from None
            yield number, value
        number, text = next(lines, (0, ""))
        if not number:
            return


def _rows_within(value: Any, audio_columns: Sequence[str]) -> list[Any]:
    """The rows of an object such as {"data": [...]}; any other value is a row itself."""
    if not isinstance(value, dict):
        return [value]
    lists = {
        name: inner
        for name, inner in value.items()
        if isinstance(inner, list) and inner and all(isinstance(one, dict) for one in inner)
    }
    is_row = any(name in value and name not in lists for name in audio_columns)
    if is_row or _LHOTSE & value.keys() or not lists:
        return [value]
    if len(lists) == 1:
        return next(iter(lists.values()))
    return lists.get("data", [value])


def _values(
    uri: str, number: int, text: str, lines: Iterator[tuple[int, str]], *, in_array: bool
) -> Iterator[tuple[int, Any]]:
    """The values of an array, or of a sequence, in any layout, without holding all of them in memory."""
    decoder = json.JSONDecoder()
    position, at_end, more_lines = 0, False, 1
    while True:
        position = _skip(text, position, " \t\r\n," if in_array else " \t\r\n")
        if not in_array and position == len(text) and at_end:
            return
        if in_array and text[position : position + 1] == "]":
            number += text.count("\n", 0, position)
            return _must_end(uri, number, text[position + 1 :], lines)
        try:
            value, end = decoder.raw_decode(text, position)
        except RecursionError:
            raise _too_deep(uri, number) from None
        except ValueError as error:
            if at_end:
                raise UsageError(
                    f"{uri}: line {number}: not JSON ({error}); "
                    "a JSON manifest is one array of objects, or one object per line"
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
        yield number + text.count("\n", 0, position), value
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
