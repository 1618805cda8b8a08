"""Manifests: the list of recordings to transcribe, in any common form, on any fsspec URI, compressed or not.

    JSON lines (including NeMo manifests, and lhotse recordings or cuts), JSON in any other layout, CSV, TSV,
    Parquet (a file or a folder of files, which may hold the audio itself), a list of paths, a playlist, a tar
    archive or several, a data folder of Kaldi's, a folder or a glob of audio files, a glob of manifests, or a
    single audio file. A folder may have `metadata.csv`, as Hugging Face's audiofolder.

`read_manifest` streams: it holds only the ids in memory. Everything wrong raises a UsageError, which says
where the problem is and what to do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

from actors.errors import ScriptoriumError, UsageError
from actors.records import Row
from pipelines.manifests.columns import Recording, read_row
from pipelines.manifests.file_formats import MANIFEST_SUFFIXES, read_file, read_lines
from pipelines.manifests.folders import AUDIO_SUFFIXES, audio_rows, is_audio, is_tar, report_passed_over
from pipelines.manifests.formats.audio_folders import audio_folder_rows, metadata_tables
from pipelines.manifests.formats.kaldi import is_kaldi_folder, kaldi_rows
from pipelines.manifests.formats.tars import NemoShards, expand_numbers, tar_rows
from pipelines.plurals import counted
from pipelines.storage import files
from pipelines.storage.streams import copied_stream, is_stream
from pipelines.storage.uris import is_windows_path

__all__ = ["AUDIO_SUFFIXES", "Recording", "read_manifest", "recordings_of"]

T = TypeVar("T")
Rows = Iterator[tuple[str, int, Row, str]]


def read_manifest(uri: str, names: Mapping[str, str] | None = None) -> Iterator[Recording]:
    """Read the recordings that a manifest lists, in its order, with unique ids.

    Columns: the address of the audio (`audio`, `audio_filepath`, `uri`, `url`, `path` or `file_name`; a
    relative path is relative to the folder of the manifest), and optionally `id`, `language`, `context`,
    `text`, `duration`, `channel`, and `offset` or `start`, `end` for a part of a file. All other columns
    become metadata. The id of a recording without an `id` is its audio as spelled in the manifest, with its
    window if it has one, so entries with the same audio need ids.

    Args:
        uri: a path or any fsspec URI.
        names: for columns of ours the names that the manifest has for them (`--columns`).

    Yields:
        One Recording per entry. Errors are raised when the iteration reaches them.

    Raises:
        UsageError: the manifest is missing, unreadable, of no known form or empty, or has a wrong row; the
            message names the file and the line.
    """
    seen: dict[str, int] = {}
    uris: list[str] = []
    unused = dict(names or {})
    for file, line, values, base in _rows(uri, names):
        if not uris or uris[-1] != file:
            uris.append(file)
        if unused:
            unused = {ours: theirs for ours, theirs in unused.items() if theirs not in values}
        recording = read_row(values, file, line, base, names)
        id_column = (names or {}).get("id", "id")
        if recording.id in seen and recording.location and id_column not in values:
            # Tables with audio may call all of it the same.
            recording = replace(recording, id=f"{recording.id}#{files.name_of(file)}#{line}")
        # The number of the file and the line in one integer, which takes less memory than a string per row.
        position = ((len(uris) - 1) << 40) | line
        # The positions may be equal: a JSON array may have all items on one line.
        if (first := seen.get(recording.id)) is not None:
            raise _duplicate(recording, uris[first >> 40], first & (2**40 - 1), id_column in values)
        seen[recording.id] = position
        yield recording
    if not seen:
        raise UsageError(f"{uri}: no rows: the manifest lists no recording")
    if unused:
        missing = ", ".join(f"{ours}={theirs}" for ours, theirs in unused.items())
        raise UsageError(f"{uri}: no row has the column of --columns {missing}; correct its name")


def recordings_of(manifest: str, command: str, names: Mapping[str, str] | None = None) -> Iterator[Recording]:
    """The recordings of a manifest, checked for `command` (transcribe or align).

    Raises:
        UsageError: a row is wrong, or has no text for `align`.
    """
    for recording in read_manifest(manifest, names):
        if command == "align" and not (recording.text and recording.text.strip()):
            raise UsageError(
                f"{recording.origin}: {recording.id!r} has no `text`: `align` needs the text in the "
                "manifest; use `transcribe` for audio without text"
            )
        yield recording


def _rows(uri: str, names: Mapping[str, str] | None) -> Rows:
    """All entries of `uri` as (file, line, columns, folder that relative audio paths start from).

    Line 0 means that the file itself is the recording.
    """
    given = uri
    if is_stream(uri):
        yield from _stream_rows(uri, names)
        return
    uri = files.absolute(uri)
    # Web servers have no folders.
    if not uri.startswith(("http://", "https://")) and _reach(uri, files.is_folder):
        yield from _folder_rows(uri, names)
    elif _reach(uri, files.exists):
        yield from _file_rows(uri, names)
    elif (numbered := expand_numbers(uri)) != [uri]:
        yield from _files_rows(numbered, files.parent(numbered[0]), names)
    elif any(sign in uri for sign in "*?["):
        yield from _glob_rows(uri, names)
    elif os.name != "nt" and is_windows_path(given):
        raise UsageError(
            f"{given}: this is a path of Windows, which this machine cannot open; give the path under which "
            "the manifest is found here"
        )
    else:
        raise UsageError(f"{uri}: there is no such file, folder or prefix; check the address of the manifest")


def _stream_rows(uri: str, names: Mapping[str, str] | None) -> Rows:
    """The rows of standard input or of a pipe; relative paths start from the working directory."""
    with copied_stream(uri) as copy:
        try:
            for line, values in read_file(copy, names):
                yield uri, line, values, os.getcwd()
        except UsageError as error:
            raise UsageError(error.message.replace(copy, uri)) from None


def _file_rows(uri: str, names: Mapping[str, str] | None) -> Rows:
    base = files.parent(uri)
    if is_audio(uri):
        yield uri, 0, {"audio": uri, "id": files.name_of(uri)}, base
    elif is_tar(uri):
        yield from _tar_rows([uri], base)
    else:
        shards = NemoShards(base)
        for line, values in read_file(uri, names):
            yield uri, line, shards.with_archive(values), base


def _files_rows(uris: list[str], base: str, names: Mapping[str, str] | None) -> Rows:
    """The rows of several manifests or archives, which a pattern named."""
    if all(is_tar(file) for file in uris):
        yield from _tar_rows(uris, base)
        return
    for file in uris:
        yield from _file_rows(file, names)


def _tar_rows(uris: list[str], base: str) -> Rows:
    try:
        yield from tar_rows(uris, base)
    except UsageError:
        raise
    except ScriptoriumError as error:  # an error of the store, after all retries
        raise UsageError(f"{error.message}; check the address, the rights and the credentials") from error


def _folder_rows(uri: str, names: Mapping[str, str] | None) -> Rows:
    if _reach(uri, is_kaldi_folder):
        yield from kaldi_rows(uri, read_lines)
        return
    uris = list(_reach(uri, files.list))
    audio = [file for file in uris if is_audio(file)]
    tables = [file for file in uris if file.lower().endswith((".parquet", ".pq"))]
    tars = [file for file in uris if is_tar(file)]
    taken = audio or tables or tars
    if not taken:
        raise UsageError(
            f"{uri}: no rows: the folder contains {counted(len(uris), 'file')}, none with the name of an "
            "audio file, a Parquet file or a tar archive; give the manifest file itself, or the folder with "
            "the audio"
        )
    described = metadata_tables(uris, read_file) if audio else []
    report_passed_over(uri, uris, [*taken, *described])
    if described:
        yield from audio_folder_rows(uri, audio, described, lambda table: read_file(table, names))
    elif audio:
        yield from audio_rows(audio, uri)
    elif tables:
        # A folder of Parquet files is one table. Relative paths start from this folder, however deep the file
        # is.
        for file in tables:
            for line, values in read_file(file, names):
                yield file, line, values, uri
    else:
        yield from _tar_rows(tars, uri)


def _glob_rows(uri: str, names: Mapping[str, str] | None) -> Rows:
    uris = list(_reach(uri, files.glob))
    if not uris:
        raise UsageError(f"{uri}: no file matches this pattern; check the pattern and the address")
    audio = [file for file in uris if is_audio(file)]
    folder = uri[: min(uri.find(sign) for sign in "*?[" if sign in uri)].rpartition("/")[0]
    if not audio and all(is_tar(file) or _is_manifest(file) for file in uris):
        yield from _files_rows(uris, folder, names)
        return
    # If no name looks like audio, all matches are taken: the pattern was written for them.
    report_passed_over(uri, uris, audio or uris)
    yield from audio_rows(audio or uris, folder)


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
    except ScriptoriumError as error:
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
