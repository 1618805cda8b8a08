"""Which recording a file is about: by the id in it, or by its name as `export` gives it. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from actors.records import Row
from pipelines.export import names
from pipelines.export.documents.formats import DOCUMENTS

_AMBIGUOUS = ""


class Names:
    """The recordings of a run by the names of their exported files.

    Args:
        rows: `recording_id` and `audio` of all recordings.
        forms: formats of the files.
    """

    def __init__(self, rows: Iterable[Row], forms: Iterable[str]) -> None:
        known = [(row["recording_id"], row["audio"] or "") for row in rows]
        self._ids = frozenset(name for name, _ in known)
        # White space of an id is not kept in a comment of a file.
        self._spelled = {" ".join(name.split()): name for name in self._ids}
        collisions = names.find_collisions(name for name, _ in known)
        self._paths: dict[str, str] = {}
        for form in forms:
            suffix = DOCUMENTS[form].suffix
            for recording_id, audio in known:
                path = names.file_name(recording_id, suffix, collisions)
                beside = os.path.splitext(audio.removeprefix("file://"))[0].lstrip("/") + suffix
                for whole in (path, beside):
                    for tail in _tails(whole):
                        before = self._paths.setdefault(tail, recording_id)
                        if before != recording_id:
                            self._paths[tail] = _AMBIGUOUS

    def find(self, stated: str | None, path: str) -> str | None:
        """The id of a document's recording.

        Args:
            stated: in the file; None: nothing is.
            path: of the file.

        Returns:
            None: there is no such recording, or there are several.
        """
        if stated is not None:
            return stated if stated in self._ids else self._spelled.get(" ".join(stated.split()))
        for tail in _tails(path.replace(os.sep, "/").lstrip("/")):
            found = self._paths.get(tail.casefold())
            if found:
                return found
        return None


def _tails(path: str) -> Iterator[str]:
    """A path without its first folders, the longest first, in lower case: some systems change the case."""
    rest = path.casefold()
    while rest:
        yield rest
        rest = rest.partition("/")[2]
