"""Which recordings a training set takes, in which part and in which shard: before any audio is read.

Constant work for each recording, and a few dozen bytes of memory; the texts are not kept.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.records import Row
from pipelines.export.datasets.samples import SampleOptions, samples_of
from pipelines.export.datasets.splits import split, within_hours
from pipelines.export.documents.facts import metadata_of
from pipelines.export.parallel import LARGE_BYTES, run_tasks, workers_for
from pipelines.output.transcript_filters import Filters
from pipelines.output.transcript_reader import Part, divide, find_parts, iter_transcripts

# The part of a training set that is not divided.
WHOLE = "train"
_ROWS_PER_TASK = 1000


@dataclass(frozen=True)
class PlanOptions:
    """How recordings are chosen and divided.

    Attributes:
        shares: of the hours by part; empty: one part, WHOLE.
        split_by: column of the metadata whose values are not in two parts; None: none.
        max_hours: for each value of `per`; None: no limit.
        per: language | speaker | a column of the metadata; None: all together.
        seed: of everything random.
        shard_hours: of audio in a shard.
    """

    shares: Mapping[str, float] = field(default_factory=dict)
    split_by: str | None = None
    max_hours: float | None = None
    per: str | None = None
    seed: int = 0
    shard_hours: float = 1.0


@dataclass(frozen=True)
class Shard:
    """Recordings whose samples are written together.

    Attributes:
        split: the part of the training set.
        number: within the split, from 0.
        rows: for each part of the transcripts, the ordinals of the rows among those that pass the filters.
    """

    split: str
    number: int
    rows: tuple[tuple[Part, tuple[int, ...]], ...]


@dataclass
class _Found:
    """What is known about the recordings of one part that have samples."""

    ordinals: array[int]
    seconds: array[float]
    samples: array[int]
    ids: list[str]
    keys: list[tuple[Hashable, ...]]
    values: list[Hashable]
    skipped: Counter[str]
    rows: int


class _Scan:
    """Looks at one part; a class, so that it can be pickled."""

    def __init__(self, filters: Filters, options: SampleOptions, plan: PlanOptions) -> None:
        self._filters, self._options, self._plan = filters, options, plan

    def __call__(self, part: Part) -> tuple[Part, _Found]:
        found = _Found(array("q"), array("d"), array("q"), [], [], [], Counter(), 0)
        for ordinal, row in enumerate(iter_transcripts([part], self._filters)):
            found.rows += 1
            samples = list(samples_of(row, self._options, found.skipped))
            if samples:
                found.ordinals.append(ordinal)
                found.seconds.append(sum(sample.duration for sample in samples))
                found.samples.append(len(samples))
                found.ids.append(row["recording_id"])
                found.keys.append(_group_keys(row, self._plan))
                found.values.append(_value_of(row, self._plan.per))
        return part, found


def plan_shards(
    out: str,
    filters: Filters,
    options: SampleOptions,
    plan: PlanOptions,
    parallel: int | None = None,
    address: str | None = None,
) -> tuple[list[Shard], Counter[str]]:
    """Divide the transcripts of a run into shards.

    Args:
        out: the output directory.
        filters: which transcripts.
        options: what a sample is.
        plan: how they are divided.
        parallel: processes; None: decided by size.
        address: of a Ray cluster.

    Returns:
        Shards in the order of their names, and counts: `transcripts`, `planned_samples`, `planned_seconds`,
        and `skipped_...` by reason.
    """
    parts = find_parts(out)
    counts = Counter(transcripts=sum(part.rows for part in parts))
    tasks = divide(parts, _ROWS_PER_TASK)
    workers = workers_for(sum(part.bytes for part in parts), LARGE_BYTES, len(tasks), parallel)
    scanned = dict(run_tasks(_Scan(filters, options, plan), tasks, workers, address))
    places: list[tuple[Part, int]] = []
    seconds: list[float] = []
    samples: list[int] = []
    ids: list[str] = []
    keys: list[tuple[Hashable, ...]] = []
    values: list[Hashable] = []
    for part in tasks:  # in the order of the tables, whichever ended first
        found = scanned[part]
        places += [(part, ordinal) for ordinal in found.ordinals]
        seconds += found.seconds
        samples += found.samples
        ids += found.ids
        keys += found.keys
        values += found.values
        counts.update({f"skipped_{reason}": count for reason, count in found.skipped.items()})
    kept = [True] * len(ids)
    if plan.max_hours is not None:
        kept = within_hours(ids, seconds, values, plan.max_hours, plan.seed)
        counts["skipped_balance"] += sum(n for n, keep in zip(samples, kept, strict=True) if not keep)
    chosen = [index for index, keep in enumerate(kept) if keep]
    splits = [WHOLE] * len(chosen)
    if plan.shares:
        splits = split(
            [ids[index] for index in chosen],
            [seconds[index] for index in chosen],
            [keys[index] for index in chosen],
            plan.shares,
            plan.seed,
        )
    counts["planned_samples"] = sum(samples[index] for index in chosen)
    counts.update({"planned_seconds": sum(seconds[index] for index in chosen)})
    shards: list[Shard] = []
    for name in dict.fromkeys([*plan.shares, *splits]):
        members = [index for index, of in zip(chosen, splits, strict=True) if of == name]
        shards += _shards(
            name, [places[index] for index in members], [seconds[index] for index in members], plan
        )
    return shards, counts


def _shards(
    name: str, places: Sequence[tuple[Part, int]], seconds: Sequence[float], plan: PlanOptions
) -> list[Shard]:
    made: list[Shard] = []
    rows: dict[Part, list[int]] = {}
    used = 0.0
    for (part, ordinal), length in zip(places, seconds, strict=True):
        if rows and used + length > plan.shard_hours * 3600:
            made.append(_shard(name, len(made), rows))
            rows, used = {}, 0.0
        rows.setdefault(part, []).append(ordinal)
        used += length
    if rows:
        made.append(_shard(name, len(made), rows))
    return made


def _shard(name: str, number: int, rows: Mapping[Part, list[int]]) -> Shard:
    return Shard(name, number, tuple((part, tuple(ordinals)) for part, ordinals in rows.items()))


def _group_keys(row: Row, plan: PlanOptions) -> tuple[Hashable, ...]:
    """What must not be in two parts: speakers that are known by name, and the value of `split_by`."""
    if not plan.shares:
        return ()
    keys: list[Hashable] = [
        ("speaker", entry["name"]) for entry in row.get("speakers") or () if entry["name"]
    ]
    # Windows of one file are one recording to a listener.
    keys.append(("audio", row["audio"]))
    if plan.split_by:
        value = metadata_of(row).get(plan.split_by)
        if value is not None:
            keys.append((plan.split_by, str(value)))
    return tuple(keys)


def _value_of(row: Row, per: str | None) -> Hashable:
    if per is None:
        return None
    if per == "language":
        return row["language"]
    if per == "speaker":
        speakers: list[Any] = sorted(row.get("speakers") or (), key=lambda entry: -(entry["duration"] or 0.0))
        return (speakers[0]["name"] or (row["recording_id"], speakers[0]["speaker"])) if speakers else None
    value = metadata_of(row).get(per)
    return None if value is None else str(value)
