"""Counts what is committed during a pass, by the files in OUT/checkpoint, which a resume reads, too."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.commits import answers
from pipelines.output import plans, shards
from pipelines.storage import files
from pipelines.storage.parquet import read_all

INTERVAL = 5.0  # seconds between two looks, unless looking takes long
# A look takes at most this share of the time: the folder of a huge job on an object store has many files.
MAX_SHARE = 0.05


class Committed(NamedTuple):
    """What a pass has committed: whole recordings, and seconds of audio, those of other recordings too."""

    recordings: int = 0
    seconds: float = 0.0


NOTHING = Committed()


class CommitCounter:
    """Counts the committed shards of a pass. Each file of OUT/checkpoint is read once.

    Answers that were kept until a table is committed are removed when it is.

    A shard counts only when its row and its id are stored, so the count is never more than what a killed run
    leaves behind.

    Args:
        out: the output directory.
        todo: PLAN rows of the shards that the pass has to do, as they were left before it.
        clock: seconds.
    """

    def __init__(self, out: str, todo: pa.Table, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._folder, self._clock = out, shards.checkpoint_folder(out), clock
        self._ids = todo[shards.ID].combine_chunks()
        self._seconds = plans.seconds(todo)
        recordings = todo["recording_id"].combine_chunks().dictionary_encode()
        self._recording = recordings.indices.to_numpy()
        self._left = np.bincount(self._recording, minlength=len(recordings.dictionary))
        self._known = {files.name_of(uri) for uri in self._files()}
        self._done = NOTHING
        self._next = 0.0

    def read(self, last: bool = False) -> Committed:
        """What is committed by now, or was a few seconds ago.

        Args:
            last: look in any case.

        Raises:
            StorageError: the folder cannot be read.
        """
        began = self._clock()
        if began >= self._next or last:
            self._look()
            took = self._clock() - began
            self._next = began + took + max(INTERVAL, took / MAX_SHARE)
        return self._done

    def _look(self) -> None:
        new = [uri for uri in self._files() if files.name_of(uri) not in self._known]
        ids = _joined([table[shards.ID] for table in read_all(new, [shards.ID])])
        # Ids of other plans, such as those of shards that were given up, are not in `todo`.
        rows = pc.drop_null(pc.index_in(ids, value_set=self._ids)).to_numpy()
        self._known.update(files.name_of(uri) for uri in new)
        np.subtract.at(self._left, self._recording[rows], 1)
        finished = np.unique(self._recording[rows])
        self._done = Committed(
            self._done.recordings + int((self._left[finished] == 0).sum()),
            self._done.seconds + float(self._seconds[rows].sum()),
        )
        if len(ids):
            answers.remove_committed(self._out, ids.to_pylist())

    def _files(self) -> list[str]:
        found = files.list(self._folder, ".parquet", recursive=False)
        return [uri for uri in found if not uri.endswith(shards.PENDING)]


def _joined(columns: list[pa.ChunkedArray]) -> pa.Array:
    chunks = [chunk for column in columns for chunk in column.chunks]
    return pa.concat_arrays(chunks) if chunks else pa.array([], pa.string())
