"""Shards become recordings: the rows of one recording in, its transcript or its dead letter out. Pure, text only, deterministic.

A recording is a dead letter when it has neither text nor proven silence, or when a part of it was lost to something that passes: `retry`
does it again then, whole. Otherwise it is a transcript, `partial` where something of it is missing, with a flag `lost:START-END` (seconds) for
each stretch that nobody has listened to, and `error:CODE` for what that was lost to.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from actors.records import Row, SegmentRow, WordRow
from actors.text.languages import is_spaced, name_of

_SEAM_TOLERANCE = 0.001  # seconds between one shard's end and the next one's start
_LOST = 0.1  # seconds: a longer gap at a seam counts as lost
_HEADER_TOLERANCE = 1.0  # seconds between the header's duration and the decoded one
_PASSING = (
    "storage_unavailable",
    "server_unavailable",
    "audio_changed",
)  # error codes that are no property of the audio as it is now
_DIGITS = 3  # of seconds: milliseconds


def stitch(shards: Sequence[Row], *, config_hash: str, version: str) -> Row:
    """Turn all shards of one recording into a TRANSCRIPT row, or into a DEAD_LETTER row (it has `error_code`).

    Args:
        shards: SHARD rows of one recording in any order; of several attempts at a shard the latest counts.
        config_hash: of the settings of this run.
        version: of this program.
    """
    rows = _latest(shards)
    segments, overlapped = _without_overlaps(
        sorted((s for row in rows for s in _segments(row)), key=_position)
    )
    text = join_texts(segments)
    errors = [row for row in rows if row["status"] == "error"]
    passing = [
        row for row in rows if row["status"] in ("error", "partial") and row.get("error_code") in _PASSING
    ]
    if passing or (errors and not text):
        return _dead_letter(rows, (passing or errors)[0], config_hash, version)
    duration = _duration(rows)
    lost = _lost(rows, segments, duration)
    flags = [flag for row in rows for flag in row.get("flags") or []]
    flags += [flag for flag, found in _checks(rows, duration).items() if found]
    flags += ["overlap_removed"] if overlapped else []
    flags += [f"lost:{start:g}-{end:g}" for start, end in lost] + [
        f"error:{row['error_code']}" for row in errors
    ]
    languages = _languages(segments)
    incomplete = bool(lost) or any(row["status"] in ("partial", "error") for row in rows)
    return {
        "recording_id": rows[0]["recording_id"],
        "audio": rows[0]["audio"],
        "duration": duration,
        "language": languages[0]["language"] if languages else None,
        "languages": languages,
        "text": text,
        "segments": [_public(segment) for segment in segments if segment["text"] or segment["flags"]],
        "status": "partial" if incomplete else "ok" if text else "no_speech",
        "flags": list(dict.fromkeys(flags)),
        "metadata": rows[0]["metadata"],
        "provenance": _provenance(rows, config_hash, version),
    }


def join_texts(segments: Sequence[SegmentRow] | Sequence[Row]) -> str:
    """Join the texts of segments, with a space at a seam where the script writes one (the reference never writes one: "end.Next")."""
    spoken = [segment for segment in segments if segment["text"]]
    pieces: list[str] = [spoken[0]["text"]] if spoken else []
    for left, right in pairwise(spoken):
        language = name_of(left["language"]) if left["language"] == right["language"] else None
        pieces.append((" " if is_spaced(language, left["text"], right["text"]) else "") + right["text"])
    return "".join(pieces)


def _latest(shards: Sequence[Row]) -> list[Row]:
    """One row per shard, in order."""
    latest = {
        row["index"]: row
        for row in sorted(shards, key=lambda row: (row.get("attempt") or 0, str(row.get("created_at") or "")))
    }
    return [latest[index] for index in sorted(latest)]


def _segments(row: Row) -> list[SegmentRow]:
    """A row's segments with every column filled in and the text stripped, its words' positions with it."""
    segments: list[SegmentRow] = []
    for segment in row.get("segments") or []:
        raw = segment.get("text") or ""
        text = raw.strip()
        words = _shifted(segment.get("words") or [], len(raw) - len(raw.lstrip()), len(text))
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


def _shifted(words: Sequence[WordRow], by: int, length: int) -> list[WordRow]:
    """Words whose text lost its first `by` characters and is `length` long now."""
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


def _without_overlaps(segments: Sequence[SegmentRow]) -> tuple[list[SegmentRow], bool]:
    """Where two segments of a channel overlap in time, words said twice are taken out of the later one."""
    result: list[SegmentRow] = []
    last: dict[int | None, SegmentRow] = {}
    changed = False
    for segment in segments:
        before = last.get(segment.get("channel"))
        count = (
            _said_twice(before, segment)
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
                "words": _shifted(words, cut, len(text)),
                "word_source": "aligner" if words else "none",
            }
        result.append(segment)
        last[segment.get("channel")] = segment
    return result, changed


def _said_twice(before: SegmentRow, after: SegmentRow) -> int:
    """How many of a segment's first words are the last words of the one before it, within the time that both cover."""
    earlier = [_plain(word["text"]) for word in before["words"] if word["end"] > after["start"]]
    later = [_plain(word["text"]) for word in after["words"] if word["start"] < before["end"]]
    longest = min(len(earlier), len(later))
    return next((count for count in range(longest, 0, -1) if earlier[-count:] == later[:count]), 0)


