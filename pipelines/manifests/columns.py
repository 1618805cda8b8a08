"""The columns of a manifest: checks one row as found in a file and converts it to a Recording."""

from __future__ import annotations

import base64
import datetime
import difflib
import functools
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from actors.audio.files.slices import CELL, SLICE
from actors.audio.formats.raw_pcm import raw_format
from actors.errors import ScriptoriumError, UsageError
from actors.records import Row
from actors.redaction import redacted_address
from actors.text.languages import CODES, code_of, normalize_language
from pipelines.manifests.windows import WINDOW_COLUMNS, Window, read_window, window_suffix
from pipelines.storage import files
from pipelines.storage.uris import is_windows_path

AUDIO_COLUMNS = ("audio", "audio_filepath", "uri", "url", "path", "file_name")
LANGUAGE_COLUMNS = ("language", "lang", "source_lang")
OTHER_COLUMNS = ("id", "context", "text", "channel", "track")
ALL_COLUMNS = frozenset((*AUDIO_COLUMNS, *LANGUAGE_COLUMNS, *OTHER_COLUMNS, *WINDOW_COLUMNS))
CHANNELS = ("mix", "left", "right", "each")
TRACKS = ("auto", "each", "mix")
LONGEST_ID = 100_000  # characters; all ids are held in memory
LONGEST_AUDIO = 100_000  # characters; signed URLs are long, but not that long
_DEEPEST = 100  # levels of nesting in metadata
# For these no single language can be forced: the model decides for each segment.
_SEVERAL = frozenset(
    {"mul", "multi", "multilingual", "mixed", "und", "unk", "unknown", "other", "mis", "zxx", "n/a", "?"}
)


@dataclass(frozen=True, slots=True)
class Recording:
    """One checked entry of a manifest."""

    id: str  # unique in the manifest; never part of a path
    audio: str  # absolute path or URI
    language: str | None  # ISO code; None: the model decides
    context: str | None
    text: str | None
    duration: float | None  # seconds, as claimed by the manifest
    channel: str | None  # mix | left | right | each | a number; None: audio.channel
    metadata: dict[str, Any]  # every other column, JSON values
    origin: str  # file:line, for messages
    window: Window | None = None  # seconds of the file; None: all of it
    location: str | None = None  # where the bytes are, if `audio` is a part of another file
    track: str | None = None  # auto | each | mix | a number; None: audio.track
    raw_format: str | None = None  # of samples without a header: see `actors.audio.formats.raw_pcm`


@dataclass(frozen=True, slots=True)
class Embedded:
    """The audio of a row that is a part of another file: a member of an archive, or a cell of a table."""

    audio: str  # address for people
    location: str  # address for `actors.audio.sources`
    id: str  # of the recording, unless the row has an id


def read_row(
    values: Row, file: str, line: int, base: str, names: Mapping[str, str] | None = None
) -> Recording:
    """Check one row.

    Args:
        values: the row's columns as found.
        file: the manifest's address.
        line: the number of the line, from 1; 0 if the file itself is the recording.
        base: the folder that relative audio paths start from.
        names: for columns of ours the names that the manifest has for them (`--columns`).

    Raises:
        UsageError: the row is wrong; the message names file, line and column, and says what to do.
    """
    origin = f"{file}:{line}" if line else file
    rest, hidden = _renamed(values, names) if names else (dict(values), {})
    found = _audio(rest, origin)
    audio = found if isinstance(found, str) else found.audio
    window, duration = read_window(rest, origin)
    default_id = redacted_address(audio) if isinstance(found, str) else found.id
    recording_id = _id(rest, origin, default_id + (window_suffix(window) if window else ""))
    try:
        return Recording(
            id=recording_id,
            audio=files.absolute(files.join(base, audio)),
            window=window,
            location=None if isinstance(found, str) else found.location or None,
            language=_language(rest, origin),
            context=_text(rest, "context", origin),
            text=_text(rest, "text", origin),
            duration=duration,
            channel=_number_or(CHANNELS, "channel", rest, origin),
            track=_number_or(TRACKS, "track", rest, origin),
            raw_format=raw_format(rest.get("format"), rest.get("sampling_rate"), rest.get("channels")),
            metadata={str(name): _jsonable(value) for name, value in (rest | hidden).items()},
            origin=origin,
        )
    except RecursionError:
        raise UsageError(f"{origin}: nested more than {_DEEPEST} levels deep; flatten this entry") from None


def _renamed(values: Row, names: Mapping[str, str]) -> tuple[Row, Row]:
    """The row with our names, and its own columns of these names, which are metadata then."""
    theirs = {name: ours for ours, name in names.items()}
    renamed = {theirs[name]: value for name, value in values.items() if name in theirs}
    rest = {name: value for name, value in values.items() if name not in theirs}
    hidden = {name: rest.pop(name) for name in names if name in rest}
    return renamed | rest, hidden


