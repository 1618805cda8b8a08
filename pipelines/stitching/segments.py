"""The segments of the shards of one recording, put together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from actors.records import Row, SegmentRow, WordRow, channel_flags
from actors.text.languages import is_spaced, name_of
from pipelines.schema import TRANSCRIPT_SEGMENT

_SEAM_TOLERANCE = 0.001  # seconds by which two segments may overlap
_TIME_DIGITS = 3  # decimals of seconds
_COLUMNS = [field.name for field in TRANSCRIPT_SEGMENT]


def join_texts(segments: Sequence[SegmentRow] | Sequence[Row]) -> str:
    """Join the texts of segments, with a space at a seam if the script has spaces.

    The reference never writes one: "end.Next".
    """
    spoken = [segment for segment in segments if segment["text"]]
    pieces: list[str] = [spoken[0]["text"]] if spoken else []
    for left, right in pairwise(spoken):
        language = name_of(left["language"]) if left["language"] == right["language"] else None
        pieces.append((" " if is_spaced(language, left["text"], right["text"]) else "") + right["text"])
    return "".join(pieces)


def filled_segments(row: Row) -> list[SegmentRow]:
    """A row's segments with every column filled in; texts are stripped, word positions shifted."""
    segments: list[SegmentRow] = []
    for segment in row.get("segments") or []:
        raw = segment.get("text") or ""
        text = raw.strip()
        words = _shift_words(segment.get("words") or [], len(raw) - len(raw.lstrip()), len(text))
        source = segment.get("word_source") or "none"
        filled: SegmentRow = {
            "text": text,
            "words": words,
            "word_source": source,
            "language": segment.get("language") or None,
        }
        segments.append(
            {
                **segment,
                **filled,
                "flags": list(segment.get("flags") or []),
            }
        )
    return segments


def _shift_words(words: Sequence[WordRow], by: int, length: int) -> list[WordRow]:
    """Words of a text that has lost its first `by` characters and is `length` characters long now."""
    return [
        {
            **word,
            "char_start": min(max(word["char_start"] - by, 0), length),
            "char_end": min(max(word["char_end"] - by, 0), length),
        }
        for word in words
    ]


def position(segment: SegmentRow) -> tuple[float, int, float]:
    channel = segment.get("channel")
    return segment["start"], -1 if channel is None else channel, segment["end"]


def remove_overlaps(segments: Sequence[SegmentRow]) -> tuple[list[SegmentRow], bool]:
    """Remove repeated words from the later of two segments of a channel that overlap in time.

    Returns:
        The segments, and whether any words were removed.
    """
    result: list[SegmentRow] = []
    last: dict[int | None, SegmentRow] = {}
    changed = False
    for segment in segments:
        before = last.get(segment.get("channel"))
        count = (
            _repeated_words(before, segment)
            if before and segment["start"] < before["end"] - _SEAM_TOLERANCE
            else 0
        )
        if count:
            changed = True
            words = segment["words"][count:]
            cut = words[0]["char_start"] if words else len(segment["text"])
            text = segment["text"][cut:]
            segment = {
                **segment,
                "text": text,
                "words": _shift_words(words, cut, len(text)),
                "word_source": "aligner" if words else "none",
            }
        result.append(segment)
        last[segment.get("channel")] = segment
    return result, changed


def _repeated_words(before: SegmentRow, after: SegmentRow) -> int:
    """How many first words of a segment repeat the last words of the one before it, where both overlap."""
    earlier = [
        _normalized(word["text"])
        for word in before["words"]
        if word["end"] is not None and word["end"] > after["start"]
    ]
    later = [
        _normalized(word["text"])
        for word in after["words"]
        if word["start"] is not None and word["start"] < before["end"]
    ]
    longest = min(len(earlier), len(later))
    return next((count for count in range(longest, 0, -1) if earlier[-count:] == later[:count]), 0)


def _normalized(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())


def spoken_languages(segments: Sequence[SegmentRow]) -> list[Row]:
    """Languages with the seconds of their words, the longest first.

    A segment counts by the time of its words and not by its length, because pauses are no language. Where its
    words have no times, a part of its length counts: that which words take in the segments with times.
    """
    spoken = [segment for segment in segments if segment["text"] and segment["language"]]
    of_words = [_word_seconds(segment) for segment in spoken]
    lengths = [segment["end"] - segment["start"] for segment in spoken]
    aligned = sum(length for length, seconds in zip(lengths, of_words, strict=True) if seconds)
    share = min(1.0, sum(of_words) / aligned) if aligned else 1.0
    total: dict[str, float] = {}
    for segment, length, seconds in zip(spoken, lengths, of_words, strict=True):
        language = str(segment["language"])
        total[language] = total.get(language, 0.0) + (seconds or length * share)
    ordered = sorted(total.items(), key=lambda item: (-round(item[1], _TIME_DIGITS), item[0]))
    return [
        {"language": language, "duration": round(duration, _TIME_DIGITS)} for language, duration in ordered
    ]


def _word_seconds(segment: SegmentRow) -> float:
    """The time that the words of a segment take; 0 where they have no times."""
    times = [(word["start"], word["end"]) for word in segment["words"]]
    return sum(max(0.0, end - start) for start, end in times if start is not None and end is not None)


def transcript_segment(segment: SegmentRow) -> Row:
    """The columns of a segment in a transcript; separate tracks and channels become flags."""
    origin = channel_flags(segment.get("channel"))
    return {column: segment.get(column) for column in _COLUMNS} | {"flags": segment["flags"] + origin}
