"""Searches the index: text, filters, pages of hits, and the values that filters can take."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.browsing import query
from pipelines.browsing.index import (
    CONFIDENCE_STEPS,
    CORRECTED_TOKEN,
    FIRST_TOKEN,
    confidence_token,
    facet_token,
)

PAGE_ROWS = 50
# Hits are counted up to here; a page says "more than".
COUNT_LIMIT = 1000
_MAX_VALUES = 500  # of a filter that are listed


@dataclass(frozen=True)
class Search:
    """What is looked for.

    Attributes:
        text: as people type it.
        languages: ISO codes of segments; one of them. As are the others: one of their values.
        speakers: names, or `speaker`.
        flags: of a segment or its recording, without what follows a colon.
        statuses: of the recording.
        below: only segments with a confidence below this, in steps of 0.05.
        corrected: only segments that people corrected.
        after: the number of the last hit of the page before.
    """

    text: str = ""
    languages: Sequence[str] = ()
    speakers: Sequence[str] = ()
    flags: Sequence[str] = ()
    statuses: Sequence[str] = ()
    below: float | None = None
    corrected: bool = False
    after: int = 0


def find(database: sqlite3.Connection, search: Search) -> dict[str, Any]:
    """One page of hits, in the order of recordings and time.

    Without a text, and without a filter on segments, a hit is a recording: its first segment.

    Returns:
        `hits`, `next` (None: there are no more), `count`, and whether it is `more` than that.
    """
    terms = query.parse(search.text)
    groups: list[list[str]] = []
    for kind, values in (
        ("language", search.languages),
        ("speaker", search.speakers),
        ("flag", search.flags),
        ("status", search.statuses),
    ):
        if values:
            groups.append([_token_of(database, kind, value) for value in values])
    if search.below is not None:
        steps = max(0, min(CONFIDENCE_STEPS, round(search.below * CONFIDENCE_STEPS)))
        groups.append([confidence_token(step) for step in range(steps)] or ["nothing"])
    if search.corrected:
        groups.append([CORRECTED_TOKEN])
    is_wanted = any(not term.excluded for term in terms)
    if search.text.strip() and not terms:
        return {"hits": [], "next": None, "count": 0, "more": False}
    if not is_wanted and not (
        search.speakers or search.flags or search.below is not None or search.corrected
    ):
        groups.append([FIRST_TOKEN])
    expression = query.match_expression(terms, groups)
    rows = database.execute(_HITS, (expression, search.after, PAGE_ROWS + 1)).fetchall()
    (count,) = database.execute(_COUNT, (expression, COUNT_LIMIT + 1)).fetchone()
    hits = [_hit(row, terms) for row in rows[:PAGE_ROWS]]
    return {
        "hits": hits,
        "next": rows[PAGE_ROWS - 1][0] if len(rows) > PAGE_ROWS else None,
        "count": min(count, COUNT_LIMIT),
        "more": count > COUNT_LIMIT,
    }


_HITS = """
SELECT segments.id, recordings.recording_id, recordings.duration, recordings.language, recordings.status,
    segments.number, segments.start, segments.end, segments.language, segments.speaker, segments.confidence,
    segments.flags, segments.corrected, segments.body
FROM (SELECT rowid AS hit FROM search WHERE search MATCH ? AND rowid > ? ORDER BY rowid LIMIT ?)
JOIN segments ON segments.id = hit JOIN recordings ON recordings.id = segments.recording
ORDER BY segments.id
"""
_COUNT = "SELECT count(*) FROM (SELECT 1 FROM search WHERE search MATCH ? LIMIT ?)"


def _hit(row: tuple[Any, ...], terms: Sequence[query.Term]) -> dict[str, Any]:
    _, recording_id, duration, dominant, status, number, start, end, language, speaker, confidence = row[:11]
    flags, corrected, body = row[11:]
    return {
        "recording_id": recording_id,
        "duration": duration,
        "recording_language": dominant,
        "status": status,
        "number": number,
        "start": start,
        "end": end,
        "language": language,
        "speaker": speaker,
        "confidence": confidence,
        "flags": flags.split() if flags else [],
        "corrected": bool(corrected),
        "text": body,
        "marks": query.marks(body, terms),
    }


def facet_values(database: sqlite3.Connection) -> dict[str, list[dict[str, Any]]]:
    """The values of each filter with their numbers of segments, the most frequent first."""
    found: dict[str, list[dict[str, Any]]] = {"language": [], "speaker": [], "flag": [], "status": []}
    for kind, values in found.items():
        rows = database.execute(
            "SELECT value, count FROM facets WHERE kind = ? AND count > 0 ORDER BY count DESC, value LIMIT ?",
            (kind, _MAX_VALUES),
        )
        values += [{"value": value, "count": count} for value, count in rows]
    return found


def totals(database: sqlite3.Connection) -> dict[str, Any]:
    """How much there is: recordings, seconds of audio, segments with text."""
    recordings, seconds, segments = database.execute(
        "SELECT count(*), total(duration), cast(total(last_segment - first_segment + 1) AS INTEGER) "
        "FROM recordings"
    ).fetchone()
    return {"recordings": recordings, "seconds": seconds, "segments": segments}


def _token_of(database: sqlite3.Connection, kind: str, value: str) -> str:
    row = database.execute("SELECT id FROM facets WHERE kind = ? AND value = ?", (kind, value)).fetchone()
    return facet_token(row[0]) if row else "nothing"
