"""Tar archives as manifests: WebDataset's and NeMo's shards, whose members are recordings.

Only headers are read, and the texts beside the audio. Members are found again by their place in the archive.
"""

from __future__ import annotations

import json
import logging
import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from actors.audio.files.slices import Slice
from actors.audio.files.tar_members import TarError, TarMember, walk_members
from actors.audio.sources import AudioFile, open_audio
from actors.errors import UsageError
from actors.records import Row
from pipelines.manifests.columns import LANGUAGE_COLUMNS, Embedded
from pipelines.manifests.folders import is_audio, report_passed_over
from pipelines.storage import files

logger = logging.getLogger(__name__)

# Archives whose headers are read at the same time.
_CONCURRENCY = 8
# Bytes of a text beside the audio; larger ones are passed over.
_MAX_TEXT = 1 << 20
# Columns that a sample's JSON may fill in. The others may be about the recording that the sample was cut
# from.
_SAMPLE_COLUMNS = ("text", "context", *LANGUAGE_COLUMNS)
# NeMo and WebDataset name numbered files `audio__OP_0..127_CL_.tar` and `audio_{000..127}.tar`.
_NUMBERS = re.compile(r"(?:_OP_|[{(\[<])(\d+)\.\.(\d+)(?:_CL_|[})\]>])")
_NAMES = re.compile(r"\{([^{},]*(?:,[^{},]*)+)\}")
_MAX_NUMBERED = 1_000_000


def expand_numbers(uri: str) -> list[str]:
    """The addresses that a pattern with a range of numbers or a list of names (`{a,b}`) stands for.

    An address without one stands for itself.
    """
    if listed := _NAMES.search(uri):
        before, after = uri[: listed.start()], uri[listed.end() :]
        chosen = [f"{before}{name}{after}" for name in listed[1].split(",")]
        return [expanded for name in chosen for expanded in expand_numbers(name)]
    found = _NUMBERS.search(uri)
    if not found:
        return [uri]
    first, last = int(found[1]), int(found[2])
    if not first <= last <= first + _MAX_NUMBERED:
        raise UsageError(f"{uri}: the range {found[0]} is empty or too long; correct the pattern")
    width = len(found[1]) if found[1].startswith("0") else 0
    names = (
        f"{uri[: found.start()]}{number:0{width}d}{uri[found.end() :]}" for number in range(first, last + 1)
    )
    return [expanded for name in names for expanded in expand_numbers(name)]


def tar_rows(uris: Sequence[str], base: str) -> Iterator[tuple[str, int, Row, str]]:
    """The recordings in archives, in order: (archive, number of the member, columns, base).

    Args:
        uris: addresses of the archives; several are read at the same time.
        base: the folder above them; an id is `path below base#member`.

    Raises:
        UsageError: an archive is compressed, damaged or cannot be read.
    """
    rest = iter(uris)
    waiting: deque[tuple[str, Future[list[tuple[int, Row]]]]] = deque()
    with ThreadPoolExecutor(min(_CONCURRENCY, max(1, len(uris)))) as pool:
        while True:
            while len(waiting) < 2 * _CONCURRENCY and (uri := next(rest, None)) is not None:
                waiting.append((uri, pool.submit(_rows_of, uri, base)))
            if not waiting:
                return
            uri, future = waiting.popleft()
            for number, row in future.result():
                yield uri, number, row, base


def read_index(uri: str) -> list[TarMember]:
    """The members of an archive.

    Raises:
        UsageError: it is compressed, damaged, or on a server that cannot send a part of it.
        RowError: it cannot be found or read.
        RetryableError: storage_unavailable.
    """
    with open_audio(uri) as file:
        return _members(file)


def _members(file: AudioFile) -> list[TarMember]:
    if file.is_copy:
        raise UsageError(
            f"{file.uri}: its server does not support range requests, so that a member would cost a transfer "
            "of the whole archive; store it elsewhere"
        )
    try:
        return list(walk_members(file))
    except TarError as error:
        raise UsageError(f"{file.uri}: {error}") from None


def _rows_of(uri: str, base: str) -> list[tuple[int, Row]]:
    with open_audio(uri) as file:
        members = _members(file)
        audio = [(number, member) for number, member in enumerate(members, 1) if is_audio(member.name)]
        samples = {_key(member.name) for _, member in audio}
        texts = [
            member
            for member in members
            if member.name.lower().endswith((".json", ".txt"))
            and _key(member.name) in samples
            and member.end - member.start <= _MAX_TEXT
        ]
        columns: dict[str, Row] = {}
        for member in texts:
            columns.setdefault(_key(member.name), {}).update(_columns(file, member))
    used = [member.name for member in (*texts, *(member for _, member in audio))]
    report_passed_over(uri, [member.name for member in members], used)
    name = uri.removeprefix(base).lstrip("/")
    return [
        (
            number,
            {
                **columns.get(_key(member.name), {}),
                "audio": Embedded(
                    audio=f"{uri}#{member.name}",
                    location=str(Slice(uri, member.start, member.end)),
                    id=f"{name}#{member.name}",
                ),
            },
        )
        for number, member in audio
    ]


def _key(name: str) -> str:
    """What the files of a WebDataset sample have in common: the path up to the first dot of the name."""
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition('.')[0]}"


def _columns(file: AudioFile, member: TarMember) -> Row:
    """The columns that the text or the JSON beside the audio of a sample gives."""
    file.seek(member.start)
    data: bytes = file.read(member.end - member.start)
    try:
        if member.name.lower().endswith(".txt"):
            return {"text": data.decode().strip()}
        value: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{file.uri}: {member.name!r} is not readable ({error}); correct or remove it"
        ) from None
    if not isinstance(value, dict):
        return {"json": value}
    columns = {name: value[name] for name in _SAMPLE_COLUMNS if name in value}
    rest = {name: one for name, one in value.items() if name not in columns}
    return columns | ({"json": rest} if rest else {})


class NemoShards:
    """The archives that NeMo's tarred manifests mean by `shard_id`: `audio_3.tar` beside the manifest.

    Args:
        base: the folder of the manifest. The archives are there, or one level higher for
            `sharded_manifests/`.
    """

    def __init__(self, base: str) -> None:
        self._folders = (base, files.parent(base))
        self._archives: dict[str, str | None] = {}

    def with_archive(self, values: Row) -> Row:
        """The row with `audio_filepath` as a member of its archive, if the row has a `shard_id` with one."""
        name, shard = values.get("audio_filepath"), values.get("shard_id")
        if not isinstance(name, str) or not isinstance(shard, int | str) or not str(shard).isdigit():
            return values
        if str(shard) not in self._archives:
            candidates = [files.join(folder, f"audio_{shard}.tar") for folder in self._folders]
            self._archives[str(shard)] = next((uri for uri in candidates if files.exists(uri)), None)
        archive = self._archives[str(shard)]
        if archive is None:
            return values
        # The archive has no name of its own in the manifest, so the id is the member's, as elsewhere.
        audio = Embedded(audio=f"{archive}#{name}", location="", id=name)
        return {**values, "audio_filepath": audio}
