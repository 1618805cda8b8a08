"""`scriptorium speakers`: the speakers of a run, and with --link the same voice across its recordings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table
from rich.text import Text

from actors.errors import UsageError
from actors.records import Row
from actors.speakers.base import THRESHOLDS
from actors.speakers.clustering import MAX_UNITS, cluster, in_order
from pipelines.output import shards, speakers
from pipelines.storage import files

# OUT/voices.parquet: one row a speaker of a recording, with the number of its voice.
VOICES = pa.schema(
    [
        ("voice", pa.string()),  # V1, V2 ..., the longest speech first
        ("name", pa.string()),
        ("recording_id", pa.string()),
        ("speaker", pa.string()),
        ("duration", pa.float64()),
        ("similarity", pa.float64()),  # with the mean of the voice
    ]
)
# Recordings differ in microphones and rooms: their voices are linked only where they are this much more alike
# than two groups within a recording must be.
_MARGIN = 0.05
_ROWS_SHOWN = 50


@dataclass(frozen=True)
class Linked:
    """What was linked.

    Attributes:
        rows: of the table VOICES.
        voices: how many there are.
        without_voice: speakers that have no centroid, because channels were speakers.
    """

    rows: list[Row]
    voices: int
    without_voice: int


def link(out: str, threshold: float | None = None) -> Linked:
    """Group the speakers of all recordings by their voices.

    Two speakers of one recording are never linked: there they were told apart by more speech.

    Args:
        out: output directory of a run with speakers.
        threshold: similarity from which two voices are one; None: that of the model.

    Raises:
        UsageError: the run has no voices, or those of several models.
    """
    rows = speakers.read(out, ["recording_id", "speaker", "name", "duration", "model", "centroid"])
    with_voice = rows.filter(pc.is_valid(rows["centroid"])).sort_by(
        [("recording_id", "ascending"), ("speaker", "ascending")]
    )
    known: list[Row] = with_voice.drop_columns("centroid").to_pylist()
    if not known:
        raise UsageError(f"{out} has no voices: transcribe with --set speakers.backend=campplus")
    if len({row["model"] for row in known}) > 1:
        models = ", ".join(sorted({row["model"] for row in known}))
        raise UsageError(f"{out} has voices of several models ({models}), which cannot be compared")
    values = with_voice["centroid"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    centroids = values.reshape(len(known), -1).astype(np.float64)
    seconds = np.array([row["duration"] for row in known])
    least = threshold or THRESHOLDS.get(known[0]["model"].split()[0], 0.5) + _MARGIN
    labels = _separated(_grouped(centroids, seconds, least), known, centroids)
    total: dict[int, float] = defaultdict(float)
    for label, duration in zip(labels.tolist(), seconds.tolist(), strict=True):
        total[label] += duration
    longest_first = sorted(total, key=lambda label: (-total[label], label))
    order = {label: number for number, label in enumerate(longest_first, 1)}
    linked = []
    for label in order:
        members = np.flatnonzero(labels == label)
        mean = seconds[members] @ centroids[members]
        mean /= np.linalg.norm(mean)
        name = next((known[member]["name"] for member in members if known[member]["name"]), None)
        linked += [
            {
                "voice": f"V{order[label]}",
                "name": name,
                "recording_id": known[member]["recording_id"],
                "speaker": known[member]["speaker"],
                "duration": known[member]["duration"],
                "similarity": round(float(centroids[member] @ mean), 4),
            }
            for member in members
        ]
    return Linked(linked, len(order), rows.num_rows - len(known))


def write(out: str, linked: Linked) -> str:
    """Write OUT/voices.parquet; returns its address."""
    uri = files.join(out, "voices.parquet")
    files.write_atomic(uri, shards.parquet_bytes(pa.Table.from_pylist(linked.rows, schema=VOICES)))
    return uri


def table(rows: Sequence[Row]) -> Table:
    """Speakers or voices as a table for people; the first ones."""
    texts = ("voice", "recording_id", "speaker", "name")
    shown = [name for name in (*texts, "duration", "quality", "similarity") if rows and name in rows[0]]
    made = Table(caption=f"{len(rows) - _ROWS_SHOWN:,} more" if len(rows) > _ROWS_SHOWN else None)
    for name in shown:
        made.add_column(name, justify="left" if name in texts else "right")
    for row in rows[:_ROWS_SHOWN]:
        made.add_row(*(Text(_cell(row[name])) for name in shown))
    return made


def _grouped(centroids: np.ndarray, seconds: np.ndarray, threshold: float) -> np.ndarray:
    """The group of each voice. Of more than MAX_UNITS each joins the most similar one so far, or founds one.

    The voices with most speech come first. Memory is that of the groups.
    """
    if len(centroids) <= MAX_UNITS:
        return cluster(centroids, seconds, threshold)
    labels = np.empty(len(centroids), int)
    sums = np.empty_like(centroids)
    means = np.empty_like(centroids)
    count = 0
    for voice in np.argsort(-seconds, kind="stable").tolist():
        alike = means[:count] @ centroids[voice]
        best = int(alike.argmax()) if count else 0
        if not count or alike[best] < threshold:
            best, count = count, count + 1
            sums[best] = 0.0
        sums[best] += seconds[voice] * centroids[voice]
        means[best] = sums[best] / max(1e-12, float(np.linalg.norm(sums[best])))
        labels[voice] = best
    return labels


def _separated(labels: np.ndarray, rows: Sequence[Row], centroids: np.ndarray) -> np.ndarray:
    """Labels in which no two speakers of one recording have the same: the less alike one gets its own."""
    labels = labels.copy()
    following = int(labels.max()) + 1
    groups: dict[tuple[int, str], list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        groups[int(labels[number]), row["recording_id"]].append(number)
    means = {label: centroids[labels == label].mean(0) for label in np.unique(labels).tolist()}
    for (label, _), members in sorted(groups.items()):
        best = max(members, key=lambda member: (float(centroids[member] @ means[label]), -member))
        for member in members:
            if member != best:
                labels[member] = following
                following += 1
    return in_order(labels)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    return "-" if value is None else str(value)
