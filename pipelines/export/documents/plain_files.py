"""Transcripts as plain text, JSON in WhisperX's shape, and CSV. Pure."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from actors.records import Row
from pipelines.export.documents.facts import metadata_of, speaker_label, speaker_names, spoken_turns

CSV_HEADER = [
    *("recording_id", "start", "end", "speaker", "language", "text", "confidence", "flags", "words"),
    *("status", "text_source", "audio"),
]


def txt(row: Row) -> str:
    """The text, one paragraph for each turn; speakers are named where there is more than one."""
    turns = list(spoken_turns(row))
    names = speaker_names(row)
    speakers = {speaker_label(turn, names) for turn in turns}
    paragraphs: list[tuple[str, str]] = []
    for turn in turns:
        speaker = speaker_label(turn, names)
        text = " ".join(turn["text"].split())
        paragraphs.append((speaker, text))
    shown = [f"{speaker}: {text}" if len(speakers) > 1 and speaker else text for speaker, text in paragraphs]
    return "".join(f"{line}\n" for line in shown)


def whisperx_json(row: Row) -> str:
    """WhisperX's shape: `segments` with `words` of {word, start, end, score, speaker}, and `word_segments`.

    What else is known stands in further keys. As in WhisperX, a word without times has no `start` and `end`.
    """
    segments, all_words = [], []
    for turn in spoken_turns(row):
        words = [_whisperx_word(turn, word) for word in turn.get("words") or ()]
        segment: dict[str, Any] = {
            "start": turn["start"],
            "end": turn["end"],
            "text": turn["text"],
            "words": words,
            "language": turn["language"],
            "confidence": turn["confidence"],
            "flags": turn["flags"],
        }
        if turn.get("speaker"):
            segment["speaker"] = turn["speaker"]
        segments.append(segment)
        all_words += words
    body = {
        "segments": segments,
        "word_segments": all_words,
        "language": row["language"],
        "text": row["text"],
        "recording_id": row["recording_id"],
        "audio": row["audio"],
        "duration": row["duration"],
        "status": row["status"],
        "flags": row["flags"],
        "speakers": row.get("speakers"),
        "text_source": row.get("text_source"),
        "metadata": metadata_of(row),
    }
    return json.dumps(body, ensure_ascii=False, indent=1) + "\n"


def csv_rows(row: Row, header: bool) -> str:
    """One line for each turn; words are a JSON list in the last column but three."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    if header:
        writer.writerow(CSV_HEADER)
    names = speaker_names(row)
    for turn in spoken_turns(row):
        words = [
            [word["text"], word["start"], word["end"], word.get("confidence")]
            for word in turn.get("words") or ()
        ]
        writer.writerow(
            [
                row["recording_id"],
                _seconds(turn["start"]),
                _seconds(turn["end"]),
                speaker_label(turn, names),
                turn["language"] or "",
                turn["text"],
                "" if turn["confidence"] is None else f"{turn['confidence']:.6g}",
                " ".join(turn["flags"] or ()),
                json.dumps(words, ensure_ascii=False, separators=(",", ":")),
                row["status"],
                row.get("text_source") or "",
                row["audio"],
            ]
        )
    return buffer.getvalue()


def _seconds(value: float) -> str:
    return f"{value:.3f}"


def _whisperx_word(turn: Any, word: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"word": turn["text"][word["char_start"] : word["char_end"]] or word["text"]}
    if word["start"] is not None and word["end"] is not None:
        made |= {"start": word["start"], "end": word["end"]}
    if word.get("confidence") is not None:
        made["score"] = word["confidence"]
    if word.get("speaker"):
        made["speaker"] = word["speaker"]
    return made
