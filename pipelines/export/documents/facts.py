"""What the formats say about a recording besides its text. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from actors.records import Row, SegmentRow
from actors.text.speaker_turns import speaker_of, split_at_speakers
from pipelines.output.transcript_filters import recording_confidence


def speaker_names(row: Row) -> dict[str, str]:
    """The names of a transcript's speakers that have one, by `speaker`."""
    return {entry["speaker"]: entry["name"] for entry in row.get("speakers") or () if entry["name"]}


def stated_facts(row: Row) -> dict[str, str]:
    """Facts that formats with room for comments state: id, language, status, confidence, flags."""
    confidence = recording_confidence(row["segments"] or [])
    facts = {
        "recording": row["recording_id"],
        "language": row["language"] or "",
        "status": row["status"] or "",
        "confidence": "" if confidence is None else f"{confidence:.3f}",
        "flags": " ".join(row["flags"] or ()),
        "text_source": row.get("text_source") or "",
        **_correctors(row.get("corrected") or {}),
    }
    return {name: value for name, value in facts.items() if value}


def _correctors(corrected: dict[str, Any]) -> dict[str, str]:
    """Who corrected a transcript, and when last."""
    if not corrected:
        return {}
    when = corrected["at"].isoformat(timespec="seconds")
    return {"corrected_by": ", ".join(corrected["by"]), "corrected_at": when}


def spoken_turns(row: Row) -> Iterator[SegmentRow]:
    """The segments with text in the order of time, cut where the speaker changes."""
    segments = sorted(row["segments"] or (), key=lambda segment: (segment["start"], segment["end"]))
    for segment in segments:
        if (segment["text"] or "").strip():
            yield from split_at_speakers(segment)


def speaker_label(turn: SegmentRow, names: dict[str, str], otherwise: str = "") -> str:
    """The name of a turn's speaker, or its `speaker`, or its channel; else `otherwise`."""
    speaker = speaker_of(turn)
    return names.get(speaker, speaker) if speaker else otherwise


def timed_words(turn: SegmentRow) -> list[Any]:
    """The words of a turn that have times."""
    return [word for word in turn.get("words") or () if word["start"] is not None and word["end"] is not None]


def written_word(turn: SegmentRow, word: Any) -> str:
    """A word as the text has it, with its punctuation."""
    return " ".join(turn["text"][word["char_start"] : word["char_end"]].split()) or word["text"]


def metadata_of(row: Row) -> dict[str, Any]:
    """The manifest's other columns."""
    value = json.loads(row["metadata"]) if row.get("metadata") else {}
    return value if isinstance(value, dict) else {"metadata": value}
