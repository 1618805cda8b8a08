"""Lays corrections over transcripts. Pure: what the model said stays where it is stored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.records import Row
from pipelines.corrections.words import CERTAIN, carried_words
from pipelines.stitching import join_texts
from pipelines.stitching.segments import spoken_languages

TEXT_SOURCE = "corrected"
# Seconds by which the borders of a segment may differ from those that were corrected.
_TOLERANCE = 0.02
# Flags of a segment that say something about the sound; all others judge a text that is no longer there.
_KEPT_FLAGS = ("channel", "track")


@dataclass(frozen=True)
class Corrections:
    """The newest correction of each segment, by recording id, each a row of `pipelines.schema.CORRECTION`."""

    by_recording: Mapping[str, Sequence[Row]] = field(default_factory=dict)

    @property
    def recording_ids(self) -> frozenset[str]:
        """The recordings with corrections."""
        return frozenset(self.by_recording)

    def __bool__(self) -> bool:
        return bool(self.by_recording)

    def apply(self, row: Row) -> Row:
        """A TRANSCRIPT row with its corrections, as a new row; the row itself where it has none."""
        found = self.by_recording.get(row["recording_id"])
        return corrected_row(row, found) if found else row


def newest(rows: Iterable[Row]) -> Corrections:
    """The newest correction of each segment.

    Args:
        rows: CORRECTION rows in the order in which they were written.
    """
    kept: dict[str, dict[tuple[Any, ...], Row]] = defaultdict(dict)
    for row in sorted(rows, key=lambda row: row["created_at"]):
        place = (round(row["start"], 2), round(row["end"], 2), row["segment"])
        of_recording = kept[row["recording_id"]]
        of_recording.pop(place, None)  # the newest one is applied last
        of_recording[place] = row
    return Corrections({name: list(of_each.values()) for name, of_each in kept.items()})


def corrected_row(row: Row, corrections: Sequence[Row]) -> Row:
    """A TRANSCRIPT row with corrections.

    Segments that were corrected have a further field `corrected`: {by, at, source, original, before}. The
    row has the field `corrected`: {by: the names, at: the newest time, segments: how many}. Corrections of
    segments that the transcript does not have, as it was made anew since, change nothing.
    """
    segments = [dict(segment) for segment in row["segments"] or ()]
    used: list[Row] = []
    for correction in corrections:
        number = place_of(segments, correction)
        if number is not None:
            segments[number] = _corrected_segment(segments[number], correction, row)
            used.append(correction)
    if not used:
        return row
    languages = spoken_languages(segments)  # type: ignore[arg-type]
    flags = list(row["flags"] or ())
    if not any("unreliable" in (segment["flags"] or ()) for segment in segments):
        flags = [flag for flag in flags if flag != "unreliable"]
    text = join_texts(segments)
    status = row["status"]
    return {
        **row,
        "segments": segments,
        "text": text,
        "languages": languages,
        "language": languages[0]["language"] if languages else None,
        "flags": flags,
        "status": status if status == "partial" else "ok" if text else "no_speech",
        "text_source": TEXT_SOURCE,
        "corrected": {
            "by": list(dict.fromkeys(entry["who"] for entry in used if entry["who"])),
            "at": max(entry["created_at"] for entry in used),
            "segments": len(used),
        },
    }


def place_of(segments: Sequence[Mapping[str, Any]], correction: Row) -> int | None:
    """The number of the segment that a correction is about; None: the transcript has it no longer."""
    near = [number for number, segment in enumerate(segments) if _is_same_span(segment, correction)]
    if len(near) < 2:
        return near[0] if near else None
    # Channels may have segments with the same borders.
    if correction["segment"] in near:
        return int(correction["segment"])
    said = [number for number in near if segments[number]["text"] == correction["original"]]
    return said[0] if len(said) == 1 else None


def _is_same_span(segment: Mapping[str, Any], correction: Row) -> bool:
    return (
        abs(segment["start"] - correction["start"]) <= _TOLERANCE
        and abs(segment["end"] - correction["end"]) <= _TOLERANCE
    )


def _corrected_segment(segment: dict[str, Any], correction: Row, row: Row) -> dict[str, Any]:
    text = correction["after"] or ""
    language = correction["language"] or segment["language"]
    words = correction["words"]
    if words is None:
        words = carried_words(segment["words"] or (), text, language)
    speaker = speaker_id(row, correction["speaker"]) or segment.get("speaker")
    if correction["speaker"]:
        words = [{**word, "speaker": speaker} for word in words]
    is_timed = any(word["start"] is not None for word in words)
    flags = [flag for flag in segment["flags"] or () if flag.partition(":")[0] in _KEPT_FLAGS]
    return {
        **segment,
        "text": text,
        "language": language if text else None,
        "words": words,
        "word_source": "aligner" if is_timed else "none",
        "confidence": CERTAIN,
        "min_confidence": CERTAIN,
        "flags": flags,
        "speaker": speaker,
        "corrected": {
            "by": correction["who"],
            "at": correction["created_at"],
            "source": correction["source"],
            "original": correction["original"],
            "before": correction["before"],
        },
    }


def speaker_id(row: Row, label: str | None) -> str | None:
    """The `speaker` of the person whom people call `label`; a new name is its own."""
    for entry in row.get("speakers") or ():
        if label and label in (entry["name"], entry["speaker"]):
            return str(entry["speaker"])
    return label
