"""How fast the runs on an output directory went over time, and which stage held them up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.storage import files

BINS = 60  # points of a curve, at most
# A stage that works this share of the time is what the run waits for.
BUSY = 0.8
_COLUMNS = ["run_id", "created_at", "decoded_start", "decoded_end"]


def of_runs(out: str, runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The throughput of runs that committed shards, by run id.

    Returns:
        For each run `audio_seconds` that it committed, `wall_seconds` (None: not known), `rtfx`, `finished`:
        points `[seconds since the start, audio seconds a second]` by the times of commits, `passes`: see
        `of_pass`, each with its `begin` in seconds after the start of the run, and `bottleneck`: the stage
        that was busy the longest, if that was measured.
    """
    committed = _committed(out)
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        records = run.get("throughput") or []
        begins = [_difference(run["started_at"], record["started_at"]) for record in records]
        passes = [{"begin": begin} | of_pass(one) for begin, one in zip(begins, records, strict=True)]
        times, seconds = committed.get(run["run_id"], (np.empty(0), np.empty(0)))
        if not len(times) and not passes:
            continue
        started = _seconds_of(run["started_at"])
        ended = _seconds_of(run.get("finished_at")) or (float(times.max()) if len(times) else None)
        wall = ended - started if started and ended and ended > started else None
        audio = float(seconds.sum())
        found[run["run_id"]] = {
            "audio_seconds": round(audio, 1),
            "wall_seconds": wall and round(wall, 1),
            "rtfx": round(audio / wall, 2) if wall else None,
            "finished": curve(times - started, seconds, wall) if started and wall else [],
            "passes": passes,
            "bottleneck": bottleneck(passes),
        }
    return found


def of_pass(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the points of a pass say.

    Args:
        record: of run.json, see `pipelines.supervision.throughput`.

    Returns:
        `seconds` that the pass took, `gpus`, `cores`, and `stages`: by name `audio_seconds`, `busy_seconds`,
        `slots`, `utilisation` (the share of time that its slots worked; None: their number is not known), and
        `speed`: points `[seconds since the start, audio seconds a second]`.
    """
    points = record["points"]
    end = points[-1]["at"] if points else 0.0
    stages: dict[str, Any] = {}
    for name, (audio, busy) in (points[-1]["stages"] if points else {}).items():
        slots = record["slots"].get(name)
        # Calls that overlap in a slot may add up to more than its time.
        share = min(1.0, busy / (end * slots)) if slots and end else None
        stages[name] = {
            "audio_seconds": audio,
            "busy_seconds": busy,
            "slots": slots,
            "utilisation": None if share is None else round(share, 3),
            "speed": _speeds(points, name),
        }
    return {"seconds": end, "gpus": record["gpus"], "cores": record["cores"], "stages": stages}


def bottleneck(passes: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The stage that worked for the largest share of the time of passes, weighted by their length.

    Returns:
        `stage`, `utilisation`, and `is_busy`: whether that is enough to say that the run waited for it. None
        if nothing was measured.
    """
    total, shares = 0.0, dict[str, float]()
    for one in passes:
        total += one["seconds"]
        for name, stage in one["stages"].items():
            shares[name] = shares.get(name, 0.0) + (stage["utilisation"] or 0.0) * one["seconds"]
    if not total or not shares:
        return None
    name = max(shares, key=lambda name: shares[name])
    share = round(shares[name] / total, 3)
    return {"stage": name, "utilisation": share, "is_busy": share >= BUSY}


def curve(times: np.ndarray, seconds: np.ndarray, wall: float) -> list[list[float]]:
    """Speed over time from moments of commits.

    Args:
        times: seconds from the start of the run.
        seconds: of audio, committed at these times.
        wall: seconds that the run took.

    Returns:
        Points `[middle of a bin, audio seconds a second]`; few bins where there are few commits.
    """
    bins = int(min(BINS, max(1, len(times) // 2)))
    sums, edges = np.histogram(times.clip(0, wall), bins=bins, range=(0.0, wall), weights=seconds)
    width = wall / bins
    return [
        [round(float(edge + width / 2), 1), round(float(total / width), 2)]
        for edge, total in zip(edges, sums, strict=False)
    ]


def _speeds(points: Sequence[Mapping[str, Any]], stage: str) -> list[list[float]]:
    found: list[list[float]] = []
    before_at, before = 0.0, 0.0
    # The last point of a pass may come right behind the one before it, and a speed over so short a time says
    # nothing.
    least = 0.5 * float(np.median(np.diff([0.0, *(point["at"] for point in points)])))
    kept = [
        point
        for point, following in zip(points, [*points[1:], None], strict=True)
        if (following is None or following["at"] - point["at"] >= least)
    ]
    for point in kept:
        done = point["stages"].get(stage, [0.0, 0.0])[0]
        if point["at"] <= before_at:
            continue
        speed = (done - before) / (point["at"] - before_at)
        found.append([round((point["at"] + before_at) / 2, 1), round(speed, 2)])
        before_at, before = point["at"], done
    return found


def _committed(out: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Times and audio seconds of committed shards by run: 16 bytes for each shard."""
    parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for table in files.iter_tables(files.join(out, "shards"), _COLUMNS):
        if not {*_COLUMNS} <= {*table.column_names}:
            continue
        length = pc.subtract(table["decoded_end"], table["decoded_start"])
        times = table["created_at"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
        whole = pa.table({"run": table["run_id"], "at": times, "seconds": length}).drop_null()
        for name in pc.unique(whole["run"]).to_pylist():
            own = whole.filter(pc.equal(whole["run"], name))
            pair = own["at"].to_numpy() / 1e6, own["seconds"].to_numpy().astype(float)
            parts.setdefault(name, []).append(pair)
    return {
        name: (np.concatenate([one[0] for one in pairs]), np.concatenate([one[1] for one in pairs]))
        for name, pairs in parts.items()
    }


def _difference(earlier: str, later: str) -> float:
    return max(0.0, (_seconds_of(later) or 0.0) - (_seconds_of(earlier) or 0.0))


def _seconds_of(moment: str | None) -> float | None:
    return datetime.fromisoformat(moment).timestamp() if moment else None
