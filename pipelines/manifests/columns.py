"""The columns of a manifest: checks one row as found in a file and converts it to a Recording."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from actors.audio.files.slices import CELL, SLICE
from actors.audio.formats.raw_pcm import raw_format
from actors.errors import UsageError
from actors.records import Row
from actors.redaction import redacted_address
from pipelines.manifests.cells import DEEPEST, is_missing, is_unicode, jsonable, refuse, show
from pipelines.manifests.languages import LANGUAGE_COLUMNS, read_language, read_languages
from pipelines.manifests.windows import WINDOW_COLUMNS, Window, read_window, window_suffix
from pipelines.storage import files
from pipelines.storage.uris import is_windows_path

AUDIO_COLUMNS = ("audio", "audio_filepath", "uri", "url", "path", "file_name")
OTHER_COLUMNS = ("id", "languages", "context", "text", "channel", "track")
ALL_COLUMNS = frozenset((*AUDIO_COLUMNS, *LANGUAGE_COLUMNS, *OTHER_COLUMNS, *WINDOW_COLUMNS))
CHANNELS = ("mix", "left", "right", "each")
TRACKS = ("auto", "each", "mix")
LONGEST_ID = 100_000  # characters; all ids are held in memory
LONGEST_AUDIO = 100_000  # characters; signed URLs are long, but not that long


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
    languages: str | None = None  # ISO codes with commas: those that are expected; None: asr.languages
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
            languages=(languages := read_languages(rest, origin)),
            language=read_language(rest, origin, languages),
            context=_text(rest, "context", origin),
            text=_text(rest, "text", origin),
            duration=duration,
            channel=_number_or(CHANNELS, "channel", rest, origin),
            track=_number_or(TRACKS, "track", rest, origin),
            raw_format=raw_format(rest.get("format"), rest.get("sampling_rate"), rest.get("channels")),
            metadata={str(name): jsonable(value) for name, value in (rest | hidden).items()},
            origin=origin,
        )
    except RecursionError:
        raise UsageError(f"{origin}: nested more than {DEEPEST} levels deep; flatten this entry") from None


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
                refuse(
                    origin,
                    f"`{name}` has decoded samples (`array`); store files, or bytes in Parquet",
                )
            # Hugging Face writes {"path": ..., "bytes": ...}.
            audio = value.get("path") if isinstance(value, dict) else value
            if isinstance(audio, str) and len(audio) > LONGEST_AUDIO:
                refuse(
                    origin,
                    f"`{name}` has {len(audio):,} characters; no address is that long: {show(audio)}",
                )
            if not isinstance(audio, str) or not audio.strip():
                refuse(origin, f"`{name}` must be the audio's path or URI, not {show(value)}")
            if "\0" in audio or not is_unicode(audio) or audio.startswith((SLICE, CELL)):
                refuse(origin, f"`{name}` has characters that no address can have: {show(audio)}")
            if os.name != "nt" and is_windows_path(audio):
                refuse(
                    origin,
                    f"`{name}` is a path of Windows, which this machine cannot open: {show(audio)}; give "
                    "the path under which the file is found here",
                )
            return audio.strip()
    refuse(
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
    if is_missing(value) or not isinstance(value, str) or not value.strip():
        refuse(
            origin,
            f"empty id ({show(value)}); give each recording a unique id, or omit the column everywhere",
        )
    if len(value) > LONGEST_ID:
        refuse(origin, f"the id has {len(value):,} characters, more than {LONGEST_ID:,}: {show(value)}")
    if not is_unicode(value):
        refuse(
            origin,
            f"the id {show(value)} has half a character (a lone surrogate); write it in valid Unicode",
        )
    return value


def _text(rest: Row, name: str, origin: str) -> str | None:
    value = rest.pop(name, None)
    if is_missing(value) or value == "":
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        refuse(origin, f"`{name}` must be text, not {show(value)}")
    if not is_unicode(value):
        refuse(origin, f"`{name}` has half a character (a lone surrogate); write it in valid Unicode")
    return value


def _number_or(names: tuple[str, ...], column: str, rest: Row, origin: str) -> str | None:
    """A column that has one of these names or a number from 0; None where it is empty."""
    value = rest.pop(column, None)
    if is_missing(value) or value == "":
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip().lower()
    if isinstance(value, bool) or not (
        text in names or (text.isascii() and text.isdigit() and len(text) <= 3)
    ):
        refuse(origin, f"`{column}` must be one of {', '.join(names)} or a number from 0, not {show(value)}")
    return text