def _audio(rest: Row, origin: str) -> str | Embedded:
    for name in AUDIO_COLUMNS:
        if name in rest:
            value = rest.pop(name)
            if isinstance(value, Embedded):
                return value
            if isinstance(value, dict) and value.get("array") is not None and not value.get("bytes"):
                _refuse(
                    origin,
                    f"`{name}` has decoded samples (`array`); store files, or bytes in Parquet",
                )
            # Hugging Face writes {"path": ..., "bytes": ...}.
            audio = value.get("path") if isinstance(value, dict) else value
            if isinstance(audio, str) and len(audio) > LONGEST_AUDIO:
                _refuse(
                    origin,
                    f"`{name}` has {len(audio):,} characters; no address is that long: {_show(audio)}",
                )
            if not isinstance(audio, str) or not audio.strip():
                _refuse(origin, f"`{name}` must be the audio's path or URI, not {_show(value)}")
            if "\0" in audio or not _is_unicode(audio) or audio.startswith((SLICE, CELL)):
                _refuse(origin, f"`{name}` has characters that no address can have: {_show(audio)}")
            if os.name != "nt" and is_windows_path(audio):
                _refuse(
                    origin,
                    f"`{name}` is a path of Windows, which this machine cannot open: {_show(audio)}; give "
                    "the path under which the file is found here",
                )
            return audio.strip()
    _refuse(
        origin,
        f"no column with the audio's address: name one of {', '.join(AUDIO_COLUMNS[:-1])} "
        f"(found: {', '.join(map(str, rest)) or 'nothing'}), or say which one it is: --columns audio=NAME",
    )


def _id(rest: Row, origin: str, audio: str) -> str:
    if "id" not in rest:
        return audio
    value = rest.pop("id")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if _missing(value) or not isinstance(value, str) or not value.strip():
        _refuse(
            origin,
            f"empty id ({_show(value)}); give each recording a unique id, or omit the column everywhere",
        )
    if len(value) > LONGEST_ID:
        _refuse(origin, f"the id has {len(value):,} characters, more than {LONGEST_ID:,}: {_show(value)}")
    if not _is_unicode(value):
        _refuse(
            origin,
            f"the id {_show(value)} has half a character (a lone surrogate); write it in valid Unicode",
        )
    return value


def _language(rest: Row, origin: str) -> str | None:
    for name in LANGUAGE_COLUMNS:
        if name in rest:
            value = rest.pop(name)
            if isinstance(value, list) and all(isinstance(one, str) for one in value):
                value = "+".join(value)
            if _missing(value):
                return None
            if not isinstance(value, str):
                _refuse(origin, f"`{name}` must be a language's name or ISO code, not {_show(value)}")
            try:
                code, plural = _read_language(value)
            except ValueError as error:
                _refuse(origin, f"unknown language {_show(value)}{error}")
            if plural:
                rest[name] = value
            return code
    return None


@functools.lru_cache(maxsize=4096)
def _read_language(value: str) -> tuple[str | None, bool]:
    """Parse a language column.

    Returns:
        The ISO code or None, and whether the value names several languages or none in particular.

    Raises:
        ValueError: an unknown language; the message is a hint.
    """
    if value.strip().lower() in _SEVERAL:
        return None, True
    parts = [part for part in re.split(r"[+,;/|&]", value) if part.strip()]
    codes = {code_of(_name(part)) for part in parts}
    if len(codes) > 1:
        return None, True
    return (codes.pop() if codes else None), False


def _name(value: str) -> str | None:
    try:
        return normalize_language(value)
    except (ValueError, ScriptoriumError):
        known = {spelling.lower(): spelling for pair in CODES.items() for spelling in pair}
        near = difflib.get_close_matches(value.strip().lower(), known, n=1, cutoff=0.6)
        hint = f"; did you mean {known[near[0]]}?" if near else ""
        known_names = ", ".join(f"{name} ({code})" for name, code in CODES.items())
        raise ValueError(
            f"{hint} Give one of {known_names}, or leave it empty to let the model decide"
        ) from None


def _text(rest: Row, name: str, origin: str) -> str | None:
    value = rest.pop(name, None)
    if _missing(value) or value == "":
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        _refuse(origin, f"`{name}` must be text, not {_show(value)}")
    if not _is_unicode(value):
        _refuse(origin, f"`{name}` has half a character (a lone surrogate); write it in valid Unicode")
    return value


def _number_or(names: tuple[str, ...], column: str, rest: Row, origin: str) -> str | None:
    """A column that has one of these names or a number from 0; None where it is empty."""
    value = rest.pop(column, None)
    if _missing(value) or value == "":
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip().lower()
    if isinstance(value, bool) or not (
        text in names or (text.isascii() and text.isdigit() and len(text) <= 3)
    ):
        _refuse(
            origin, f"`{column}` must be one of {', '.join(names)} or a number from 0, not {_show(value)}"
        )
    return text


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in text)


def _jsonable(value: Any, depth: int = 0) -> Any:
    """Convert a value for JSON: NaN and infinity to null, times to ISO 8601, bytes to base64, others to text.

    Raises:
        RecursionError: the value is nested deeper than later readers can be expected to handle.
    """
    if depth > _DEEPEST:
        raise RecursionError
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(name): _jsonable(one, depth + 1) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(one, depth + 1) for one in value]
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _refuse(origin: str, what: str) -> NoReturn:
    raise UsageError(f"{origin}: {what}")
