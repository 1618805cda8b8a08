"""How far two runs agree about the same stretch of a recording."""

from __future__ import annotations

from typing import Any

from rapidfuzz.distance import Levenshtein

from pipelines.curation.candidates import Candidate
from pipelines.curation.limits import text_key
from pipelines.evaluation.outputs import read_transcripts
from pipelines.evaluation.references import DiskMap

# Seconds by which the other run's words may be outside.
_REACH = 0.15


def other_run(out: str) -> DiskMap:
    """The words of another run by recording id, on disk: [text, start, end], or one entry for a segment."""
    found = DiskMap()
    for row in read_transcripts(out):
        spans: list[list[Any]] = []
        for segment in row["segments"] or ():
            words = [word for word in segment["words"] or () if word["start"] is not None]
            if words:
                spans += [
                    [segment["text"][word["char_start"] : word["char_end"]], word["start"], word["end"]]
                    for word in words
                ]
            elif segment["text"]:
                spans.append([segment["text"], segment["start"], segment["end"]])
        found.add(row["recording_id"], {"text": row["text"], "spans": spans})
    return found


def agreement(candidate: Candidate, other: DiskMap, is_recording: bool) -> float:
    """The share of letters and digits that both texts have (Levenshtein); 0 without another text."""
    sample = candidate.sample
    body = other.get(sample.recording_id)
    if body is None:
        return 0.0
    text = body["text"] or ""
    if not is_recording:
        inside = [
            word
            for word, start, end in body["spans"]
            if sample.start - _REACH <= (start + end) / 2 <= sample.end + _REACH
        ]
        text = " ".join(inside)
    return round(Levenshtein.normalized_similarity(text_key(sample.text), text_key(text)), 4)
