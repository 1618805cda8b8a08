"""Stitches the shards of a recording into its transcript or dead letter. Pure, text only, deterministic.

A recording becomes a dead letter if it has neither text nor proven silence, or if a part of it was lost to a
transient error: `retry` then does all of it again. Otherwise it becomes a transcript. A transcript is
`partial` if a part of it is missing, with a flag `lost:START-END` (seconds) for each span that was not
recognised, and `error:CODE` for the cause.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from actors.records import Row, SegmentRow, WordRow, channel_flags
from actors.redaction import redacted_address
from actors.text.languages import is_spaced, name_of

_SEAM_TOLERANCE = 0.001  # seconds between the end of a shard and the start of the next one
_MAX_GAP = 0.1  # seconds; a longer gap at a seam counts as lost
_HEADER_TOLERANCE = 1.0  # seconds between the header's duration and the decoded one
# Error codes that say nothing about the audio as it is now.
_TRANSIENT_CODES = ("storage_unavailable", "server_unavailable", "audio_changed")
_TIME_DIGITS = 3  # decimals of seconds


def stitch(shards: Sequence[Row], *, config_hash: str, version: str) -> Row:
    """Turn all shards of one recording into a TRANSCRIPT row, or a DEAD_LETTER row, which has `error_code`.

    Args:
        shards: SHARD rows of one recording in any order; the latest attempt at each shard counts.
        config_hash: of the settings of this run.
        version: of this program.
    """
    rows = _latest_attempts(shards)
    segments, overlapped = _remove_overlaps(
        sorted((segment for row in rows for segment in _segments(row)), key=_position)
    )
    text = join_texts(segments)
    errors = [row for row in rows if row["status"] == "error"]
    transient = [
        row
        for row in rows
        if row["status"] in ("error", "partial") and row.get("error_code") in _TRANSIENT_CODES
    ]
    if transient or (errors and not text):
        return _dead_letter(rows, (transient or errors)[0], config_hash, version)
    end = _end(rows)
    lost = _lost_spans(rows, segments, end)
    flags = [flag for row in rows for flag in row.get("flags") or []]
    flags += [flag for flag, found in _consistency_flags(rows, end).items() if found]
    flags += ["overlap_removed"] if overlapped else []
    flags += ["unreliable"] if any("unreliable" in segment["flags"] for segment in segments) else []
    flags += [f"lost:{start:g}-{end:g}" for start, end in lost] + [
        f"error:{row['error_code']}" for row in errors
    ]
    languages = _languages(segments)
    incomplete = bool(lost) or any(row["status"] in ("partial", "error") for row in rows)
    return {
        "recording_id": rows[0]["recording_id"],
        "audio": redacted_address(rows[0]["audio"]),
        "duration": round(max(0.0, end - _window_start(rows)), 6),
        "language": languages[0]["language"] if languages else None,
        "languages": languages,
        "text": text,
        "segments": [
            _transcript_segment(segment)
            for segment in segments
            if segment["text"] or set(segment["flags"]) - {"speech_unlikely"}
        ],
        "silence": _silence(rows),
        "status": "partial" if incomplete else "ok" if text else "no_speech",
        "flags": list(dict.fromkeys(flags)),
        "metadata": rows[0]["metadata"],
        "provenance": _provenance(rows, config_hash, version),
        "window": rows[0].get("window"),
    }


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


def _latest_attempts(shards: Sequence[Row]) -> list[Row]:
    """The latest row of each shard, in order."""
    latest = {
        row["index"]: row
        for row in sorted(shards, key=lambda row: (row.get("attempt") or 0, str(row.get("created_at") or "")))
    }
    return [latest[index] for index in sorted(latest)]


def _segments(row: Row) -> list[SegmentRow]:
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
                "confidence": segment.get("confidence"),
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


def _position(segment: SegmentRow) -> tuple[float, int, float]:
    channel = segment.get("channel")
    return segment["start"], -1 if channel is None else channel, segment["end"]


def _remove_overlaps(segments: Sequence[SegmentRow]) -> tuple[list[SegmentRow], bool]:
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
    earlier = [_normalized(word["text"]) for word in before["words"] if word["end"] > after["start"]]
    later = [_normalized(word["text"]) for word in after["words"] if word["start"] < before["end"]]
    longest = min(len(earlier), len(later))
    return next((count for count in range(longest, 0, -1) if earlier[-count:] == later[:count]), 0)


def _normalized(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())


def _window_start(rows: Sequence[Row]) -> float:
    """The second of the file at which the recording starts: not 0 only if it is a window of the file."""
    return (rows[0].get("window") or {}).get("start") or 0.0


def _end(rows: Sequence[Row]) -> float:
    """The second of the file at which the decoded audio ends, or by header and plan if it was not decoded."""
    start, last = _window_start(rows), rows[-1]
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


def _silence(rows: Sequence[Row]) -> float | None:
    """The seconds that are in no segment; None where a decoded shard does not say so, as in version 0.1.0."""
    seconds = [row.get("silence") for row in rows if row["status"] != "error"]
    known = [value for value in seconds if value is not None]
    return round(sum(known), _TIME_DIGITS) if len(known) == len(seconds) else None


def _consistency_flags(rows: Sequence[Row], end: float) -> dict[str, bool]:
    """Flags for shards that do not fit together, or not to the header."""
    header, window = rows[0].get("duration"), rows[0].get("window") or {}
    return {
        # The length of a window with a known end is not a claim of the header.
        "header_duration_wrong": rows[-1]["status"] != "error"
        and header is not None
        and window.get("end") is None
        and abs(_window_start(rows) + header - end) > _HEADER_TOLERANCE,
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


def _lost_spans(
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


def _languages(segments: Sequence[SegmentRow]) -> list[Row]:
    """Languages with the seconds of their segments, the longest first."""
    seconds: dict[str, float] = {}
    for segment in segments:
        if segment["text"] and segment["language"]:
            seconds[segment["language"]] = (
                seconds.get(segment["language"], 0.0) + segment["end"] - segment["start"]
            )
    ordered = sorted(seconds.items(), key=lambda item: (-round(item[1], _TIME_DIGITS), item[0]))
    return [
        {"language": language, "duration": round(duration, _TIME_DIGITS)} for language, duration in ordered
    ]


def _transcript_segment(segment: SegmentRow) -> Row:
    """The columns of a segment in a transcript; separate tracks and channels become flags."""
    origin = channel_flags(segment.get("channel"))
    columns = ("start", "end", "language", "text", "confidence", "words", "word_source")
    return {
        **{column: value for column, value in segment.items() if column in columns},
        "flags": segment["flags"] + origin,
    }


def _dead_letter(rows: Sequence[Row], failed: Row, config_hash: str, version: str) -> Row:
    return {
        "recording_id": failed["recording_id"],
        "audio": redacted_address(failed["audio"]),
        "error_stage": failed.get("error_stage"),
        "error_code": failed.get("error_code") or "internal_error",
        "error_message": failed.get("error_message"),
        "attempts": max(row.get("attempt") or 1 for row in rows),
        "duration": failed.get("duration"),
        "metadata": failed.get("metadata"),
        "provenance": _provenance(rows, config_hash, version),
        "window": failed.get("window"),
    }


def _provenance(rows: Sequence[Row], config_hash: str, version: str) -> Row:
    first = rows[0]
    models = ("asr_model", "asr_revision", "aligner_model", "aligner_revision")
    newest = max(
        (row for row in rows if row.get("created_at") is not None),
        key=lambda row: row["created_at"],
        default=first,
    )
    return {
        "audio_etag": first.get("etag"),
        **{column: first.get(column) for column in ("audio_bytes", "codec", "sampling_rate", "channels")},
        **{column: next((row[column] for row in rows if row.get(column)), None) for column in models},
        "config_hash": config_hash,
        "version": version,
        "run_id": newest.get("run_id"),
        "created_at": newest.get("created_at"),
    }
