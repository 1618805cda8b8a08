"""Manifests: the list of recordings to transcribe, in any common form, on any fsspec URI, compressed or not.

    JSON lines (including NeMo manifests, and lhotse recordings or cuts), a JSON array, CSV, TSV, Parquet (a
    file or a folder of files), a folder or a glob of audio files, a glob of manifests, or a single audio
    file.

`read_manifest` streams: it holds only the ids in memory. Everything wrong raises a UsageError, which says
where the problem is and what to do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TypeVar

from actors.errors import StorageError, UsageError
from pipelines.manifests.columns import Recording, read_row
from pipelines.manifests.file_formats import MANIFEST_SUFFIXES, Row, read_file
from pipelines.plurals import counted
from pipelines.storage import files

__all__ = ["AUDIO_SUFFIXES", "Recording", "read_manifest"]

T = TypeVar("T")

_AUDIO_NAMES = """
    3g2 3gp aac ac3 aif aifc aiff amr ape asf au avi awb caf dts eac3 f4v flac flv gsm m2ts m4a m4b m4v mka
    mkv mov mp2 mp3 mp4 mpeg mpg mts nist oga ogg ogv opus ra rf64 rm snd sph spx tak ts tta voc vob w64 wav
    webm wma wmv wv
"""
# Video files are included: their sound is transcribed.
AUDIO_SUFFIXES: tuple[str, ...] = tuple(f".{name}" for name in _AUDIO_NAMES.split())


def read_manifest(uri: str) -> Iterator[Recording]:
    """Read the recordings that a manifest lists, in its order, with unique ids.

    Columns: the address of the audio (`audio`, `audio_filepath`, `uri`, `url` or `path`; a relative path is
    relative to the folder of the manifest), and optionally `id`, `language`, `context`, `text`, `duration`,
    `channel`. All other columns become metadata. The id of a recording without an `id` is its audio as
    spelled in the manifest, so entries with the same audio need ids.

    Args:
        uri: a path or any fsspec URI.

    Yields:
        One Recording per entry. Errors are raised when the iteration reaches them.

    Raises:
        UsageError: the manifest is missing, unreadable, of no known form or empty, or has a wrong row; the
            message names the file and the line.
    """
    seen: dict[str, int] = {}
    uris: list[str] = []
    for file, line, values, base in _rows(uri):
        if not uris or uris[-1] != file:
            uris.append(file)
        recording = read_row(values, file, line, base)
        # The number of the file and the line in one integer, which takes less memory than a string per row.
        position = ((len(uris) - 1) << 40) | line
        # The positions may be equal: a JSON array may have all items on one line.
        if (first := seen.get(recording.id)) is not None:
            raise _duplicate(recording, uris[first >> 40], first & (2**40 - 1), "id" in values)
        seen[recording.id] = position
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
                f"{recording.origin}: {recording.id!r} has no `text`: `align` needs the text in the "
                "manifest; use `transcribe` for audio without text"
            )
        yield recording


def _rows(uri: str) -> Iterator[tuple[str, int, Row, str]]:
    """All entries of `uri` as (file, line, columns, folder that relative audio paths start from).

    Line 0 means that the file itself is the recording.
    """
    uri = files.absolute(uri)
    # Web servers have no folders.
    if not uri.startswith(("http://", "https://")) and _reach(uri, files.is_folder):
        yield from _folder_rows(uri)
    elif _reach(uri, files.exists):
        yield from _file_rows(uri)
    elif any(sign in uri for sign in "*?["):
        yield from _glob_rows(uri)
    else:
        raise UsageError(f"{uri}: there is no such file, folder or prefix; check the address of the manifest")


def _file_rows(uri: str) -> Iterator[tuple[str, int, Row, str]]:
    base = files.parent(uri)
    if files.name_of(uri).lower().endswith(AUDIO_SUFFIXES):
        yield uri, 0, {"audio": uri, "id": files.name_of(uri)}, base
        return
    for line, values in read_file(uri):
        yield uri, line, values, base


def _folder_rows(uri: str) -> Iterator[tuple[str, int, Row, str]]:
    uris = _reach(uri, files.list)
    audio = [file for file in uris if file.lower().endswith(AUDIO_SUFFIXES)]
    tables = [file for file in uris if file.lower().endswith(".parquet")]
    if not audio and not tables:
        raise UsageError(
            f"{uri}: no rows: the folder contains {counted(len(uris), 'file')}, none with the name of an "
            "audio or Parquet file; give the manifest file itself, or the folder with the audio"
        )
    yield from _audio_rows(audio, uri)
    # A folder of Parquet files is one table. Relative paths start from this folder, however deep the file is.
    for file in [] if audio else tables:
        for line, values in read_file(file):
            yield file, line, values, uri


def _glob_rows(uri: str) -> Iterator[tuple[str, int, Row, str]]:
    uris = list(_reach(uri, files.glob))
    if not uris:
        raise UsageError(f"{uri}: no file matches this pattern; check the pattern and the address")
    audio = [file for file in uris if file.lower().endswith(AUDIO_SUFFIXES)]
    if not audio and all(_is_manifest(file) for file in uris):
        for file in uris:
            yield from _file_rows(file)
        return
    # If no name looks like audio, all matches are taken: the pattern was written for them.
    folder = uri[: min(uri.find(sign) for sign in "*?[" if sign in uri)].rpartition("/")[0]
    yield from _audio_rows(audio or uris, folder)


def _audio_rows(uris: list[str], base: str) -> Iterator[tuple[str, int, Row, str]]:
    for file in uris:
        yield file, 0, {"audio": file, "id": file.removeprefix(base).lstrip("/")}, base


def _is_manifest(uri: str) -> bool:
    name = uri.lower()
    for packed in (".gz", ".bz2", ".xz", ".zst"):
        name = name.removesuffix(packed)
    return name.endswith(MANIFEST_SUFFIXES)


def _reach(uri: str, action: Callable[[str], T]) -> T:
    """Call a storage function with `uri`; any failure becomes a UsageError with a message of one line."""
    try:
        return action(uri)
    except UsageError:
        raise
    except StorageError as error:
        raise UsageError(
            f"{uri}: cannot be reached ({error.message}); check the address, the network and the credentials"
        ) from error
    except Exception as error:
        raise UsageError(
            f"{uri}: cannot be reached ({type(error).__name__}: {error}); "
            "check the address, the network and the credentials"
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
            f"{recording.origin}: the id {_shortened(recording.id)} is already taken {first}; "
            "ids must be unique"
        )
    return UsageError(
        f"{recording.origin}: the audio {_shortened(recording.id)} is already listed {first}, and neither "
        "has an id; remove one, or give each its own `id`"
    )


def _shortened(text: str) -> str:
    return repr(text if len(text) <= 200 else f"{text[:200]}...")
