"""Flags and status of a recording whose text was given, by what of the text is said."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from actors.records import Row, SegmentRow

# The flag of text that is not said, and of speech that the text lacks, each with a share.
UNLIKE, LACKING = "text_unlike_audio", "speech_without_text"
# A recording of which more than this share of the text is not said, or of the speech not written, is partial.
MAX_SHARE = 0.2
TEXT_GIVEN = "text_given"


def judged(row: Row) -> Row:
    """A row with its flags and status by the words, or the parts of the text, that its segments have.

    Args:
        row: RECOGNISED, or SHARD; one without given text is returned unchanged.
    """
    segments = row["segments"] or []
    if not any(TEXT_GIVEN in (segment.get("flags") or []) for segment in segments):
        return row
    flagged = [_with_flag(segment, UNLIKE, _share(*_unsaid(segment))) for segment in segments]
    counts = [_unsaid(segment) for segment in segments]
    share = _share(sum(count for count, _ in counts), sum(total for _, total in counts))
    row = {**row, "segments": flagged, "flags": _replaced(row.get("flags") or [], UNLIKE, share)}
    if row["status"] == "ok" and max(share, share_of(row["flags"], LACKING)) > MAX_SHARE:
        row["status"] = "partial"
    return row


def with_share(flags: Sequence[str], name: str, share: float) -> list[str]:
    """Flags with one more that has a share, such as text_unlike_audio:0.25; none for a share of zero."""
    # Rounded up, so that it is never 0.00.
    return [*flags, f"{name}:{math.ceil(round(share * 100, 6)) / 100:.2f}"] if share > 0 else [*flags]


def share_of(flags: Iterable[str], name: str) -> float:
    """The share that a flag has; 0 without it."""
    return next((float(flag.partition(":")[2]) for flag in flags if flag.startswith(f"{name}:")), 0.0)


def _unsaid(segment: SegmentRow) -> tuple[int, int]:
    """How many words of a segment's text are not said, and how many it has.

    Without words, in a language that the aligner does not know, they are counted by white space.
    """
    if words := segment.get("words"):
        return sum(word["start"] is None for word in words), len(words)
    unsaid = total = 0
    for part in segment.get("parts") or []:
        if part["kind"] != "other":
            count = len(segment["text"][part["start"] : part["end"]].split())
            total += count
            unsaid += count * (part["kind"] == "unsaid")
    return unsaid, total


def _share(count: int, total: int) -> float:
    return count / total if total else 0.0


def _replaced(flags: Sequence[str], name: str, share: float) -> list[str]:
    return with_share([flag for flag in flags if not flag.startswith(f"{name}:")], name, share)


def _with_flag(segment: SegmentRow, name: str, share: float) -> SegmentRow:
    return {**segment, "flags": _replaced(segment.get("flags") or [], name, share)}
