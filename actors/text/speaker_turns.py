"""Segments cut where the speaker changes. Pure; the one place that decides what a turn is.

Exports, subtitles and evaluation use `split_at_speakers`, so that they agree on turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from actors.records import SegmentRow, WordRow


def split_at_speakers(segment: SegmentRow) -> list[SegmentRow]:
    """Cut a segment between words of different speakers.

    A word without a speaker belongs to the turn before it. Words may lack times: they were in a given text
    but were not heard.

    Args:
        segment: its words may have `speaker`.

    Returns:
        Segments with one `speaker` each, whose texts together are all of the text but for white space at the
        cuts; `char_start` and `char_end` of the words index into the new texts. The segment itself where
        there is nothing to cut.
    """
    words = segment.get("words") or []
    runs = _runs(words)
    if len(runs) < 2:
        speaker = next((word.get("speaker") for word in words if word.get("speaker")), None)
        if speaker and not segment.get("speaker"):
            return [cast(SegmentRow, {**segment, "speaker": speaker})]
        return [segment]
    borders = [0, *(run[0]["char_start"] for run in runs[1:]), len(segment["text"])]
    parts: list[SegmentRow] = []
    for number, run in enumerate(runs):
        text_start, text_end = borders[number], borders[number + 1]
        text = segment["text"][text_start:text_end].rstrip()
        rebased = [
            cast(
                WordRow,
                {
                    **word,
                    "char_start": word["char_start"] - text_start,
                    "char_end": word["char_end"] - text_start,
                },
            )
            for word in run
        ]
        start = parts[-1]["end"] if parts else segment["start"]
        first = next((word["start"] for word in run if word["start"] is not None), None)
        last = next((word["end"] for word in reversed(run) if word["end"] is not None), None)
        start = segment["start"] if number == 0 else first if first is not None else start
        is_last = number == len(runs) - 1
        end = segment["end"] if is_last else last if last is not None else start
        parts.append(
            cast(
                SegmentRow,
                {
                    **segment,
                    "start": start,
                    "end": max(start, end),
                    "text": text,
                    "words": rebased,
                    "speaker": next((word.get("speaker") for word in run if word.get("speaker")), None),
                    "confidence": _mean_confidence(run, segment.get("confidence")),
                },
            )
        )
    return parts


def speaker_of(segment: SegmentRow) -> str | None:
    """The speaker of a segment; where speakers were not told apart, its channel or track, if it has one."""
    if segment.get("speaker"):
        return segment["speaker"]
    origin = [flag for flag in segment.get("flags") or () if flag.startswith(("channel:", "track:"))]
    return " ".join(origin) or None


def _runs(words: Sequence[WordRow]) -> list[list[WordRow]]:
    runs: list[list[WordRow]] = []
    current: str | None = None
    for word in words:
        speaker = word.get("speaker")
        if not runs or (speaker and current and speaker != current):
            runs.append([word])
        else:
            runs[-1].append(word)
        current = speaker or current
    return runs


def _mean_confidence(words: Sequence[WordRow], otherwise: float | None) -> float | None:
    known = [word["confidence"] for word in words if word.get("confidence") is not None]
    if len(known) < len(words) or not known:
        return otherwise
    return round(sum(cast(list[float], known)) / len(known), 6)
