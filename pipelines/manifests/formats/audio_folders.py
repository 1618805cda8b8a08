"""Hugging Face's audiofolder: audio files with a table `metadata.csv` (or .jsonl, .parquet) beside them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

from actors.errors import UsageError
from actors.records import Row
from pipelines.plurals import counted
from pipelines.storage import files

logger = logging.getLogger(__name__)

FILE_NAME = "file_name"
_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
Reader = Callable[[str], Iterator[tuple[int, Row]]]
Rows = Iterator[tuple[str, int, Row, str]]


def metadata_tables(uris: Sequence[str], read: Reader) -> list[str]:
    """The tables among the files of a folder that describe audio files by `file_name`.

    A file of that name with other content, such as that of a corpus, is none.

    Args:
        uris: the files.
        read: reads the numbered rows of a table.
    """
    found = []
    for uri in uris:
        if files.name_of(uri) in _NAMES:
            try:
                _, first = next(read(uri), (0, {}))
            except UsageError:
                continue
            if FILE_NAME in first:
                found.append(uri)
    return found


def audio_folder_rows(folder: str, audio: Sequence[str], tables: Sequence[str], read: Reader) -> Rows:
    """The rows of the tables, and after them the audio files that no row describes.

    Args:
        folder: its address; a default id is a path below it.
        audio: the addresses of the audio files.
        tables: from `metadata_tables`; relative names start from the folder of the table.
        read: reads the numbered rows of a table.

    Yields:
        (table or file, line, columns, base) of each recording.
    """
    described = set()
    for table in tables:
        base = files.parent(table)
        for line, values in read(table):
            name = values.get(FILE_NAME)
            if isinstance(name, str) and name.strip():
                address = files.join(base, name.strip())
                described.add(address)
                # Tables of several splits may use the same names.
                values = {"id": address.removeprefix(folder).lstrip("/"), **values}
            yield table, line, values, base
    rest = [file for file in audio if file not in described]
    if rest:
        names = ", ".join(files.name_of(table) for table in tables)
        logger.warning(
            "%s: %s not in %s: transcribed without columns", folder, counted(len(rest), "file"), names
        )
    for file in rest:
        yield file, 0, {"audio": file, "id": file.removeprefix(folder).lstrip("/")}, folder