def _plain(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())


def _duration(rows: Sequence[Row]) -> float:
    """True length: what was decoded; where the end was not decoded, what header and plan say."""
    known = [
        row["decoded_end"] for row in rows if row["status"] != "error" and row.get("decoded_end") is not None
    ]
    if rows[-1]["status"] == "error":
        known += [
            value
            for value in (rows[-1].get("duration"), rows[-1].get("end"), rows[-1].get("start"))
            if value is not None
        ]
    return round(max(known, default=rows[0].get("duration") or 0.0), 6)


def _checks(rows: Sequence[Row], duration: float) -> dict[str, bool]:
    """Flags about shards that do not fit together, or do not fit the header."""
    header = rows[0].get("duration")
    whole = rows[-1]["status"] != "error"
    return {
        "header_duration_wrong": whole and header is not None and abs(header - duration) > _HEADER_TOLERANCE,
        "seam_mismatch": any(abs(start - end) > _SEAM_TOLERANCE for end, start in _seams(rows)),
    }


def _seams(rows: Sequence[Row]) -> list[tuple[float, float]]:
    """Where one decoded shard ends and the next one begins."""
    return [
        (left["decoded_end"], right["decoded_start"])
        for left, right in pairwise(rows)
        if right["index"] == left["index"] + 1
        and "error" not in (left["status"], right["status"])
        and left.get("decoded_end") is not None
        and right.get("decoded_start") is not None
    ]


def _lost(rows: Sequence[Row], segments: Sequence[SegmentRow], duration: float) -> list[tuple[float, float]]:
    """Stretches that have not been recognised, in seconds, merged and in order."""
    spans = [(end, start) for end, start in _seams(rows) if start - end > _LOST]
    spans += [(segment["start"], segment["end"]) for segment in segments if "failed" in segment["flags"]]
    for row in rows:
        if row["status"] == "error":
            neighbours = {other["index"]: other for other in rows if other["status"] != "error"}
            before, after = neighbours.get(row["index"] - 1, {}), neighbours.get(row["index"] + 1, {})
            start = before.get("decoded_end") or row.get("start") or 0.0
            end = after.get("decoded_start") or row.get("end")
            spans.append((start, duration if end is None else end))
    merged: list[tuple[float, float]] = []
    for start, end in sorted((round(start, _DIGITS), round(end, _DIGITS)) for start, end in spans):
        if merged and start <= merged[-1][1] + _SEAM_TOLERANCE:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _languages(segments: Sequence[SegmentRow]) -> list[Row]:
    """Languages by the seconds of the segments in which they were spoken, most first."""
    seconds: dict[str, float] = {}
    for segment in segments:
        if segment["text"] and segment["language"]:
            seconds[segment["language"]] = (
                seconds.get(segment["language"], 0.0) + segment["end"] - segment["start"]
            )
    ordered = sorted(seconds.items(), key=lambda item: (-round(item[1], _DIGITS), item[0]))
    return [{"language": language, "duration": round(duration, _DIGITS)} for language, duration in ordered]


def _public(segment: SegmentRow) -> Row:
    """The columns of a transcript's segment; the channel, where channels were kept apart, becomes a flag."""
    channel = segment.get("channel")
    columns = ("start", "end", "language", "text", "confidence", "words", "word_source")
    return {
        **{column: value for column, value in segment.items() if column in columns},
        "flags": segment["flags"] + ([] if channel is None else [f"channel:{channel}"]),
    }


def _dead_letter(rows: Sequence[Row], failed: Row, config_hash: str, version: str) -> Row:
    return {
        "recording_id": failed["recording_id"],
        "audio": failed["audio"],
        "error_stage": failed.get("error_stage"),
        "error_code": failed.get("error_code") or "internal_error",
        "error_message": failed.get("error_message"),
        "attempts": max(row.get("attempt") or 1 for row in rows),
        "duration": failed.get("duration"),
        "metadata": failed.get("metadata"),
        "provenance": _provenance(rows, config_hash, version),
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
