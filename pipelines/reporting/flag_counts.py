"""How many segments have each flag, and how much audio these are. Neither text nor words are read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from actors.guards.text import SUSPECT_TEXT_FLAGS
from actors.guards.words import SUSPECT_WORD_FLAGS
from pipelines.storage import files

# Flags of a segment whose text, or whose word times, are probably wrong.
SUSPECT_FLAGS = SUSPECT_TEXT_FLAGS | SUSPECT_WORD_FLAGS
# The fields of segments that are read.
_FIELDS = [f"segments.list.element.{name}" for name in ("start", "end", "flags")]


@dataclass
class FlagCounts:
    """Segments and seconds of audio: all of them, those that are suspect, and by flag."""

    segments: int = 0
    seconds: float = 0.0
    suspect_segments: int = 0
    suspect_seconds: float = 0.0
    by_flag: dict[str, list[float]] = field(default_factory=dict)  # flag: segments, seconds

    def add(self, segments: pa.Array) -> None:
        """Count segments.

        Args:
            segments: structs with `start`, `end` and `flags`.
        """
        durations = pc.subtract(segments.field("end"), segments.field("start"))
        self.segments += len(segments)
        self.seconds += pc.sum(durations).as_py() or 0.0
        flags = segments.field("flags")
        names = pc.replace_substring_regex(pc.list_flatten(flags), pattern=":.*", replacement="")
        parents = pc.list_parent_indices(flags)
        # A flag counts once for a segment.
        flagged = pa.table({"flag": names, "segment": parents}).group_by(["flag", "segment"]).aggregate([])
        flagged = flagged.append_column("seconds", durations.take(flagged["segment"].combine_chunks()))
        sums = flagged.group_by("flag").aggregate([("seconds", "count"), ("seconds", "sum")])
        for row in sums.to_pylist():
            count = self.by_flag.setdefault(row["flag"], [0, 0.0])
            count[0] += row["seconds_count"]
            count[1] += row["seconds_sum"] or 0.0
        is_suspect = pc.is_in(flagged["flag"], pa.array(sorted(SUSPECT_FLAGS)))
        suspects = pc.unique(flagged.filter(is_suspect)["segment"])
        self.suspect_segments += len(suspects)
        self.suspect_seconds += pc.sum(durations.take(suspects)).as_py() or 0.0

    def as_record(self) -> dict[str, Any]:
        """For JSON: the flags with the most audio first."""
        ordered = sorted(self.by_flag.items(), key=lambda item: (-item[1][1], item[0]))
        return {
            "segments": self.segments,
            "seconds": round(self.seconds, 3),
            "suspect": {"segments": self.suspect_segments, "seconds": round(self.suspect_seconds, 3)},
            "by_flag": {
                flag: {"segments": int(count), "seconds": round(seconds, 3), "suspect": flag in SUSPECT_FLAGS}
                for flag, (count, seconds) in ordered
            },
        }


def of_shards(folder: str) -> dict[str, Any]:
    """The counts of committed shards, during a run; of a shard that was done again the latest attempt counts.

    Args:
        folder: of the shards.
    """
    keys = ["shard_id", "attempt"]
    tables = [*files.iter_tables(folder, [*keys, *_FIELDS])]
    latest: dict[str, tuple[int, int, int]] = {}
    for number, table in enumerate(tables):
        for row, key in enumerate(table.select(keys).to_pylist()):
            place = (key["attempt"] or 0, number, row)
            latest[key["shard_id"]] = max(place, latest.get(key["shard_id"], place))
    rows: list[list[int]] = [[] for _ in tables]
    for _, number, row in latest.values():
        rows[number].append(row)
    counts = FlagCounts()
    for table, chosen in zip(tables, rows, strict=True):
        _add(counts, table if len(chosen) == table.num_rows else table.take(sorted(chosen)))
    return counts.as_record()


def _add(counts: FlagCounts, table: pa.Table) -> None:
    for chunk in table["segments"].chunks:
        segments = chunk.flatten()
        if len(segments):
            counts.add(segments)
