"""Manifests: the list of what to transcribe, in any of the forms that people have it in.

    JSON lines (NeMo manifests and lhotse recordings or cuts are such), a JSON array, CSV, TSV, Parquet (a file, or a folder of them),
    a folder or a glob of audio files, a glob of manifests, or one audio file; each compressed or not, on any fsspec address.

`read_manifest` streams: it holds the ids, not the rows. What is wrong raises UsageError, which says where it is and what to do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TypeVar

from actors.errors import StorageError, UsageError
from pipelines.manifests.columns import Recording, read_row
from pipelines.manifests.file_formats import MANIFEST_SUFFIXES, Row, read_file
from pipelines.storage import files as locations

__all__ = ["AUDIO_SUFFIXES", "Recording", "read_manifest"]

T = TypeVar("T")

_AUDIO_NAMES = """
    3g2 3gp aac ac3 aif aifc aiff amr ape asf au avi awb caf dts eac3 f4v flac flv gsm m2ts m4a m4b m4v mka mkv mov mp2 mp3 mp4 mpeg
    mpg mts nist oga ogg ogv opus ra rf64 rm snd sph spx tak ts tta voc vob w64 wav webm wma wmv wv
"""
AUDIO_SUFFIXES: tuple[str, ...] = tuple(
    f".{name}" for name in _AUDIO_NAMES.split()
)  # video too: its sound is transcribed


def read_manifest(uri: str) -> Iterator[Recording]:
    """The recordings that `uri` lists, in its order, with unique ids.

    Columns: the audio's address (`audio`, `audio_filepath`, `uri`, `url` or `path`; relative ones are relative to the manifest's folder),
    and optionally `id`, `language`, `context`, `text`, `duration`, `channel`. Every other column is carried as metadata.
    A recording without an id is called by its audio as the manifest spells it, so the same audio twice needs ids.

    Args:
        uri: a path or any fsspec URI.

    Yields:
        one Recording an entry; errors come when the iteration reaches them.

    Raises:
        UsageError: not found, not readable, not such a form, no rows, or a wrong row, naming file and line.
    """
    seen: dict[str, int] = {}
    files: list[str] = []
    for file, line, values, base in _rows(uri):
        if not files or files[-1] != file:
            files.append(file)
        recording = read_row(values, file, line, base)
        # One number instead of a string for each row: file and line in one integer.
        place = ((len(files) - 1) << 40) | line
        if (
            first := seen.get(recording.id)
        ) is not None:  # the place may be the same: an array may have all its items on one line
            raise _duplicate(recording, files[first >> 40], first & (2**40 - 1), "id" in values)
        seen[recording.id] = place
        yield recording
    if not seen:
        raise UsageError(f"{uri}: no rows: the manifest lists no recording")


def recordings_of(manifest: str, command: str) -> Iterator[Recording]:
    """The recordings of a manifest, checked for `command` (transcribe or align).

    Raises:
        UsageError: a row is wrong, or has no text for `align`.
    """
    for recording in read_manifest(manifest):
        if command == "align" and not (recording.text and recording.text.strip()):
            raise UsageError(
                f"{recording.origin}: {recording.id!r} has no `text`: `align` gives times to words that the manifest has"
            )
        yield recording


def _rows(uri: str) -> Iterator[tuple[str, int, Row, str]]:
    """(file, line, columns, folder that relative audio paths start from) for everything that `uri` names; line 0: the file itself."""
    uri = locations.absolute(uri)
    # Web servers have no folders, only pages.
    if not uri.startswith(("http://", "https://")) and _reach(uri, locations.is_folder):
        yield from _folder_rows(uri)
    elif _reach(uri, locations.exists):
        yield from _file_rows(uri)
    elif any(sign in uri for sign in "*?["):
        yield from _glob_rows(uri)
    else:
        raise UsageError(f"{uri}: there is no such file, folder or prefix; check the address of the manifest")


def _file_rows(uri: str) -> Iterator[tuple[str, int, Row, str]]:
    base = locations.parent(uri)
    if locations.name_of(uri).lower().endswith(AUDIO_SUFFIXES):
        yield uri, 0, {"audio": uri, "id": locations.name_of(uri)}, base
        return
    for line, values in read_file(uri):
        yield uri, line, values, base


def _folder_rows(uri: str) -> Iterator[tuple[str, int, Row, str]]:
    files = _reach(uri, locations.list)
    audio = [file for file in files if file.lower().endswith(AUDIO_SUFFIXES)]
    tables = [file for file in files if file.lower().endswith(".parquet")]
    if not audio and not tables:
        raise UsageError(
            f"{uri}: no rows: a folder of {len(files)} files, none of them audio or Parquet by its name; "
            "give the manifest file itself, or the folder that has the audio"
        )
    yield from _listed(audio, uri)
    # A folder of Parquet files is one table; relative paths start from the folder, however deep a file of it lies.
    for file in [] if audio else tables:
        for line, values in read_file(file):
            yield file, line, values, uri


def _glob_rows(uri: str) -> Iterator[tuple[str, int, Row, str]]:
    files = list(_reach(uri, locations.glob))
    if not files:
        raise UsageError(f"{uri}: no file matches this pattern")
    audio = [file for file in files if file.lower().endswith(AUDIO_SUFFIXES)]
    if not audio and all(_is_manifest(file) for file in files):
        for file in files:
            yield from _file_rows(file)
        return
    # Nothing looks like audio by name: whoever wrote the pattern knows better.
    yield from _listed(
        audio or files, uri[: min(uri.find(sign) for sign in "*?[" if sign in uri)].rpartition("/")[0]
    )


def _listed(files: list[str], base: str) -> Iterator[tuple[str, int, Row, str]]:
    for file in files:
        yield file, 0, {"audio": file, "id": file.removeprefix(base).lstrip("/")}, base


def _is_manifest(uri: str) -> bool:
    name = uri.lower()
    for packed in (".gz", ".bz2", ".xz", ".zst"):
        name = name.removesuffix(packed)
    return name.endswith(MANIFEST_SUFFIXES)


def _reach(uri: str, ask: Callable[[str], T]) -> T:
    """Ask a store about `uri`; whatever goes wrong becomes a UsageError that says so in one line."""
    try:
        return ask(uri)
    except UsageError:
        raise
    except StorageError as error:
        raise UsageError(
            f"{uri}: cannot be reached ({error.message}); check address, network and credentials"
        ) from error
    except Exception as error:
        raise UsageError(
            f"{uri}: cannot be reached ({type(error).__name__}: {error}); check address, network and credentials"
        ) from error


def _duplicate(recording: Recording, file: str, line: int, explicit: bool) -> UsageError:
    if recording.origin == f"{file}:{line}":
        first = "by another entry of this line"
    elif recording.origin.startswith(f"{file}:"):
        first = f"by line {line}"
    else:
        first = f"by {os.path.basename(file)}:{line}"
    if explicit:
        return UsageError(
            f"{recording.origin}: the id {_shown(recording.id)} is already taken {first}; ids must be unique"
        )
    return UsageError(
        f"{recording.origin}: the audio {_shown(recording.id)} is already listed {first}, and neither has an id; "
        "remove one, or give each its own `id`"
    )


def _shown(text: str) -> str:
    return repr(text if len(text) <= 200 else f"{text[:200]}...")
