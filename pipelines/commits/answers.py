"""OUT/answers: what models have answered for tables that take long and are not committed yet.

One file for each such table and stage, named after the settings and one of the table's shards, and removed
when that shard is committed. Fast engines write none. The content is compressed JSON: answers by key.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pipelines import __version__
from pipelines.config import RunConfig
from pipelines.storage import files

log = logging.getLogger(__name__)

SUFFIX = ".json.z"


def folder(out: str) -> str:
    """The folder with the answers."""
    return files.join(out, "answers")


@dataclass(frozen=True)
class AnswerFolder:
    """The answers of a run for one stage.

    Attributes:
        out: the output directory.
        settings: digest of what answers depend on beside their requests.
    """

    out: str
    settings: str

    @classmethod
    def of(cls, out: str, config: RunConfig) -> AnswerFolder:
        """The folder of a run with these settings."""
        return cls(out, _short(f"{config.hash()} {__version__}"))

    def prune(self, todo: Iterable[str]) -> None:
        """Remove what belongs to none of the shards to do, or to other settings.

        Args:
            todo: ids of the shards without a committed row.
        """
        found = _files(self.out)
        if not found:
            return
        wanted = {_short(shard) for shard in todo}
        for uri in found:
            settings, _, table = _parts(uri)
            if settings != self.settings or table not in wanted:
                files.remove(uri)

    def open(self, stage: str) -> StoredAnswers:
        """The answers of one stage, with what earlier processes have left."""
        return StoredAnswers(self, stage)


class StoredAnswers:
    """The answers of one stage. Errors of the store cost nothing but the work that could have been saved.

    Args:
        of: where they are.
        stage: a word.
    """

    def __init__(self, of: AnswerFolder, stage: str) -> None:
        self._of, self._stage = of, stage
        self._left: dict[str, Any] = {}
        for uri in _files(of.out):
            settings, name, _ = _parts(uri)
            if (settings, name) == (of.settings, stage):
                # It may be committed and removed meanwhile, or damaged by a power failure.
                with suppress(Exception):
                    self._left |= json.loads(zlib.decompress(files.read_bytes(uri)))

    @property
    def is_empty(self) -> bool:
        """See `actors.answers.portions.AnswerStore`."""
        return not self._left

    def find(self, key: str) -> Any | None:
        """See `actors.answers.portions.AnswerStore`."""
        return self._left.get(key)

    def keep(self, table: str, answers: Mapping[str, Any]) -> None:
        """See `actors.answers.portions.AnswerStore`."""
        name = f"{self._of.settings}-{self._stage}-{_short(table)}{SUFFIX}"
        data = zlib.compress(json.dumps(answers).encode(), 1)
        try:
            files.write_atomic(files.join(folder(self._of.out), name), data, sync=False, private=True)
        except Exception as error:
            log.warning("answers are not kept: %s", error)


def remove_committed(out: str, ids: Iterable[str]) -> None:
    """Remove the answers of tables whose shards are committed.

    Args:
        out: the output directory.
        ids: of shards that are committed now.
    """
    found = _files(out)
    committed = {_short(shard) for shard in ids} if found else set()
    for uri in found:
        if _parts(uri)[2] in committed:
            files.remove(uri)


def _files(out: str) -> list[str]:
    return [*files.list(folder(out), SUFFIX, recursive=False)]


def _parts(uri: str) -> tuple[str, str, str]:
    """Settings, stage and table of a file; empty for one that is not ours."""
    parts = files.name_of(uri).removesuffix(SUFFIX).split("-")
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else ("", "", "")


def _short(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
