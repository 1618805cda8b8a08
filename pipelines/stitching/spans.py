"""Which spans of a recording its shards cover, and which are missing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from actors.records import Row, SegmentRow

_SEAM_TOLERANCE = 0.001  # seconds between the end of a shard and the start of the next one
_MAX_GAP = 0.1  # seconds; a longer gap at a seam counts as lost
_HEADER_TOLERANCE = 1.0  # seconds between the header's duration and the decoded one
_TIME_DIGITS = 3  # decimals of seconds


def window_start(rows: Sequence[Row]) -> float:
    """The second of the file at which the recording starts: not 0 only if it is a window of the file."""
    return (rows[0].get("window") or {}).get("start") or 0.0


def recording_end(rows: Sequence[Row]) -> float:
    """The second of the file at which the decoded audio ends, or by header and plan if it was not decoded."""
    start, last = window_start(rows), rows[-1]
    known = [
        row["decoded_end"] for row in rows if row["status"] != "error" and row.get("decoded_end") is not None
    ]
    header = last.get("duration")
    if last["status"] == "error":
        known += [
            value
            for value in (None if header is None else start + header, last.get("end"), last.get("start"))
            if value is not None
        ]
    return round(max(known, default=start + (rows[0].get("duration") or 0.0)), 6)


def silent_seconds(rows: Sequence[Row]) -> float | None:
    """The seconds that are in no segment; None where a decoded shard does not say so, as in version 0.1.0."""
    seconds = [row.get("silence") for row in rows if row["status"] != "error"]
    known = [value for value in seconds if value is not None]
    return round(sum(known), _TIME_DIGITS) if len(known) == len(seconds) else None


def consistency_flags(rows: Sequence[Row], end: float) -> dict[str, bool]:
    """Flags for shards that do not fit together, or not to the header."""
    header, window = rows[0].get("duration"), rows[0].get("window") or {}
    return {
        # The length of a window with a known end is not a claim of the header.
        "header_duration_wrong": rows[-1]["status"] != "error"
        and header is not None
        and window.get("end") is None
        and abs(window_start(rows) + header - end) > _HEADER_TOLERANCE,
        "seam_mismatch": any(abs(start - end) > _SEAM_TOLERANCE for end, start in _seams(rows)),
    }


def _seams(rows: Sequence[Row]) -> list[tuple[float, float]]:
    """The end of each decoded shard and the start of the next one, where both were decoded."""
    return [
        (left["decoded_end"], right["decoded_start"])
        for left, right in pairwise(rows)
        if right["index"] == left["index"] + 1
        and "error" not in (left["status"], right["status"])
        and left.get("decoded_end") is not None
        and right.get("decoded_start") is not None
    ]


def lost_spans(
    rows: Sequence[Row], segments: Sequence[SegmentRow], recording_end: float
) -> list[tuple[float, float]]:
    """Spans that were not recognised, in seconds, merged and in order."""
    spans = [(end, start) for end, start in _seams(rows) if start - end > _MAX_GAP]
    spans += [(segment["start"], segment["end"]) for segment in segments if "failed" in segment["flags"]]
    for row in rows:
        if row["status"] == "error":
            decoded = {other["index"]: other for other in rows if other["status"] != "error"}
            before, after = decoded.get(row["index"] - 1, {}), decoded.get(row["index"] + 1, {})
            start = before.get("decoded_end") or row.get("start") or 0.0
            end = after.get("decoded_start") or row.get("end")
            spans.append((start, recording_end if end is None else end))
    merged: list[tuple[float, float]] = []
    for start, end in sorted((round(start, _TIME_DIGITS), round(end, _TIME_DIGITS)) for start, end in spans):
        if merged and start <= merged[-1][1] + _SEAM_TOLERANCE:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged
