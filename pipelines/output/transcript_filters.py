"""Which transcripts a command takes: by language, status, confidence, flags, and any SQL over the columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from actors.errors import UsageError
from actors.text.languages import CODES, normalize_language
from pipelines.corrections.overlay import Corrections
from pipelines.schema import FLAGS, TRANSCRIPT

STATUSES = ("ok", "partial", "no_speech")


@dataclass(frozen=True)
class Filters:
    """Conditions that a transcript must meet, all of them.

    Attributes:
        languages: ISO codes; empty: any. The recording's dominant language must be one of them.
        statuses: of STATUSES; empty: any.
        min_confidence: of the recording: see `recording_confidence`. Recordings without one do not pass.
        without_flags: flags that neither the recording nor a segment may have; `channel` also stands for
            `channel:0`.
        where: SQL over the columns of `pipelines.schema.TRANSCRIPT`, in DuckDB's dialect.
        recording_ids: of these recordings only; None: of all.
        corrections: what people corrected; the conditions see transcripts with it.
    """

    languages: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    min_confidence: float | None = None
    without_flags: tuple[str, ...] = ()
    where: str | None = None
    recording_ids: frozenset[str] | None = None
    corrections: Corrections = field(default_factory=Corrections)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the conditions look at."""
        if self.where:
            return tuple(TRANSCRIPT.names)
        needed = {
            "recording_id": self.recording_ids is not None,
            "language": bool(self.languages),
            "status": bool(self.statuses),
            "segments": self.min_confidence is not None or bool(self.without_flags),
            "flags": bool(self.without_flags),
        }
        return tuple(name for name, is_needed in needed.items() if is_needed)

    def apply(self, table: pa.Table) -> pa.Table:
        """The rows of a table that meet all conditions, in their order.

        Raises:
            UsageError: the SQL is wrong.
        """
        if self.recording_ids is not None:
            wanted = pa.array(sorted(self.recording_ids), pa.string())
            table = table.filter(pc.is_in(table["recording_id"], wanted))
        if self.languages:
            table = table.filter(pc.is_in(table["language"], pa.array(self.languages)))
        if self.statuses:
            table = table.filter(pc.is_in(table["status"], pa.array(self.statuses)))
        if self.without_flags and table.num_rows:
            table = table.filter(pa.array(~self._has_flags(table)))
        if self.min_confidence is not None and table.num_rows:
            known = np.array(
                [value is not None and value >= self.min_confidence for value in confidences(table)]
            )
            table = table.filter(pa.array(known))
        if self.where and table.num_rows:
            table = self._sql.filter(table)
        return table

    def check(self) -> None:
        """Try the SQL on an empty table, so that what is wrong with it is said at once.

        Raises:
            UsageError: the SQL is wrong, or DuckDB is not installed.
        """
        if self.where:
            self._sql.filter(TRANSCRIPT.empty_table())

    def __getstate__(self) -> dict[str, Any]:
        # The database is opened again in each process.
        return {name: value for name, value in self.__dict__.items() if name != "_sql"}

    @cached_property
    def _sql(self) -> _Where:
        return _Where(self.where or "true")

    def _has_flags(self, table: pa.Table) -> np.ndarray:
        flags = table["flags"].combine_chunks()
        rows = [np.asarray(pc.list_parent_indices(flags))]
        names = [flags.flatten()]
        segments = table["segments"].combine_chunks()
        parents = np.asarray(pc.list_parent_indices(segments))
        of_segments = segments.flatten().field("flags")
        rows.append(parents[np.asarray(pc.list_parent_indices(of_segments))])
        names.append(of_segments.flatten())
        found = np.zeros(table.num_rows, bool)
        for owners, flag in zip(rows, names, strict=True):
            kind = pc.list_element(pc.split_pattern(flag, ":", max_splits=1), 0) if len(flag) else flag
            hit = pc.or_(
                pc.is_in(flag, pa.array(self.without_flags)), pc.is_in(kind, pa.array(self.without_flags))
            )
            found[owners[np.asarray(pc.fill_null(hit, False))]] = True
        return found


class _Where:
    """A condition in SQL, on tables in memory; it sees no files and no network."""

    def __init__(self, condition: str) -> None:
        try:
            import duckdb
        except ModuleNotFoundError:
            raise UsageError("--where needs DuckDB: pip install 'scriptorium[export]'") from None
        self._error = duckdb.Error
        self._condition = condition
        self._database = duckdb.connect(":memory:")
        self._database.execute("SET threads = 1")
        self._database.execute("SET enable_external_access = false")
        self._database.execute("SET lock_configuration = true")

    def filter(self, table: pa.Table) -> pa.Table:
        """The rows for which the condition is true."""
        numbered = table.append_column("__row", pa.array(np.arange(table.num_rows)))
        try:
            self._database.register("transcripts", numbered)
            found = self._database.execute(
                f"SELECT __row FROM transcripts WHERE (\n{self._condition}\n) ORDER BY __row"
            ).fetchall()
        except self._error as error:
            message = " ".join(str(error).split())
            raise UsageError(f"--where {self._condition!r}: {message[:500]}") from None
        return table.take(pa.array([row for (row,) in found], pa.int64()))


def filters_of(
    languages: Sequence[str] = (),
    statuses: Sequence[str] = (),
    min_confidence: float | None = None,
    without_flags: Sequence[str] = (),
    where: str | None = None,
) -> Filters:
    """Filters from what people type: languages by name or code, flags by the name in docs/output.md.

    Raises:
        UsageError: a language, a status or a flag does not exist.
    """
    codes = [CODES[name] for name in map(normalize_language, languages) if name]
    for status in statuses:
        if status not in STATUSES:
            raise UsageError(f"there is no status {status!r}: give one of {', '.join(STATUSES)}")
    known = {name.partition(":")[0] for group in FLAGS.values() for name in group}
    for flag in without_flags:
        if flag.partition(":")[0] not in known:
            raise UsageError(f"there is no flag {flag!r}: docs/output.md lists the flags")
    if min_confidence is not None and not 0 <= min_confidence <= 1:
        raise UsageError(f"--min-confidence is a probability from 0 to 1, not {min_confidence:g}")
    return Filters(tuple(codes), tuple(statuses), min_confidence, tuple(without_flags), where)


def confidences(table: pa.Table) -> list[float | None]:
    """`recording_confidence` of each row of a table with the column `segments`."""
    return [recording_confidence(segments or []) for segments in table["segments"].to_pylist()]


def recording_confidence(segments: Sequence[Any]) -> float | None:
    """The mean confidence of the segments with text, weighted by their durations; None where one has none."""
    spoken = [segment for segment in segments if segment["text"]]
    if not spoken or any(segment["confidence"] is None for segment in spoken):
        return None
    weights = [max(segment["end"] - segment["start"], 0.01) for segment in spoken]
    total = sum(weight * segment["confidence"] for weight, segment in zip(weights, spoken, strict=True))
    return float(total / sum(weights))
